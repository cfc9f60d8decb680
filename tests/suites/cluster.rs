//! The local Kubernetes: what the tests on it rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use durable_write_testbed::cluster::Cluster;
use durable_write_testbed::image;
use durable_write_testbed::scratch::Scratch;

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

/// One test, as the node's starts and ends are what costs: a pod from an image of ours, names, and the same again after a restart.
#[tokio::test]
async fn a_pod_runs_and_finds_names_also_after_a_restart_on_the_same_folder() {
    let folder = Scratch::new("full").unwrap();
    let archive = tools_image(folder.path());
    let cluster = Cluster::full(folder.path()).await.unwrap();
    cluster.load_image(&archive).await.unwrap();
    cluster.kubectl_with(["apply", "-f", "-"], POD).await.unwrap();
    pod_is_ready(&cluster).await;
    assert_eq!(in_pod(&cluster, &["id", "-u"]).await.trim(), "65532");
    assert!(in_pod(&cluster, &["getent", "hosts", "kubernetes.default"]).await.starts_with("198.18."));

    let name = "writer.cluster-orders.local";
    cluster.set_host_name(name, &[cluster.host_address()]).unwrap();
    resolves(&cluster, name, Some(&cluster.host_address().to_string())).await;
    cluster.set_host_name(name, &["198.18.99.1".parse().unwrap()]).unwrap();
    resolves(&cluster, name, Some("198.18.99.1")).await;
    cluster.set_host_name(name, &[]).unwrap();
    resolves(&cluster, name, None).await;

    drop(cluster);
    let cluster = Cluster::full(folder.path()).await.unwrap();
    let restarted = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1";
    cluster.kubectl(["wait", restarted, "pod/tools", "--timeout=60s"]).await.unwrap();
    pod_is_ready(&cluster).await;
    assert!(in_pod(&cluster, &["getent", "hosts", "kubernetes.default"]).await.starts_with("198.18."));
}

const POD: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: tools}
spec:
  terminationGracePeriodSeconds: 0
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: tools
    image: localhost/tools:1
    command: [/usr/bin/sleep, infinity]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, readOnlyRootFilesystem: true}
";

fn tools_image(folder: &Path) -> PathBuf {
    let archive = folder.join("tools.tar");
    let programs = ["/usr/bin/sleep", "/usr/bin/getent", "/usr/bin/id"].map(|place| (Path::new(place), place));
    image::build("localhost/tools:1", &programs, &archive).unwrap();
    archive
}

async fn pod_is_ready(cluster: &Cluster) {
    cluster.kubectl(["wait", "--for=condition=Ready", "pod/tools", "--timeout=60s"]).await.unwrap();
}

async fn in_pod(cluster: &Cluster, command: &[&str]) -> String {
    cluster.kubectl([&["exec", "tools", "--"], command].concat()).await.unwrap()
}

/// Waits until a pod resolves the name to the address, or to nothing.
async fn resolves(cluster: &Cluster, name: &str, address: Option<&str>) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = cluster.kubectl(["exec", "tools", "--", "getent", "hosts", name]).await;
        match (&answer, address) {
            (Ok(answer), Some(address)) if answer.starts_with(address) => return,
            // getent's status for a name that does not exist; a broken server gives another one.
            (Err(error), None) if error.to_string().contains("exit code 2") => return,
            _ => assert!(Instant::now() < end, "{name} should be {address:?}: {answer:?}"),
        }
    }
}
