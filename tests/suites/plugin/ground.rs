//! One API server with the resource definitions for all tests; a namespace for each.

use std::path::Path;
use std::time::Duration;

use clap::Parser;
use durable_write_crds::FailoverDrill;
use durable_write_crds::drill::Verdict;
use durable_write_crds::evidence::{Evidence, canonical, digest};
use durable_write_testbed::cluster::Cluster;
use hyper::header::{HeaderName, HeaderValue};
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
    let mut evidence = if verdict == Verdict::Pass { fixture::passed() } else { fixture::endings::failed() };
    evidence.claim.drill.name = drill.name_any();
    evidence.claim.drill.namespace = drill.namespace().unwrap();
    evidence.claim.drill.uid = drill.uid().unwrap();
    evidence
}

/// Does what the operator does at the end: evidence, then status.
pub(crate) async fn conclude(cluster: &kubectl_dw::cluster::Cluster, drill: &FailoverDrill, verdict: Verdict) {
    let evidence = evidence(drill, verdict);
    store(cluster, &evidence).await;
    seal(cluster, &evidence).await;
}

/// Stores evidence.
pub(crate) async fn store(cluster: &kubectl_dw::cluster::Cluster, evidence: &Evidence) {
    cluster.api::<ConfigMap>().create(&PostParams::default(), &fixture::config_map(evidence)).await.unwrap();
}

/// Writes the status that follows from evidence, with its digest.
pub(crate) async fn seal(cluster: &kubectl_dw::cluster::Cluster, evidence: &Evidence) {
    let status = fixture::drill(evidence).status.unwrap();
    assert_eq!(status.evidence.as_ref().unwrap().digest, digest(&canonical(evidence).unwrap()));
    patch(cluster, &evidence.claim.drill.name, serde_json::json!({ "status": status })).await;
}

/// The same namespace for a user who has the chart's role drill-runner there and no other.
pub(crate) async fn only_drill_runner(cluster: &kubectl_dw::cluster::Cluster) -> kubectl_dw::cluster::Cluster {
    let api = api().await;
    let names = ["--namespace", cluster.namespace.as_str()];
    let rights = ["--verb=get,list,watch,create,update,patch,delete", "--resource=failoverdrills.durablewrite.dev"];
    api.kubectl([&["create", "role", "drill-runner"], &names[..], &rights[..]].concat()).await.unwrap();
    let binding = ["create", "rolebinding", "drill-runner", "--role=drill-runner", "--user=runner"];
    api.kubectl([&binding[..], &names[..]].concat()).await.unwrap();
    let mut config = api.config().await.unwrap();
    config.headers.push((HeaderName::from_static("impersonate-user"), HeaderValue::from_static("runner")));
    kubectl_dw::cluster::Cluster { client: config.try_into().unwrap(), namespace: cluster.namespace.clone() }
}

/// Changes a drill's status.
pub(crate) async fn patch(cluster: &kubectl_dw::cluster::Cluster, name: &str, status: serde_json::Value) {
    cluster.api::<FailoverDrill>().patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}
