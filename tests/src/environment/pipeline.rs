//! Pipelines like the example `orders`, made to fit the local Aurora.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{CA_CONFIG_MAP, checkout};
use crate::cluster::Cluster;

/// The example `orders`, which trusts the local Aurora's certificate authority besides; nothing else is changed.
///
/// # Errors
/// The example cannot be read.
pub fn example() -> anyhow::Result<Value> {
    let path = checkout()?.join("crds/examples/orders.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut manifest: Value = serde_saphyr::from_str(&text).context("crds/examples/orders.yaml")?;
    let database = manifest.pointer_mut("/spec/database").context("the example has a database")?;
    let ca = json!({"tls": {"ca": {"configMapKeyRef": {"name": CA_CONFIG_MAP, "key": "ca.pem"}}}});
    merge(database, &ca);
    Ok(manifest)
}

/// Merges `changes` into `value` as `kubectl patch --type=merge` does.
pub fn merge(value: &mut Value, changes: &Value) {
    match (value, changes) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(fields.entry(name).or_insert(Value::Null), change);
            }
        }
        (value, changes) => *value = changes.clone(),
    }
}

/// Waits until a pipeline is Ready as `kubectl wait` does.
///
/// # Errors
/// It is not within the limit; the error holds its conditions.
pub async fn wait_until_ready(cluster: &Cluster, namespace: &str, name: &str, limit: Duration) -> anyhow::Result<()> {
    let (resource, timeout) = (format!("durablewritepipelines/{name}"), format!("--timeout={}s", limit.as_secs()));
    let wait = cluster.kubectl(["wait", "--for=condition=Ready", &resource, "--namespace", namespace, &timeout]).await;
    if let Err(error) = wait {
        let path = "-o=jsonpath={range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{\"\\n\"}{end}";
        let conditions = cluster.kubectl(["get", &resource, "--namespace", namespace, path]).await.unwrap_or_default();
        let pods = cluster.kubectl(["get", "pods", "--namespace", namespace]).await.unwrap_or_default();
        bail!("pipeline {name} is not Ready: {error:#}\n{conditions}{pods}");
    }
    Ok(())
}
