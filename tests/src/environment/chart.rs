//! The chart, installed by Helm as a platform team does it.

use anyhow::Context;
use serde_json::{Value, json};

use super::namespace::{AWS_SECRET, apply, aws_secret};
use super::{Access, Image, checkout};
use crate::cluster::Cluster;
use crate::sqs::REGION;

/// The name of the release.
pub const RELEASE: &str = "durable-write";
/// The namespace of the release.
pub const RELEASE_NAMESPACE: &str = "durable-write-system";

/// Installs or upgrades the chart and waits until the operator is available; usually 5 s. `sqs` is the endpoint that workers are given: that
/// of `access`, or a fault proxy before it.
///
/// # Errors
/// Helm fails, or the operator does not become available.
pub async fn install(cluster: &Cluster, access: &Access, image: &Image, sqs: &str) -> anyhow::Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": RELEASE_NAMESPACE}});
    apply(cluster, &[namespace, aws_secret(RELEASE_NAMESPACE)]).await?;
    let chart = checkout()?.join("charts/durable-write");
    let chart = chart.to_str().context("the checkout's path is no text")?;
    let values = values(access, image, sqs).to_string();
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(file.path(), values)?;
    let values = file.path().to_str().context("the folder of temporary files is no text")?;
    let install = ["upgrade", "--install", RELEASE, chart, "--namespace", RELEASE_NAMESPACE, "--values", values];
    cluster.helm(install.into_iter().chain(["--wait", "--timeout=3m"])).await.context("install the chart")?;
    Ok(())
}

/// Uninstalls the chart. Definitions and pipelines stay.
///
/// # Errors
/// Helm fails.
pub async fn uninstall(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.helm(["uninstall", RELEASE, "--namespace", RELEASE_NAMESPACE, "--wait"]).await?;
    Ok(())
}

fn values(access: &Access, image: &Image, sqs: &str) -> Value {
    json!({
        "image": {"repository": image.repository, "tag": image.tag},
        "aws": {"region": REGION, "endpointUrl": {"sqs": sqs, "rds": access.rds}},
        "workers": {"env": credentials()},
        "env": credentials(),
    })
}

/// The local services look at no signature, but the SDK wants credentials. On EKS they come with the ServiceAccount.
fn credentials() -> Value {
    let variable = |name: &str| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": AWS_SECRET, "key": name}}});
    json!([variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")])
}
