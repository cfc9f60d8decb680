//! The local Kubernetes: what the tests on it rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::Path;

use durable_write_testbed::cluster::Cluster;

#[tokio::test]
async fn the_api_tier_serves_our_definitions_and_runs_controllers() {
    let cluster = Cluster::api().await.unwrap();
    let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/crds");
    cluster.kubectl(["apply", "--server-side", "-f", definitions.to_str().unwrap()]).await.unwrap();
    cluster.kubectl(["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await.unwrap();
    assert_eq!(cluster.kubectl(["get", "durablewritepipelines", "--output=name"]).await.unwrap(), "");

    cluster.kubectl(["create", "deployment", "web", "--image=localhost/none:1"]).await.unwrap();
    cluster.kubectl(["wait", "--for=create", "pod", "--selector=app=web", "--timeout=30s"]).await.unwrap();
    assert!(cluster.helm(["list", "--all-namespaces"]).await.unwrap().contains("NAMESPACE"));

    let refusal = cluster.kubectl(["get", "no-such-thing"]).await.unwrap_err().to_string();
    assert!(refusal.contains("the server doesn't have a resource type"), "{refusal}");
}
