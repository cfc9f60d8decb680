//! The operator's pod: what it takes, what it writes, and its end.

use std::fs;

use anyhow::{Context, ensure};
use durable_write_testbed::environment::RELEASE;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::Api;

use crate::ground::{Ground, until};
use crate::pods::{delete_at_once, is_ready, process, running};

/// What it writes: nobody else has a reason to as long as nothing changes.
const WRITTEN: [&str; 6] =
    ["durablewritepipelines", "deployments", "configmaps", "serviceaccounts", "poddisruptionbudgets", "events.k8s.io"];

/// How often something was written so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writes {
    /// By the operator, as it says itself.
    pub told: u64,
    /// By anybody, of what the operator writes, as the API server counts requests: those without effect and refused ones too.
    pub requested: u64,
}

/// The writes since the start of operator and API server.
pub async fn writes(ground: &Ground) -> Writes {
    let pod = pod(ground).await;
    let metrics = format!("/api/v1/namespaces/{}/pods/{}:8080/proxy/metrics", RELEASE.namespace, pod.name_any());
    let told = sum(&ground.kubectl(&["get", "--raw", &metrics]).await, "durable_write_operator_kubernetes_writes_total", |_| true);
    let requested = sum(&ground.kubectl(&["get", "--raw", "/metrics"]).await, "apiserver_request_total", |labels| {
        let has = |label: &str, value: &str| labels.contains(&format!("{label}=\"{value}\""));
        let writing = !["GET", "LIST", "WATCH"].iter().any(|verb| has("verb", verb));
        // A kubelet asks for tokens of its pods' accounts.
        writing && !has("subresource", "token") && WRITTEN.iter().any(|written| has("resource", written) || has("group", written))
    });
    Writes { told, requested }
}

/// The sum of a metric over those of its labels that are wanted.
fn sum(metrics: &str, name: &str, wanted: impl Fn(&str) -> bool) -> u64 {
    let samples = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} "));
    samples.filter(|(labels, _)| wanted(labels)).map(|(_, value)| value.parse::<u64>().unwrap()).sum()
}

/// The memory that it has resident, in KiB.
pub async fn memory(ground: &Ground) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process(&pod(ground).await).unwrap())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Ends its pod without grace, and waits until another is ready.
pub async fn lose(ground: &Ground) {
    let lost = pod(ground).await;
    delete_at_once(&pods(ground).await, &lost).await;
    until("another operator", async || {
        let found = running(&pods(ground).await, SELECTOR).await;
        let other = found.first().context("there is none")?;
        ensure!(found.len() == 1 && other.uid() != lost.uid() && is_ready(other), "{:?}", other.status);
        Ok(())
    })
    .await;
}

const SELECTOR: &str = "app.kubernetes.io/name=durable-write-operator";

async fn pod(ground: &Ground) -> Pod {
    let mut found = running(&pods(ground).await, SELECTOR).await;
    assert_eq!(found.len(), 1, "operators");
    found.remove(0)
}

async fn pods(ground: &Ground) -> Api<Pod> {
    Api::namespaced(ground.cluster().client().await.unwrap(), RELEASE.namespace)
}
