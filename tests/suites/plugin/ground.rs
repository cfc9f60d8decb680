//! One API server with the resource definitions for all tests; a namespace for each.

use std::path::Path;
use std::time::Duration;

use clap::Parser;
use durable_write_crds::FailoverDrill;
use durable_write_crds::drill::Verdict;
use durable_write_crds::evidence::{Evidence, canonical, digest};
use durable_write_testbed::cluster::Cluster;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use kubectl_dw::arguments::{Arguments, Command, Drill};
use kubectl_dw::drill::Screen;
use tokio::sync::OnceCell;

use crate::fixture;

/// What has not happened by then never happens.
const LIMIT: Duration = Duration::from_secs(60);

/// The API server, with the resource definitions.
pub(crate) async fn api() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER
        .get_or_init(async || {
            let cluster = Cluster::api().await.unwrap();
            let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/crds");
            cluster.kubectl(["apply", "-f", definitions.to_str().unwrap()]).await.unwrap();
            cluster.kubectl(["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]).await.unwrap();
            cluster
        })
        .await
}

/// A namespace of its own.
pub(crate) async fn namespace(name: &str) -> kubectl_dw::cluster::Cluster {
    // Of the runtime that this test has.
    let client = api().await.client().await.unwrap();
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.to_owned());
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    kubectl_dw::cluster::Cluster { client, namespace: name.to_owned() }
}

/// `drill run` with these arguments: its exit code and what it printed.
pub(crate) async fn run(cluster: &kubectl_dw::cluster::Cluster, arguments: &[&str]) -> (anyhow::Result<u8>, String) {
    let line = [&["kubectl-dw", "drill", "run"], arguments].concat();
    let Command::Drill(Drill::Run(arguments)) = Arguments::try_parse_from(line).unwrap().command else { panic!("another command") };
    let mut out = Vec::new();
    let code = kubectl_dw::drill::run::run(cluster, &arguments, Timestamp::now(), &mut Screen::new(&mut out, false)).await;
    (code, String::from_utf8(out).unwrap())
}

/// Waits until there is a drill.
pub(crate) async fn first_drill(cluster: &kubectl_dw::cluster::Cluster) -> FailoverDrill {
    let drills = cluster.api::<FailoverDrill>();
    let found = async {
        loop {
            if let Some(drill) = drills.list(&ListParams::default()).await.unwrap().items.pop() {
                return drill;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, found).await.expect("no drill was created")
}

/// Evidence as if the operator had concluded this drill.
pub(crate) fn evidence(drill: &FailoverDrill, verdict: Verdict) -> Evidence {
    let mut evidence = if verdict == Verdict::Pass { fixture::passed() } else { fixture::failed() };
    evidence.claim.drill.name = drill.name_any();
    evidence.claim.drill.namespace = drill.namespace().unwrap();
    evidence.claim.drill.uid = drill.uid().unwrap();
    evidence
}

/// Does what the operator does at the end: evidence, then status.
pub(crate) async fn conclude(cluster: &kubectl_dw::cluster::Cluster, drill: &FailoverDrill, verdict: Verdict) {
    let evidence = evidence(drill, verdict);
    cluster.api::<ConfigMap>().create(&PostParams::default(), &fixture::config_map(&evidence)).await.unwrap();
    let status = fixture::drill(&evidence).status.unwrap();
    assert_eq!(status.evidence.as_ref().unwrap().digest, digest(&canonical(&evidence).unwrap()));
    patch(cluster, &drill.name_any(), serde_json::json!({ "status": status })).await;
}

/// Changes a drill's status.
pub(crate) async fn patch(cluster: &kubectl_dw::cluster::Cluster, name: &str, status: serde_json::Value) {
    cluster.api::<FailoverDrill>().patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}
