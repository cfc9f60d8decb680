//! The full tier: one node whose parts run in namespaces of their own. Killing process 1 of them ends everything.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::parts::ControlPlane;
use super::slot::{Claim, Slot, clean_free_slots};
use super::{client, pki, wait};
use crate::{image, process};

/// On idle cores a first start takes 8 seconds, later ones 5.
const LIMIT: Duration = Duration::from_secs(180);
/// How long a running cluster may take to show that it is well, on busy cores.
const PATIENCE: Duration = Duration::from_secs(15);
const PORT: u16 = 6443;

/// How long a cluster lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// As long as the value and the process that made it.
    Owned,
    /// Until it is taken down.
    Detached,
}

/// A running node.
#[derive(Debug)]
pub(super) struct Full {
    slot: Slot,
    lifetime: Lifetime,
    /// The lock of the folder, kept by an owner.
    _owner: Option<File>,
}

impl Full {
    /// Starts the cluster of a folder, or finds it running when it is detached. What an earlier start has left is used or cleaned up.
    pub(super) async fn start(kube: &Path, folder: &Path, lifetime: Lifetime) -> anyhow::Result<Self> {
        let lock = lock_folder(folder)?;
        if let Some(slot) = Slot::of(folder) {
            if lifetime == Lifetime::Detached && ready(slot, folder, None, PATIENCE).await.is_ok() {
                return Ok(Self { slot, lifetime, _owner: None });
            }
            slot.stop()?;
        }
        let pause = tokio::task::spawn_blocking(image::pause).await??;
        let claim = claim(folder)?;
        let slot = claim.slot;
        write_files(folder, slot)?;
        let began = Timestamp::now();
        spawn(kube, folder, claim, lifetime)?;
        let (_starting, owner) = match lifetime {
            Lifetime::Owned => (None, Some(lock)),
            Lifetime::Detached => (Some(lock), None),
        };
        let started = Self { slot, lifetime, _owner: owner };
        tokio::try_join!(ready(slot, folder, Some(began), LIMIT), started.load_pause(&pause))
            .with_context(|| format!("the logs are in {}", folder.join("log").display()))?;
        Ok(started)
    }

    /// The cluster of a folder when it runs.
    pub(super) fn find(folder: &Path) -> Option<Self> {
        Slot::of(folder).map(|slot| Self { slot, lifetime: Lifetime::Detached, _owner: None })
    }

    pub(super) fn slot(&self) -> Slot {
        self.slot
    }

    /// Hands an OCI archive to containerd.
    pub(super) async fn load(&self, archive: &Path) -> anyhow::Result<()> {
        let file = File::open(archive).with_context(|| format!("open the image {}", archive.display()))?;
        self.containerd(&["images", "import", "-"], file.into()).await?;
        Ok(())
    }

    async fn load_pause(&self, archive: &Path) -> anyhow::Result<()> {
        wait::until("containerd to answer", LIMIT, async || {
            let images = self.containerd(&["images", "list", "--quiet"], Stdio::null()).await?;
            if images.contains(image::PAUSE) { Ok(()) } else { self.load(archive).await }
        })
        .await
    }

