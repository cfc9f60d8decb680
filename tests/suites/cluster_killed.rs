//! The local Kubernetes when it, or who started it, is killed: the next start works, and the end leaves nothing on the machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use durable_write_testbed::cluster::Cluster;
use durable_write_testbed::scratch::Scratch;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const TESTBED: &str = env!("CARGO_BIN_EXE_testbed");
/// Where [`owner`] starts a cluster; unset when it is not wanted.
const OWNED: &str = "DURABLE_WRITE_TEST_OWNED";

#[tokio::test]
async fn killed_while_it_starts_or_in_part_it_starts_again_and_its_end_leaves_nothing() {
    let folder = Scratch::new("killed").unwrap();
    let _down = Down(folder.path());
    // In order: the slot is claimed, the network is laid out, the API server starts, the controllers start.
    for milliseconds in [30, 150, 600, 2000] {
        let mut up = Command::new(TESTBED).args(["cluster", "up", "--folder"]).arg(folder.path()).stderr(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_millis(milliseconds));
        up.kill().unwrap();
        up.wait().unwrap();
    }
    let cluster = Cluster::up(folder.path()).await.unwrap();
    let traces = Traces::of(&cluster, folder.path());

    for part in ["kube-apiserver", "containerd", "init.sh"] {
        let killed = processes_of(folder.path()).into_iter().filter(|process| command_line(process).contains(part));
        let ids: Vec<i32> = killed.map(|process| process.file_name().unwrap().to_str().unwrap().parse().unwrap()).collect();
        assert!(!ids.is_empty(), "{part} runs");
        // With process 1 the others are gone already.
        ids.iter().for_each(|id| kill(Pid::from_raw(*id), Signal::SIGKILL).unwrap_or_default());
        let again = Cluster::up(folder.path()).await.unwrap();
        again.kubectl(["get", "--raw", "/readyz"]).await.unwrap();
    }

    Cluster::down(folder.path()).unwrap();
    traces.are_gone();
    Cluster::down(folder.path()).unwrap();
}

#[tokio::test]
async fn a_cluster_dies_with_the_process_that_owns_it_and_beside_another() {
    let folder = Scratch::new("owned").unwrap();
    let this = std::env::current_exe().unwrap();
    let mut owner =
        Command::new(this).args(["--exact", "owner", "--ignored"]).env(OWNED, folder.path()).stdout(Stdio::null()).spawn().unwrap();
    let other_folder = Scratch::new("other").unwrap();
    let other = Cluster::full(other_folder.path()).await.unwrap();
    let light = folder.path().join("light");
    eventually("the owner has started its clusters", || light.exists());
    let light = PathBuf::from(fs::read_to_string(light).unwrap());
    let owned = Cluster::find(folder.path()).await.unwrap();
    let traces = Traces::of(&owned, folder.path());
    assert_ne!(owned.host_address(), other.host_address());
    assert!(!processes_of(&light).is_empty());

    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the processes of both tiers have died", || processes_of(folder.path()).is_empty() && processes_of(&light).is_empty());
    other.kubectl(["get", "--raw", "/readyz"]).await.unwrap();
    // Control groups are all that the kernel leaves.
    Cluster::down(folder.path()).unwrap();
    traces.are_gone();
}

/// Takes down a cluster that would stay, also when a test fails.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        Cluster::down(self.0).unwrap();
    }
}

/// The process that the test above kills.
#[tokio::test]
#[ignore = "started by another test"]
async fn owner() {
    let folder = PathBuf::from(std::env::var_os(OWNED).expect("only for the test that sets the variable"));
    let _owned = Cluster::full(&folder).await.unwrap();
    let light = Cluster::api().await.unwrap();
    let path = light.kubeconfig().ancestors().nth(2).unwrap().display().to_string();
    fs::write(folder.join("light.partial"), path).unwrap();
    fs::rename(folder.join("light.partial"), folder.join("light")).unwrap();
    std::future::pending::<()>().await;
}

/// What a running cluster has on the machine, to be looked for after its end.
struct Traces {
    folder: PathBuf,
    /// The beginning of its addresses, with the last dot.
    network: String,
    /// The name of its interface and control groups.
    name: String,
}

impl Traces {
    fn of(cluster: &Cluster, folder: &Path) -> Self {
        let host = cluster.host_address().to_string();
        let network = host.strip_suffix('1').unwrap().to_owned();
        let name = format!("dw{}", network.split('.').nth(2).unwrap());
        let traces = Self { folder: folder.to_owned(), network, name };
        let found = traces.find();
        for trace in ["process", "interface", "address", "route", "control group"] {
            assert!(found.iter().any(|line| line.starts_with(trace)), "a running cluster should have a {trace}: {found:?}");
        }
        traces
    }

    fn are_gone(&self) {
        assert_eq!(self.find(), Vec::<String>::new());
    }

    fn find(&self) -> Vec<String> {
        let mut found: Vec<String> =
            processes_of(&self.folder).iter().map(|process| format!("process {}", command_line(process))).collect();
        let mut look = |what: &str, text: String, sign: &str| {
            found.extend(text.lines().filter(|line| line.contains(sign)).map(|line| format!("{what} {line}")));
        };
        look("interface", output("ip", &["-brief", "link"]), &format!("{}@", self.name));
        look("address", output("ip", &["-brief", "address"]), &self.network);
        look("route", output("ip", &["route"]), &self.network);
        look("mount", fs::read_to_string("/proc/self/mounts").unwrap(), self.folder.to_str().unwrap());
        look("mount", fs::read_to_string("/proc/self/mounts").unwrap(), "netns");
        look("network namespace", output("ip", &["netns"]), "cni");
        look("firewall rule", output("iptables-save", &[]), "KUBE");
        look("firewall rule", output("iptables-save", &[]), "CNI");
        look("control group", output("find", &["/sys/fs/cgroup", "-name", &self.name]), "");
        found
    }
}

/// Folders in /proc of the processes that use a folder: those that name it, and those in a mount namespace with one that does.
fn processes_of(folder: &Path) -> Vec<PathBuf> {
    let name = folder.to_str().unwrap();
    let all: Vec<PathBuf> =
        fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.join("stat").exists()).collect();
    let namespace = |process: &Path| fs::read_link(process.join("ns/mnt")).ok();
    let here = namespace(Path::new("/proc/self"));
    let named: Vec<&PathBuf> = all.iter().filter(|process| command_line(process).contains(name)).collect();
    let inside: Vec<_> = named.iter().filter_map(|process| namespace(process)).filter(|inside| Some(inside) != here.as_ref()).collect();
    all.iter()
        .filter(|process| named.contains(process) || namespace(process).is_some_and(|namespace| inside.contains(&namespace)))
        .filter(|process| !command_line(process).contains("--exact"))
        .cloned()
        .collect()
}

/// Empty when the process is gone or dead.
fn command_line(process: &Path) -> String {
    fs::read(process.join("cmdline")).map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " ")).unwrap_or_default()
}

fn output(program: &str, arguments: &[&str]) -> String {
    String::from_utf8(Command::new(program).args(arguments).output().unwrap().stdout).unwrap()
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "not in 60 s: {what}");
        sleep(Duration::from_millis(50));
    }
}
