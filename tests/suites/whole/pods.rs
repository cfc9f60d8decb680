//! Pods, the processes in them, and their end.

use std::fs;

use anyhow::{Context, bail, ensure};
use durable_write_crds::layout::HTTP_PORT;
use durable_write_crds::wire::{Counters, WorkerState};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ground::until;
use crate::pipeline::Pipeline;

impl Pipeline<'_> {
    /// The workers that are not being ended, in the order of their names.
    pub async fn pods(&self) -> Vec<Pod> {
        running(&self.api(), &format!("durablewrite.dev/pipeline={},app.kubernetes.io/component=worker", self.name)).await
    }

    /// What each worker has counted since it started.
    pub async fn counters(&self) -> anyhow::Result<Vec<Counters>> {
        let mut all = Vec::new();
        for pod in self.pods().await {
            let path = format!("/api/v1/namespaces/{}/pods/{}:{HTTP_PORT}/proxy/state", self.namespace, pod.name_any());
            let state = self.ground.cluster().kubectl(["get", "--raw", &path]).await?;
            all.push(serde_json::from_str::<WorkerState>(&state)?.counters);
        }
        Ok(all)
    }

    /// Waits until no worker is left, those that drain included.
    pub async fn no_pod_is_left(&self) {
        let selector = format!("durablewrite.dev/pipeline={},app.kubernetes.io/component=worker", self.name);
        self.kubectl(&["wait", "pods", "--selector", &selector, "--for=delete", "--timeout=90s"]).await;
    }

    /// Ends one worker without any grace that Kubernetes can take away, and waits until another has taken its place.
    pub async fn lose_a_pod(&self) {
        let (number, lost) = (self.pods().await.len(), self.pods().await.remove(0));
        delete_at_once(&self.api(), &lost).await;
        until("another worker in the place of the lost one", async || {
            let pods = self.pods().await;
            ensure!(pods.iter().all(|pod| pod.uid() != lost.uid()), "it is still there");
            ensure!(pods.iter().filter(|pod| is_ready(pod)).count() == number, "not all are ready");
            Ok(())
        })
        .await;
    }

    /// Kills the process of one worker, which nobody can see coming, and waits until its container runs anew.
    pub async fn kill_a_process(&self) {
        let pod = self.pods().await.remove(0);
        let before = container(&pod).unwrap().restart_count;
        kill(process(&pod).unwrap(), Signal::SIGKILL).unwrap();
        until("the killed worker to run again", async || {
            let pod = self.api::<Pod>().get(&pod.name_any()).await?;
            let status = container(&pod)?;
            ensure!(status.restart_count > before && status.ready, "{status:?}");
            let ended = status.last_state.as_ref().and_then(|state| state.terminated.as_ref()).context("it has not ended")?;
            ensure!(ended.exit_code == 128 + Signal::SIGKILL as i32, "{ended:?}");
            Ok(())
        })
        .await;
    }
}

/// Pods that are not being ended.
pub async fn running(pods: &Api<Pod>, selector: &str) -> Vec<Pod> {
    let mut pods = pods.list(&ListParams::default().labels(selector)).await.unwrap().items;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    pods.sort_by_key(ResourceExt::name_any);
    pods
}

/// As `kubectl delete pod --grace-period=0 --force`.
pub async fn delete_at_once(pods: &Api<Pod>, pod: &Pod) {
    pods.delete(&pod.name_any(), &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await.unwrap();
}

pub fn is_ready(pod: &Pod) -> bool {
    container(pod).is_ok_and(|status| status.ready)
}

fn container(pod: &Pod) -> anyhow::Result<&ContainerStatus> {
    pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()?.first()).context("the pod has not started")
}

/// The process of a pod with one container, by its number on this machine: it is in the control group of the pod, which has its uid.
pub fn process(pod: &Pod) -> anyhow::Result<Pid> {
    let uid = pod.uid().context("a pod has a uid")?;
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
        // Beside the container, a pod has the process that holds its network.
        if read("cgroup").contains(&uid) && read("comm").starts_with("durable-write") {
            let number = folder.file_name().and_then(|name| name.to_str()).context("a folder of a process")?;
            return Ok(Pid::from_raw(number.parse()?));
        }
    }
    bail!("{} has no process", pod.name_any())
}
