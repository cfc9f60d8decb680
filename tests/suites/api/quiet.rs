//! A cluster with the chart, in which no operator runs: for what the API server does by itself. Tests are users and the operator in turn.

use durable_write_crds::{FailoverDrill, FailoverDrillStatus};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::ground::{Ground, Home, eventually, operator_config};

/// The operator's user.
pub(crate) const OPERATOR: &str = "system:serviceaccount:durable-write:durable-write";
/// The chart's role of those who may create drills.
pub(crate) const DRILL_RUNNER: &str = "durable-write-drill-runner";

/// The cluster, in which the admission policies are in force.
pub(crate) async fn quiet() -> &'static Ground {
    static QUIET: OnceCell<Ground> = OnceCell::const_new();
    QUIET
        .get_or_init(async || {
            let ground = Ground::without_operator().await;
            policies_are_in_force(&ground).await;
            ground
        })
        .await
}

/// The API server learns of policies within about a second.
async fn policies_are_in_force(ground: &Ground) {
    let home = ground.namespace().await;
    let forged = drill("x", &json!({"requestedBy": "somebody"}));
    let mut from_git = drill("x", &json!({}));
    from_git["metadata"]["labels"] = json!({"app.kubernetes.io/instance": "x"});
    for object in [forged, from_git, evidence("x", &json!({}))] {
        eventually("the policies to be in force", async || match dry_run(ground, &home, &object, &[]).await {
            Err(_) => Ok(()),
            Ok(created) => Err(created),
        })
        .await;
    }
}

/// A drill with that in its spec.
pub(crate) fn drill(name: &str, spec: &Value) -> Value {
    let mut drill = json!({"apiVersion": "durablewrite.dev/v1alpha1", "kind": "FailoverDrill", "metadata": {"name": name}, "spec": spec});
    drill["spec"]["pipelineRef"] = json!({"name": "orders"});
    drill
}

/// A ConfigMap that is labelled as evidence.
pub(crate) fn evidence(name: &str, data: &Value) -> Value {
    let labels = json!({durable_write_crds::evidence::LABEL: "true"});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data})
}

/// Creates an object with those options of kubectl, such as `--as`.
pub(crate) async fn create(ground: &Ground, home: &Home, object: &Value, options: &[&str]) -> anyhow::Result<String> {
    let create = [&["--namespace", &home.name, "create", "--filename", "-"], options].concat();
    ground.cluster.kubectl_with(create, &object.to_string()).await
}

/// As [`create`], without a trace.
pub(crate) async fn dry_run(ground: &Ground, home: &Home, object: &Value, options: &[&str]) -> anyhow::Result<String> {
    create(ground, home, object, &[options, &["--dry-run=server"]].concat()).await
}

/// Gives a user the rights of a role in that namespace.
pub(crate) async fn bind(ground: &Ground, home: &Home, user: &str, role: &str) {
    let name = format!("{}-{role}", user.replace(':', "-"));
    let (role, user) = (format!("--clusterrole={role}"), format!("--user={user}"));
    ground.kubectl(home, &["create", "rolebinding", &name, &role, &user]).await.unwrap();
}

/// Writes the status of a drill as the operator, with no more rights than it has.
pub(crate) async fn say(ground: &Ground, home: &Home, drill: &str, status: &FailoverDrillStatus) {
    let client = Client::try_from(operator_config(&ground.cluster).await).unwrap();
    let patch = Patch::Merge(json!({"status": status}));
    Api::<FailoverDrill>::namespaced(client, &home.name).patch_status(drill, &PatchParams::default(), &patch).await.unwrap();
}
