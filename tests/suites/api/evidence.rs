//! Evidence of drills: nobody but the operator writes it, and few delete it.

use durable_write_crds::evidence::LABEL;
use hyper::header::{HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, Config};
use serde_json::json;

use crate::ground::{Ground, Home};
use crate::quiet::{OPERATOR, bind, create, evidence, quiet};

/// What the policy says, in part.
const REFUSED: &str = "which only the operator of durable-write creates and changes";

/// A namespace with evidence, and with a user `admin` who has the rights of its administrator.
async fn home_with_evidence() -> (&'static Ground, Home) {
    let ground = quiet().await;
    let home = ground.namespace().await;
    bind(ground, &home, "admin", "admin").await;
    let claim = evidence("drill-evidence", &json!({"claim.json": "{}"}));
    create(ground, &home, &claim, &["--as", OPERATOR]).await.unwrap();
    (ground, home)
}

/// What is sent to the API server as that user.
async fn user(ground: &Ground, name: &str) -> Config {
    let mut config = ground.cluster.config().await.unwrap();
    config.headers.push((HeaderName::from_static("impersonate-user"), HeaderValue::from_str(name).unwrap()));
    config
}

async fn data(ground: &Ground, home: &Home) -> String {
    ground.kubectl(home, &["get", "configmap", "drill-evidence", "--output=jsonpath={.data}{.metadata.labels}"]).await.unwrap()
}

#[tokio::test]
async fn an_administrator_of_the_namespace_cannot_touch_it() {
    let (ground, home) = home_with_evidence().await;
    let before = data(ground, &home).await;
    let mut forged = evidence("forged-evidence", &json!({"claim.json": "{}"}));
    for value in ["true", "false", ""] {
        forged["metadata"]["labels"] = json!({LABEL: value});
        let error = create(ground, &home, &forged, &["--as=admin"]).await.unwrap_err().to_string();
        assert!(error.contains(REFUSED) && error.contains("leave the label out"), "{error}");
    }
    for command in [
        &["patch", "configmap", "drill-evidence", r#"--patch={"data": {"claim.json": "{\"forged\": true}"}}"#][..],
        &["patch", "configmap", "drill-evidence", r#"--patch={"immutable": true}"#],
        &["annotate", "configmap", "drill-evidence", "a=b"],
        &["label", "configmap", "drill-evidence", "durablewrite.dev/evidence-"],
        &["label", "configmap", "drill-evidence", "durablewrite.dev/evidence=false", "--overwrite"],
        &["delete", "configmap", "drill-evidence"],
        &["delete", "configmap", "--selector=durablewrite.dev/evidence"],
    ] {
        for user in [&["--as=admin"][..], &[]] {
            // Without another name, the test is the administrator of the cluster.
            let error = ground.kubectl(&home, &[command, user].concat()).await.expect_err("accepted").to_string();
            assert!(error.contains(REFUSED), "{command:?}: {error}");
        }
    }
    // As a whole: with other data, without the label, and by an apply that takes all fields over.
    let (other, mut plain) = (evidence("drill-evidence", &json!({"claim.json": "forged"})), evidence("drill-evidence", &json!({})));
    plain["metadata"]["labels"] = json!({});
    for (command, object) in [("replace", &other), ("replace", &plain), ("apply", &other)] {
        let force = if command == "apply" { &["--server-side", "--force-conflicts"][..] } else { &[] };
        let command = [&["--namespace", &home.name, command, "--filename", "-", "--as=admin"], force].concat();
        let error = ground.cluster.kubectl_with(&command, &object.to_string()).await.expect_err("accepted").to_string();
        assert!(error.contains(REFUSED), "{command:?}: {error}");
    }
    for config in [ground.cluster.config().await.unwrap(), user(ground, "admin").await] {
        let all = Api::<ConfigMap>::namespaced(Client::try_from(config).unwrap(), &home.name);
        let error = all.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap_err().to_string();
        assert!(error.contains(REFUSED), "{error}");
    }
    assert_eq!(data(ground, &home).await, before);
}

#[tokio::test]
async fn what_is_no_evidence_is_left_alone_and_cannot_become_it() {
    let (ground, home) = home_with_evidence().await;
    let own = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}, "data": {"a": "b"}});
    create(ground, &home, &own, &["--as=admin"]).await.unwrap();
    ground.kubectl(&home, &["label", "configmap", "own", "team=shop", "--as=admin"]).await.unwrap();
    for label in ["durablewrite.dev/evidence=true", "durablewrite.dev/evidence=false"] {
        let error = ground.kubectl(&home, &["label", "configmap", "own", label, "--as=admin"]).await.unwrap_err().to_string();
        assert!(error.contains(REFUSED), "{error}");
    }
    let whole = evidence("own", &json!({"claim.json": "{}"})).to_string();
    let replace = ["--namespace", &home.name, "replace", "--filename", "-", "--as=admin"];
    let error = ground.cluster.kubectl_with(replace, &whole).await.unwrap_err().to_string();
    assert!(error.contains(REFUSED), "{error}");
    ground.kubectl(&home, &["delete", "configmap", "own", "--as=admin"]).await.unwrap();
}

#[tokio::test]
async fn the_operator_completes_it_once_and_then_not_even_the_operator_changes_it() {
    let (ground, home) = home_with_evidence().await;
    let patch =
        async |patch: &str| ground.kubectl(&home, &["patch", "configmap", "drill-evidence", "--as", OPERATOR, "--patch", patch]).await;
    patch(r#"{"data": {"evidence.json": "{}"}, "immutable": true}"#).await.unwrap();
    let error = patch(r#"{"data": {"evidence.json": "{\"forged\": true}"}}"#).await.unwrap_err().to_string();
    assert!(error.contains("field is immutable when `immutable` is set"), "{error}");
}

#[tokio::test]
async fn its_administrators_may_delete_it_and_restore_what_is_complete() {
    let (ground, home) = home_with_evidence().await;
    bind(ground, &home, "eve", "edit").await;
    let eve = ["--as=eve", "--as-group=durable-write-evidence-admins"];
    let error = ground.kubectl(&home, &[&["annotate", "configmap", "drill-evidence", "a=b"], &eve[..]].concat()).await.unwrap_err();
    assert!(error.to_string().contains(REFUSED), "{error}");
    let error = create(ground, &home, &evidence("forged-evidence", &json!({})), &eve).await.unwrap_err();
    assert!(error.to_string().contains(REFUSED), "{error}");
    let delete = ["delete", "configmap", "drill-evidence", "--as=eve"];
    let error = ground.kubectl(&home, &[&delete[..], &["--as-group=others"]].concat()).await.unwrap_err();
    assert!(error.to_string().contains("users of the group durable-write-evidence-admins"), "{error}");
    ground.kubectl(&home, &[&delete[..], &["--as-group=durable-write-evidence-admins"]].concat()).await.unwrap();
    let mut restored = evidence("drill-evidence", &json!({"claim.json": "{}", "evidence.json": "{}"}));
    create(ground, &home, &restored, &eve).await.expect_err("a claim that can still be changed");
    restored["immutable"] = json!(true);
    create(ground, &home, &restored, &["--as=eve"]).await.expect_err("no member of the group");
    create(ground, &home, &restored, &eve).await.unwrap();
}

#[tokio::test]
async fn a_namespace_with_evidence_can_be_deleted() {
    let (ground, home) = home_with_evidence().await;
    ground.cluster.kubectl(["delete", "namespace", &home.name, "--timeout=40s"]).await.unwrap();
}