    /// Runs containerd's client in the mount namespace of the cluster.
    async fn containerd(&self, arguments: &[&str], input: Stdio) -> anyhow::Result<String> {
        let mut command = tokio::process::Command::new("nsenter");
        command.args(["--mount", "--target", &self.slot.init()?.to_string()]);
        command.args(["ctr", "--address", "/run/containerd/containerd.sock", "--namespace", "k8s.io"]).args(arguments);
        let output = command.stdin(input).kill_on_drop(true).output().await.context("run nsenter")?;
        if !output.status.success() {
            bail!("ctr {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Owned
            && let Err(error) = self.slot.stop()
        {
            tracing::warn!(%error, "the cluster was not taken down");
        }
    }
}

/// Ends the cluster of a folder; its data stay for the next start.
pub(super) fn stop(folder: &Path) -> anyhow::Result<()> {
    let _lock = lock_folder(folder)?;
    if let Some(slot) = Slot::of(folder) {
        slot.stop()?;
    }
    clean_free_slots()
}

/// Waits for other processes that start, stop or own the cluster of the folder.
fn lock_folder(folder: &Path) -> anyhow::Result<File> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let lock = File::create(folder.join("cluster.lock"))?;
    if lock.try_lock().is_err() {
        eprintln!("· waiting for another process that uses the cluster in {} …", folder.display());
        lock.lock()?;
    }
    Ok(lock)
}

/// Claims the slot that the data in the folder belong to. When another cluster has it, the data are dropped: all addresses change.
fn claim(folder: &Path) -> anyhow::Result<Claim> {
    let record = folder.join("slot");
    let earlier = fs::read_to_string(&record).ok().and_then(|number| Slot::parse(&number));
    let claim = Claim::new(folder, earlier)?;
    if earlier != Some(claim.slot) {
        if earlier.is_some() {
            eprintln!("· another cluster has taken the addresses of {}: it starts empty", folder.display());
        }
        for part in ["pki", "etcd", "containerd"] {
            match fs::remove_dir_all(folder.join(part)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(|| format!("remove old {part}")),
                _ => {}
            }
        }
        fs::write(record, claim.slot.number().to_string())?;
    }
    Ok(claim)
}

fn write_files(folder: &Path, slot: Slot) -> anyhow::Result<()> {
    let node = IpAddr::from(slot.node());
    pki::make(&folder.join("pki"), &format!("https://{node}:{PORT}"), &[node, slot.first_service().into(), slot.host().into()])?;
    let config = folder.join("config");
    fs::create_dir_all(config.join("cni"))?;
    let (name, node, pods) = (slot.name(), node.to_string(), slot.pods());
    let fill = |template: &str| template.replace("NAME", &name).replace("NODE", &node).replace("PODS", &pods);
    for (file, template) in [
        ("init.sh", include_str!("files/init.sh")),
        ("containerd.toml", include_str!("files/containerd.toml")),
        ("kubelet.yaml", &fill(include_str!("files/kubelet.yaml"))),
        ("cni/pods.conflist", &fill(include_str!("files/network.json"))),
        ("Corefile", &fill(include_str!("files/Corefile"))),
        ("resolv.conf", ""),
        ("parts.sh", &parts(slot)),
    ] {
        fs::write(config.join(file), template).with_context(|| format!("write {file}"))?;
    }
    let hosts = folder.join("hosts");
    if !hosts.exists() {
        fs::write(hosts, "")?;
    }
    Ok(())
}

/// The parts in the order of their start, as the last lines of `init.sh`.
fn parts(slot: Slot) -> String {
    let node = slot.node();
    let plane = ControlPlane {
        pki: PathBuf::from("/mnt/pki"),
        data: PathBuf::from("/mnt/etcd"),
        socket: PathBuf::from("/run/etcd.sock"),
        bind: node.into(),
        address: node.into(),
        port: PORT,
        services: slot.services(),
    };
    let line = |arguments: &[String]| {
        let name = arguments.first().map_or("", String::as_str);
        format!("part {name} /mnt/kube {}\n", arguments.join(" "))
    };
    let other = |arguments: &[&str]| line(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>());
    let node_name = format!("--hostname-override={}", pki::NODE);
    [
        line(&plane.etcd()),
        line(&plane.api_server()),
        // What starts before it would wait in ever longer steps.
        format!("listening {node} {PORT}\n"),
        line(&plane.controller_manager()),
        other(&[
            "kubelet",
            "--config=/mnt/config/kubelet.yaml",
            "--kubeconfig=/mnt/pki/kubelet.kubeconfig",
            "--root-dir=/mnt/kubelet",
            &format!("--node-ip={node}"),
            &node_name,
        ]),
        other(&["kube-scheduler", "--kubeconfig=/mnt/pki/admin.kubeconfig", "--leader-elect=false"]),
        other(&[
            "kube-proxy",
            "--kubeconfig=/mnt/pki/admin.kubeconfig",
            "--proxy-mode=iptables",
            &format!("--cluster-cidr={}", slot.pods()),
            // The setting cannot be raised in a sandbox.
            "--conntrack-max-per-core=0",
            &node_name,
        ]),
        other(&["coredns", "-conf", "/mnt/config/Corefile"]),
    ]
    .concat()
}

/// Starts process 1 in namespaces of its own, with the slot's lock as its standard input.
fn spawn(kube: &Path, folder: &Path, claim: Claim, lifetime: Lifetime) -> anyhow::Result<()> {
    let namespaces = "exec 9< /proc/self/ns/net; exec unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private \
                      bash \"$FOLDER/config/init.sh\"";
    let wrappers: &[&str] = match lifetime {
        Lifetime::Owned => &["setpriv", "--pdeathsig", "KILL", "setsid"],
        Lifetime::Detached => &["setsid"],
    };
    let slot = claim.slot;
    let log = File::create(folder.join("init.log"))?;
    let mut command = Command::new("env");
    command.args(wrappers).args(["bash", "-c", namespaces]);
    command.env("FOLDER", folder).env("KUBE", kube).env("NAME", slot.name());
    command.env("NODE", slot.node().to_string()).env("HOST", slot.host().to_string());
    command.env("PODS", slot.pods()).env("SERVICES", slot.services());
    command.stdin(claim.lock).stdout(log.try_clone()?).stderr(log);
    process::spawn(command).context("start the namespaces of the cluster")?;
    Ok(())
}

/// Waits until the API server, the controllers, the node and CoreDNS are ready; the node with a report from after `began`.
async fn ready(slot: Slot, folder: &Path, began: Option<Timestamp>, limit: Duration) -> anyhow::Result<()> {
    let client = client(&super::kubeconfig(folder)).await?;
    let running = async || {
        wait::until("the processes of the cluster", limit, async || {
            slot.init().map_err(|_| anyhow::anyhow!("they ended: {}", fs::read_to_string(folder.join("init.log")).unwrap_or_default()))?;
            wait::api_server(&client).await
        })
        .await
    };
    running().await.context("the API server is not ready")?;
    tokio::try_join!(
        wait::until("the controllers to make the service account `default`", limit, async || wait::service_account(&client).await),
        wait::until("the node to be ready", limit, async || node_ready(&client, began).await),
        wait::until("CoreDNS to answer", limit, async || coredns_ready(slot).await),
    )?;
    Ok(())
}

/// The stored state of a node from before a restart says nothing: it must have reported since.
async fn node_ready(client: &Client, since: Option<Timestamp>) -> anyhow::Result<()> {
    let node = Api::<Node>::all(client.clone()).get(pki::NODE).await?;
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    let condition = conditions.into_iter().find(|condition| condition.type_ == "Ready").context("the node has not reported yet")?;
    // Reports have whole seconds.
    let fresh = condition.last_heartbeat_time.is_some_and(|time| since.is_none_or(|since| time.0.as_second() >= since.as_second()));
    if !fresh || condition.status != "True" {
        bail!("the node: {}", condition.message.unwrap_or_default());
    }
    Ok(())
}

/// Its plugin `ready` answers 200 once the Services are known.
async fn coredns_ready(slot: Slot) -> anyhow::Result<()> {
    let mut connection = TcpStream::connect((slot.node(), 8181)).await?;
    connection.write_all(b"GET /ready HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    if answer.contains(" 200 ") { Ok(()) } else { bail!("CoreDNS is not ready: {}", answer.lines().next().unwrap_or_default()) }
}
