//! A local Kubernetes from its real parts, in two tiers: `api` (etcd, API server, controllers: objects, no pods) and `full` (one node).

mod api;
mod command;
mod full;
mod hosts;
mod parts;
mod pki;
mod slot;
mod wait;

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use self::full::{Full, Lifetime};
use crate::scratch::Scratch;
use crate::tools;

pub use self::command::{Arguments, run};

/// A running cluster. Dropped, it is gone, unless it was started to stay ([`Cluster::up`]).
#[derive(Debug)]
pub struct Cluster {
    tier: Tier,
    folder: PathBuf,
    programs: Programs,
}

// Fields are dropped in order: the processes before their folder.
#[derive(Debug)]
enum Tier {
    Api { running: Box<api::Api>, _folder: Scratch },
    Full(Full),
    Others { kubeconfig: PathBuf, host: IpAddr },
}

/// Paths of what runs in it and what talks to it.
#[derive(Clone, Debug)]
struct Programs {
    kube: PathBuf,
    helm: PathBuf,
}

impl Programs {
    /// Builds them when they are missing.
    async fn find() -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(|| Ok(Self { kube: tools::kubernetes()?, helm: tools::helm()? })).await?
    }
}

impl Cluster {
    /// Starts a new cluster of the light tier, with etcd, API server and controller manager: objects and their controllers (Deployments make
    /// pods, which stay Pending), validation, admission, access rights, garbage collection. It takes seconds and needs no root.
    ///
    /// It dies with this process, however that ends: a `static` one can serve all tests of a binary.
    ///
    /// # Errors
    /// A program cannot be built, or the cluster does not become ready.
    pub async fn api() -> anyhow::Result<Self> {
        Self::api_prepared(async |_| Ok(())).await
    }

    /// As [`Cluster::api`]; `prepare` runs before the controllers do. The garbage of a custom resource is collected from the start only if its
    /// definition was there before: the controllers look for new ones each 30 s.
    ///
    /// # Errors
    /// As [`Cluster::api`], or `prepare` fails.
    pub async fn api_prepared(prepare: impl AsyncFnOnce(&Self) -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let programs = Programs::find().await?;
        let folder = Scratch::new("api")?;
        let path = folder.path().to_owned();
        let running = Box::new(api::Api::start(&programs.kube, &path).await?);
        let mut cluster = Self { folder: path.clone(), tier: Tier::Api { running, _folder: folder }, programs };
        prepare(&cluster).await?;
        if let Tier::Api { running, .. } = &mut cluster.tier {
            running.start_controllers(&cluster.programs.kube, &path).await?;
        }
        Ok(cluster)
    }

    /// Starts the cluster of a folder with its node, owned by this process: it is gone when the value is dropped or the process dies.
    ///
    /// The folder keeps objects and images for the next start, which is quicker then; for a fresh cluster take a [`Scratch`]. One process
    /// at a time uses a folder, others wait; clusters in different folders run side by side. Needs root.
    ///
    /// # Errors
    /// Not root, a program cannot be built, or the cluster does not become ready.
    pub async fn full(folder: &Path) -> anyhow::Result<Self> {
        Self::start(folder, Lifetime::Owned).await
    }

    /// As [`Cluster::full`], but the cluster stays until [`Cluster::down`]. When it runs already, it is only found.
    ///
    /// # Errors
    /// As [`Cluster::full`].
    pub async fn up(folder: &Path) -> anyhow::Result<Self> {
        Self::start(folder, Lifetime::Detached).await
    }

    /// The cluster with a node that runs in a folder.
    ///
    /// # Errors
    /// None runs.
    pub async fn find(folder: &Path) -> anyhow::Result<Self> {
        let folder = std::path::absolute(folder)?;
        let full = Full::find(&folder).context("the cluster is not running: start it with `testbed cluster up`")?;
        Ok(Self { tier: Tier::Full(full), programs: Programs::find().await?, folder })
    }

    /// A cluster that others run, by its kubeconfig; `host` is the address at which its pods reach this machine. `folder` is for what kubectl
    /// and helm keep.
    ///
    /// # Errors
    /// A program cannot be built.
    pub async fn of_others(kubeconfig: &Path, host: IpAddr, folder: &Path) -> anyhow::Result<Self> {
        let tier = Tier::Others { kubeconfig: std::path::absolute(kubeconfig)?, host };
        Ok(Self { tier, programs: Programs::find().await?, folder: std::path::absolute(folder)? })
    }

    /// Ends the cluster of a folder if one runs, and cleans up what killed clusters have left. The data stay for the next start.
    ///
    /// # Errors
    /// Something of it cannot be removed.
    pub fn down(folder: &Path) -> anyhow::Result<()> {
        full::stop(&std::path::absolute(folder)?)
    }

