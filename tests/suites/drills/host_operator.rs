//! The operator as a process of this machine in the place of its pod: it can be killed at any moment, and its successor runs at once, under
//! the same name, so that it need not wait for the lease of the dead one. Its requests to the API server pass a proxy that places faults, and
//! its wall clock can be set.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use durable_write_testbed::environment::RELEASE;
use durable_write_testbed::process::Process;
use durable_write_testbed::proxy::http::HttpFaultProxy;
use durable_write_testbed::proxy::kubernetes::PlainKubernetes;
use durable_write_testbed::sqs::REGION;
use durable_write_testbed::tools;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::ground::{Ground, until};

const OPERATOR: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/../debug/durable-write-operator");
/// Debian's, for whatever processor; see `man faketime`.
const FAKE_CLOCK: &str = "/usr/$LIB/faketime/libfaketime.so.1";

/// The operator's process, and what is needed to start it again.
pub struct HostOperator<'g> {
    ground: &'g Ground,
    /// Of its Leases.
    namespace: &'static str,
    folder: TempDir,
    environment: Vec<(String, String)>,
    process: Option<Process>,
    faults: HttpFaultProxy,
    _kubernetes: PlainKubernetes,
}

impl<'g> HostOperator<'g> {
    /// Takes the pod's place.
    pub async fn start(ground: &'g Ground) -> Self {
        let environment = environment(ground).await;
        scale_pod(ground, 0).await;
        Self::lead(ground, RELEASE.namespace, environment).await
    }

    /// One that leads beside those that are there, as that of another release does: its Leases are in a namespace that is there and is not
    /// theirs.
    pub async fn beside(ground: &'g Ground, namespace: &'static str) -> Self {
        let account = format!("--serviceaccount={}:{}", RELEASE.namespace, RELEASE.name);
        let role = ["create", "role", "operator", "--namespace", namespace, "--verb=*", "--resource=leases"];
        ground.kubectl(&role).await;
        ground.kubectl(&["create", "rolebinding", "operator", "--namespace", namespace, "--role=operator", &account]).await;
        let operator = Self::lead(ground, namespace, environment(ground).await).await;
        let leases = Api::<Lease>::namespaced(ground.cluster().client().await.unwrap(), namespace);
        until("the other operator to lead", async || {
            let held = leases.list(&ListParams::default()).await?.items;
            held.into_iter().find_map(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty()).context("nobody leads")
        })
        .await;
        operator
    }

    async fn lead(ground: &'g Ground, namespace: &'static str, environment: Vec<(String, String)>) -> Self {
        tokio::task::spawn_blocking(|| tools::apt(&["libfaketime"])).await.unwrap().unwrap();
        let kubernetes = PlainKubernetes::start(ground.cluster().client().await.unwrap()).await.unwrap();
        let faults = HttpFaultProxy::start(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))], kubernetes.address()).await.unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(kubeconfig(folder.path()), as_the_operator(&faults.endpoint()).to_string()).unwrap();
        let mut operator = Self { ground, namespace, folder, environment, process: None, faults, _kubernetes: kubernetes };
        operator.set_clock(0);
        operator.run();
        operator
    }

    fn run(&mut self) {
        let mut command = Command::new(OPERATOR);
        command.args(["--listen", "127.0.0.1:0"]).env("KUBECONFIG", kubeconfig(self.folder.path())).env("RUST_LOG", "info,kube=warn");
        command.envs(self.environment.iter().cloned());
        command.env("POD_NAMESPACE", self.namespace).env("POD_NAME", format!("operator-in-{}", self.namespace));
        let credentials = [("AWS_ACCESS_KEY_ID", "testbed"), ("AWS_SECRET_ACCESS_KEY", "testbed"), ("AWS_REGION", REGION)];
        command.envs(credentials).env("NO_PROXY", "*");
        command.env("LD_PRELOAD", FAKE_CLOCK).env("FAKETIME_TIMESTAMP_FILE", self.clock());
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let log = self.folder.path().join("operator.log");
        self.process = Some(Process::start_command("operator", command, &log).unwrap());
    }

    /// Kills it, as nobody can see coming, and starts its successor.
    pub fn kill(&mut self) {
        // Dropped, it is killed.
        drop(self.process.take());
        self.run();
    }

    /// Between it and the API server; an action is a method and a path.
    pub fn kubernetes(&self) -> &HttpFaultProxy {
        &self.faults
    }

    /// Sets its wall clock, so many seconds before or behind the true time.
    pub fn set_clock(&self, seconds: i64) {
        // Replaced at once: it is read all the time.
        let new = self.folder.path().join("clock.new");
        std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(new, self.clock()).unwrap();
    }

    fn clock(&self) -> PathBuf {
        self.folder.path().join("clock")
    }

    /// Gives the place back to the pod.
    pub async fn stop(mut self) {
        drop(self.process.take());
        scale_pod(self.ground, 1).await;
    }
}

/// A test that fails leaves the place to the pod too.
impl Drop for HostOperator<'_> {
    fn drop(&mut self) {
        if self.process.take().is_some() && std::thread::panicking() && self.namespace == RELEASE.namespace {
            let ground = self.ground;
            // What waits cannot run in the runtime that drops it.
            std::thread::scope(|scope| scope.spawn(|| Runtime::new().unwrap().block_on(scale_pod(ground, 1))).join().ok());
        }
    }
}

async fn scale_pod(ground: &Ground, replicas: i32) {
    let (namespace, replicas_flag) = (RELEASE.namespace, format!("--replicas={replicas}"));
    let deployment = format!("deployment/{}", RELEASE.name);
    ground.kubectl(&["--namespace", namespace, "scale", &deployment, &replicas_flag]).await;
    until("the operator's pods to be as many as wanted", async || {
        let path = "--output=jsonpath={.status.replicas} {.status.availableReplicas}";
        let counts = ground.cluster().kubectl(["--namespace", namespace, "get", &deployment, path]).await?;
        let wanted = if replicas == 0 { String::new() } else { format!("{replicas} {replicas}") };
        anyhow::ensure!(counts.trim() == wanted, "{counts}");
        Ok(())
    })
    .await;
}

/// What the chart gives the operator's container, but for what comes from Secrets and fields.
async fn environment(ground: &Ground) -> Vec<(String, String)> {
    let deployment = format!("deployment/{}", RELEASE.name);
    let text = ground.kubectl(&["--namespace", RELEASE.namespace, "get", &deployment, "--output=json"]).await;
    let deployment: Value = serde_json::from_str(&text).unwrap();
    let variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
    let plain = variables.iter().filter_map(|variable| Some((variable["name"].as_str()?, variable["value"].as_str()?)));
    plain.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn kubeconfig(folder: &Path) -> PathBuf {
    folder.join("kubeconfig")
}

/// A kubeconfig with which the API server takes its user for the operator's ServiceAccount, with no more rights than that has.
fn as_the_operator(server: &str) -> Value {
    let account = format!("system:serviceaccount:{}:{}", RELEASE.namespace, RELEASE.name);
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "operator"}}],
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": "operator", "user": {"as": account}}],
    })
}
