//! Who may create drills, and what the admission policies of the chart refuse.

use durable_write_crds::FailoverDrillStatus;
use durable_write_crds::drill::Verdict;
use serde_json::{Value, json};

use crate::quiet::{DRILL_RUNNER, bind, create, drill, dry_run, quiet, say};

#[tokio::test]
async fn who_asked_for_a_drill_cannot_be_forged() {
    let ground = quiet().await;
    let home = ground.namespace().await;
    bind(ground, &home, "alice", DRILL_RUNNER).await;
    let (forged, own) = (drill("forged", &json!({"requestedBy": "bob"})), drill("own", &json!({"requestedBy": "alice"})));
    let error = create(ground, &home, &forged, &["--as=alice"]).await.unwrap_err().to_string();
    assert!(error.contains(r#"spec.requestedBy: must be the user who creates the drill, "alice""#), "{error}");
    create(ground, &home, &own, &["--as=alice"]).await.unwrap();
    create(ground, &home, &drill("nobodys", &json!({})), &["--as=alice"]).await.unwrap();
    for patch in [r#"{"spec": {"requestedBy": "bob"}}"#, r#"{"spec": {"requestedBy": null}}"#] {
        for drill in ["own", "nobodys"] {
            let patched = ground.kubectl(&home, &["patch", "failoverdrill", drill, "--type=merge", "--as=alice", "--patch", patch]).await;
            assert!(patched.is_err() || patched.unwrap().contains("no change"), "{drill} took {patch}");
        }
    }
    // As a whole, too.
    for requested_by in [json!("bob"), json!(null)] {
        let replace = ["--namespace", &home.name, "replace", "--filename", "-", "--as=alice"];
        let error =
            ground.cluster.kubectl_with(replace, &drill("own", &json!({"requestedBy": requested_by})).to_string()).await.unwrap_err();
        assert!(error.to_string().contains("a drill cannot be changed but for abort"), "{error}");
    }
    let requested_by = ["get", "failoverdrill", "own", "nobodys", "--output=jsonpath={.items[*].spec.requestedBy}"];
    assert_eq!(ground.kubectl(&home, &requested_by).await.unwrap(), "alice");
}

#[tokio::test]
async fn a_drill_that_comes_from_git_or_from_a_backup_has_an_end() {
    let ground = quiet().await;
    let home = ground.namespace().await;
    for (field, key) in [
        ("annotations", "argocd.argoproj.io/tracking-id"),
        ("annotations", "argocd.argoproj.io/installation-id"),
        ("labels", "argocd.argoproj.io/instance"),
        ("labels", "app.kubernetes.io/instance"),
        ("labels", "kustomize.toolkit.fluxcd.io/name"),
        ("labels", "helm.toolkit.fluxcd.io/namespace"),
        ("labels", "velero.io/restore-name"),
    ] {
        let from_git = |spec: &Value| {
            let mut drill = drill("quarterly", spec);
            drill["metadata"][field] = json!({"team": "shop", key: "shop"});
            drill
        };
        let error = dry_run(ground, &home, &from_git(&json!({})), &[]).await.expect_err(key).to_string();
        assert!(error.contains("spec.notAfter: a drill that Argo CD, Flux or Velero applies must have it"), "{key}: {error}");
        dry_run(ground, &home, &from_git(&json!({"notAfter": "2026-11-24T06:00:00Z"})), &[]).await.expect(key);
    }
    let mut by_hand = drill("by-hand", &json!({}));
    by_hand["metadata"]["labels"] = json!({"team": "shop"});
    by_hand["metadata"]["annotations"] = json!({"example.com/why": "shop"});
    dry_run(ground, &home, &by_hand, &[]).await.unwrap();
}

#[tokio::test]
async fn only_drill_runners_create_drills_and_only_the_operator_writes_their_status() {
    let ground = quiet().await;
    let home = ground.namespace().await;
    for role in ["view", "edit", "admin"] {
        bind(ground, &home, role, role).await;
    }
    bind(ground, &home, "runner", DRILL_RUNNER).await;
    create(ground, &home, &drill("a", &json!({})), &["--as=runner"]).await.unwrap();
    for user in ["view", "edit", "admin"] {
        let (user, refused) = (format!("--as={user}"), "cannot create resource \"failoverdrills\"");
        let error = create(ground, &home, &drill("b", &json!({})), &[&user]).await.unwrap_err().to_string();
        assert!(error.contains(refused), "{error}");
        ground.kubectl(&home, &["get", "failoverdrill", "a", &user]).await.unwrap();
        for verb in [&["delete", "failoverdrill", "a"][..], &["patch", "failoverdrill", "a", "--patch={}", "--type=merge"]] {
            let error = ground.kubectl(&home, &[verb, &[&user]].concat()).await.unwrap_err().to_string();
            assert!(error.contains("Forbidden"), "{error}");
        }
    }
    // No role of users has the subresource, and the resource itself takes no status along.
    let status = r#"{"status": {"verdict": "Pass"}}"#;
    let patch = ["patch", "failoverdrill", "a", "--type=merge", "--patch", status];
    bind(ground, &home, "admin", DRILL_RUNNER).await;
    for user in ["runner", "admin"] {
        let user = format!("--as={user}");
        let error = ground.kubectl(&home, &[&patch[..], &["--subresource=status", &user]].concat()).await.unwrap_err().to_string();
        assert!(error.contains("resource \"failoverdrills/status\""), "{error}");
        ground.kubectl(&home, &[&patch[..], &[&user]].concat()).await.unwrap();
    }
    // Nor has the administrator of the cluster, who has every right: the digest of the evidence stands in the status.
    let error = ground.kubectl(&home, &[&patch[..], &["--subresource=status"]].concat()).await.unwrap_err().to_string();
    assert!(error.contains("written by the operator of durable-write only"), "{error}");
    let verdict = ["get", "failoverdrill", "a", "--output=jsonpath={.status.verdict}"];
    assert_eq!(ground.kubectl(&home, &verdict).await.unwrap(), "");
    say(ground, &home, "a", &FailoverDrillStatus { verdict: Some(Verdict::Pass), ..FailoverDrillStatus::default() }).await;
    assert_eq!(ground.kubectl(&home, &verdict).await.unwrap(), "Pass");
    ground.kubectl(&home, &["delete", "failoverdrill", "a", "--as=runner"]).await.unwrap();
}

#[tokio::test]
async fn who_may_create_drills_in_one_namespace_may_do_so_in_no_other_and_administrators_cannot_take_the_right() {
    let ground = quiet().await;
    let (home, other) = (ground.namespace().await, ground.namespace().await);
    bind(ground, &home, "runner", DRILL_RUNNER).await;
    bind(ground, &other, "admin", "admin").await;
    create(ground, &home, &drill("a", &json!({})), &["--as=runner"]).await.unwrap();
    create(ground, &other, &drill("a", &json!({})), &[]).await.unwrap();
    let error = create(ground, &other, &drill("b", &json!({})), &["--as=runner"]).await.unwrap_err().to_string();
    assert!(error.contains("cannot create resource \"failoverdrills\""), "{error}");
    let abort = r#"{"spec": {"abort": true}}"#;
    for verb in [
        &["get", "failoverdrill", "a"][..],
        &["patch", "failoverdrill", "a", "--type=merge", "--patch", abort],
        &["delete", "failoverdrill", "a"],
        &["delete", "failoverdrill", "--all"],
    ] {
        let error = ground.kubectl(&other, &[verb, &["--as=runner"]].concat()).await.unwrap_err().to_string();
        assert!(error.contains("Forbidden"), "{verb:?}: {error}");
    }
    // Nobody gives rights that they do not have.
    let role = format!("--clusterrole={DRILL_RUNNER}");
    let bind_oneself = ["create", "rolebinding", "mine", &role, "--user=admin", "--as=admin"];
    let error = ground.kubectl(&other, &bind_oneself).await.unwrap_err().to_string();
    assert!(error.contains("attempting to grant RBAC permissions not currently held"), "{error}");
    let own_role = ["create", "role", "mine", "--verb=create", "--resource=failoverdrills.durablewrite.dev", "--as=admin"];
    let error = ground.kubectl(&other, &own_role).await.unwrap_err().to_string();
    assert!(error.contains("attempting to grant RBAC permissions not currently held"), "{error}");
}