    async fn start(folder: &Path, lifetime: Lifetime) -> anyhow::Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("a cluster with a node needs namespaces and mounts: run this as root");
        }
        let folder = std::path::absolute(folder)?;
        tokio::task::spawn_blocking(tools::cluster_packages).await??;
        let programs = Programs::find().await?;
        let full = Full::start(&programs.kube, &folder, lifetime).await?;
        Ok(Self { tier: Tier::Full(full), programs, folder })
    }

    /// The kubeconfig of an administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        match &self.tier {
            Tier::Others { kubeconfig, .. } => kubeconfig.clone(),
            Tier::Api { .. } | Tier::Full(_) => kubeconfig(&self.folder),
        }
    }

    /// A client with all rights.
    ///
    /// # Errors
    /// The kubeconfig cannot be read.
    pub async fn client(&self) -> anyhow::Result<Client> {
        client(&self.kubeconfig()).await
    }

    /// What a client with all rights is made from.
    ///
    /// # Errors
    /// The kubeconfig cannot be read.
    pub async fn config(&self) -> anyhow::Result<Config> {
        config(&self.kubeconfig()).await
    }

    /// The address at which pods reach servers on this machine that listen on it, or on all addresses.
    #[must_use]
    pub fn host_address(&self) -> IpAddr {
        match &self.tier {
            Tier::Api { .. } => Ipv4Addr::LOCALHOST.into(),
            Tier::Full(full) => full.slot().host().into(),
            Tier::Others { host, .. } => *host,
        }
    }

    /// Gives servers a name that pods resolve, with a time to live of a second, as DNS does for the endpoints of a database. Replaces what
    /// the name meant before, within a second; without addresses it is unknown.
    ///
    /// # Errors
    /// The file of names cannot be written.
    pub fn set_host_name(&self, name: &str, addresses: &[IpAddr]) -> anyhow::Result<()> {
        hosts::set(&self.folder, name, addresses)
    }

    /// Gives the images of an OCI archive to the node. Pods use them with `imagePullPolicy: IfNotPresent` or `Never`.
    ///
    /// # Errors
    /// The cluster has no node, or the archive cannot be read.
    pub async fn load_image(&self, archive: &Path) -> anyhow::Result<()> {
        match &self.tier {
            Tier::Api { .. } => bail!("this cluster has no node: start one with Cluster::full"),
            Tier::Full(full) => full.load(archive).await,
            Tier::Others { .. } => bail!("push the image to a registry of this cluster"),
        }
    }

    /// Runs kubectl and returns its standard output.
    ///
    /// # Errors
    /// It does not succeed: the error holds its standard error.
    pub async fn kubectl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> anyhow::Result<String> {
        self.call(self.kubectl_command(arguments), "").await
    }

    /// Runs kubectl with text on its standard input, as in `kubectl apply -f -`, and returns its standard output.
    ///
    /// # Errors
    /// It does not succeed: the error holds its standard error.
    pub async fn kubectl_with<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, input: &str) -> anyhow::Result<String> {
        self.call(self.kubectl_command(arguments), input).await
    }

    /// Runs helm and returns its standard output.
    ///
    /// # Errors
    /// It does not succeed: the error holds its standard error.
    pub async fn helm<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> anyhow::Result<String> {
        self.call(self.helm_command(arguments), "").await
    }

    fn helm_command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.command(&self.programs.helm);
        command.args(arguments);
        command
    }

    fn kubectl_command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.command(&self.programs.kube);
        command.arg("kubectl").args(arguments);
        command
    }

    /// A client program that knows this cluster and nothing of the user's own.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", self.kubeconfig()).env("NO_PROXY", "*");
        for (variable, folder) in
            [("KUBECACHEDIR", "kubectl"), ("HELM_CACHE_HOME", "helm"), ("HELM_CONFIG_HOME", "helm"), ("HELM_DATA_HOME", "helm")]
        {
            command.env(variable, self.folder.join("clients").join(folder));
        }
        command
    }

    async fn call(&self, mut command: Command, input: &str) -> anyhow::Result<String> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        if let Some(mut pipe) = child.stdin.take() {
            // A program that does not read its input is no fault.
            pipe.write_all(input.as_bytes()).await.ok();
        }
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            bail!("{:?}: {}", command.as_std().get_args().collect::<Vec<_>>(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn kubeconfig(folder: &Path) -> PathBuf {
    folder.join("pki/admin.kubeconfig")
}

async fn config(kubeconfig: &Path) -> anyhow::Result<Config> {
    // The client finds no provider by itself when none is installed; a second installation does no harm.
    rustls::crypto::ring::default_provider().install_default().ok();
    let kubeconfig = Kubeconfig::read_from(kubeconfig).with_context(|| format!("read {}", kubeconfig.display()))?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    Ok(Client::try_from(config(kubeconfig).await?)?)
}
