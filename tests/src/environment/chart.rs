//! The chart, installed by Helm as a platform team does it.

use anyhow::Context;
use serde_json::{Value, json};

use super::namespace::{AWS_SECRET, apply, aws_secret};
use super::{Access, Image, checkout};
use crate::cluster::Cluster;
use crate::sqs::REGION;

/// A release of the chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// Its name.
    pub name: &'static str,
    /// Its namespace.
    pub namespace: &'static str,
    /// Whether it brings the definitions: false where those of another release are there.
    pub definitions: bool,
}

/// The usual release.
pub const RELEASE: Release = Release { name: "durable-write", namespace: "durable-write-system", definitions: true };

/// The name of the cluster, as it stands in tags of Aurora clusters.
pub(super) const CLUSTER: &str = "local";

/// Installs or upgrades a release and waits until the operator is available; usually 5 s. `sqs` is the endpoint that workers are given: that
/// of `access`, or a fault proxy before it.
///
/// # Errors
/// Helm fails, or the operator does not become available.
pub async fn install(cluster: &Cluster, release: &Release, access: &Access, image: &Image, sqs: &str) -> anyhow::Result<()> {
    let Release { name, namespace, definitions } = *release;
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    apply(cluster, &[object, aws_secret(namespace)]).await?;
    let chart = checkout()?.join("charts/durable-write");
    let chart = chart.to_str().context("the checkout's path is no text")?;
    let values = values(access, image, sqs, definitions).to_string();
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(file.path(), values)?;
    let values = file.path().to_str().context("the folder of temporary files is no text")?;
    let install = ["upgrade", "--install", name, chart, "--namespace", namespace, "--values", values];
    cluster.helm(install.into_iter().chain(["--wait", "--timeout=3m"])).await.context("install the chart")?;
    Ok(())
}

/// Uninstalls a release. Definitions and pipelines stay.
///
/// # Errors
/// Helm fails.
pub async fn uninstall(cluster: &Cluster, release: &Release) -> anyhow::Result<()> {
    cluster.helm(["uninstall", release.name, "--namespace", release.namespace, "--wait"]).await?;
    Ok(())
}

fn values(access: &Access, image: &Image, sqs: &str, definitions: bool) -> Value {
    json!({
        "crds": {"install": definitions},
        "image": {"repository": image.repository, "tag": image.tag},
        "aws": {"region": REGION, "endpointUrl": {"sqs": sqs, "rds": access.rds}},
        "workers": {"env": credentials()},
        "env": credentials(),
        "clusterName": CLUSTER,
        // A failover of the local Aurora takes seconds, and its next drill may follow at once.
        "drills": {"enabled": true, "minInterval": "0s"},
    })
}

/// The local services look at no signature, but the SDK wants credentials. On EKS they come with the ServiceAccount.
fn credentials() -> Value {
    let variable = |name: &str| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": AWS_SECRET, "key": name}}});
    json!([variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")])
}
