//! A namespace of an application team, with what its pipelines refer to.

use anyhow::Context;
use serde_json::{Value, json};

use super::{Access, WORKER};
use crate::cluster::Cluster;

/// The Secret with the credentials of the database.
pub const DATABASE_SECRET: &str = "orders-db";
/// The ConfigMap with the certificate authority of the database, under the key `ca.pem`.
pub const CA_CONFIG_MAP: &str = "aurora-ca";
/// The Secret with credentials for AWS, which the local services do not look at.
pub(super) const AWS_SECRET: &str = "aws-credentials";

/// Makes a namespace that enforces Pod Security `restricted`, with [`DATABASE_SECRET`], [`CA_CONFIG_MAP`] and credentials for AWS.
///
/// # Errors
/// The API server refuses.
pub async fn prepare_namespace(cluster: &Cluster, access: &Access, name: &str) -> anyhow::Result<()> {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let database = json!({"username": WORKER, "password": access.password});
    let database = secret(name, DATABASE_SECRET, "kubernetes.io/basic-auth", &database);
    let ca = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CA_CONFIG_MAP, "namespace": name}, "data": {"ca.pem": access.ca},
    });
    apply(cluster, &[namespace, database, ca, aws_secret(name)]).await
}

/// Credentials for AWS.
pub(super) fn aws_secret(namespace: &str) -> Value {
    let data = json!({"AWS_ACCESS_KEY_ID": "testbed", "AWS_SECRET_ACCESS_KEY": "testbed"});
    secret(namespace, AWS_SECRET, "Opaque", &data)
}

fn secret(namespace: &str, name: &str, kind: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": name, "namespace": namespace}, "stringData": data})
}

/// Applies objects in their order, over what is there.
pub(super) async fn apply(cluster: &Cluster, objects: &[Value]) -> anyhow::Result<()> {
    let text: String = objects.iter().map(|object| format!("{object}\n---\n")).collect();
    cluster.kubectl_with(["apply", "--server-side", "--force-conflicts", "-f", "-"], &text).await.context("prepare a namespace")?;
    Ok(())
}
