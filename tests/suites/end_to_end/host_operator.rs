//! The operator as a process of this machine in the place of its pod: it can be killed at any moment, and its successor runs at once, under
//! the same name, so that it need not wait for the lease of the dead one.

use std::path::{Path, PathBuf};
use std::process::Command;

use durable_write_testbed::environment::RELEASE;
use durable_write_testbed::process::Process;
use durable_write_testbed::sqs::REGION;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ground::{Ground, until};

const OPERATOR: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/../debug/durable-write-operator");

/// The operator's process, and what is needed to start it again.
pub struct HostOperator<'g> {
    ground: &'g Ground,
    folder: TempDir,
    kubeconfig: PathBuf,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

impl<'g> HostOperator<'g> {
    /// Takes the pod's place.
    pub async fn start(ground: &'g Ground) -> Self {
        let environment = environment(ground).await;
        scale_pod(ground, 0).await;
        let folder = TempDir::new().unwrap();
        let kubeconfig = as_the_operator(&ground.cluster().kubeconfig(), folder.path());
        let mut operator = Self { ground, folder, kubeconfig, environment, process: None };
        operator.run();
        operator
    }

    fn run(&mut self) {
        let mut command = Command::new(OPERATOR);
        command.args(["--listen", "127.0.0.1:0"]).env("KUBECONFIG", &self.kubeconfig).env("RUST_LOG", "info,kube=warn");
        command.envs(self.environment.iter().cloned());
        let credentials = [("AWS_ACCESS_KEY_ID", "testbed"), ("AWS_SECRET_ACCESS_KEY", "testbed"), ("AWS_REGION", REGION)];
        command.envs(credentials).env("NO_PROXY", "*");
        let log = self.folder.path().join("operator.log");
        self.process = Some(Process::start_command("operator", command, &log).unwrap());
    }

    /// Kills it, as nobody can see coming, and starts its successor.
    pub fn kill(&mut self) {
        // Dropped, it is killed.
        drop(self.process.take());
        self.run();
    }

    /// Gives the place back to the pod.
    pub async fn stop(mut self) {
        drop(self.process.take());
        scale_pod(self.ground, 1).await;
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
    let own = [("POD_NAMESPACE", RELEASE.namespace), ("POD_NAME", "operator-on-the-host")];
    plain.chain(own).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A kubeconfig with which the API server takes its user for the operator's ServiceAccount, with no more rights than that has.
fn as_the_operator(administrator: &Path, folder: &Path) -> PathBuf {
    let mut config: Value = serde_saphyr::from_str(&std::fs::read_to_string(administrator).unwrap()).unwrap();
    config["users"][0]["user"]["as"] = json!(format!("system:serviceaccount:{}:{}", RELEASE.namespace, RELEASE.name));
    let path = folder.join("kubeconfig");
    std::fs::write(&path, serde_saphyr::to_string(&config).unwrap()).unwrap();
    path
}
