//! The worker as a process of its own, with the files that its pod would have mounted.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use durable_write_crds::layout;
use durable_write_crds::wire::{Topology, WorkerState};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use nix::sys::signal::Signal;
use rand::RngExt;
use tokio::time::{Instant, sleep, timeout};

use crate::aurora::AwsIdentity;
use crate::pod_identity::PodIdentity;
use crate::process::{Process, last_lines};
use crate::scratch::Scratch;
use crate::sqs;

const BINARY: &str = "durable-write-worker";
/// Key and secret of an AWS identity.
const KEY: &str = "testbed";
/// A worker gives up what it holds after at most a minute.
const STOP_TIMEOUT: Duration = Duration::from_secs(75);
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
const ASK_EVERY: Duration = Duration::from_millis(25);

/// The folder that a worker's pod has mounted. What is written here a running worker sees, as it does when Kubernetes changes a mounted Secret.
#[derive(Debug)]
pub struct Mounts {
    folder: Scratch,
}

impl Mounts {
    /// An empty folder, gone when dropped.
    ///
    /// # Errors
    /// The folder for temporary files cannot be written.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { folder: Scratch::new("worker")? })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the manifest, as YAML or JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_manifest(&self, text: &str) -> anyhow::Result<()> {
        write(&self.path().join(layout::MANIFEST), text)
    }

    /// Writes where the database's servers are.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_topology(&self, topology: &Topology) -> anyhow::Result<()> {
        write(&self.path().join(layout::TOPOLOGY), &serde_json::to_string(topology)?)
    }

    /// Writes one key of a Secret.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_secret(&self, name: &str, key: &str, value: &str) -> anyhow::Result<()> {
        write(&layout::secret_key(self.path(), name, key), value)
    }

    /// Writes one key of a `ConfigMap`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_config_map(&self, name: &str, key: &str, value: &str) -> anyhow::Result<()> {
        write(&layout::config_map_key(self.path(), name, key), value)
    }
}

/// Writes a file whole or not at all, with the folders above it.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().context("a file in a folder")?;
    let temporary = path.with_extension("new");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&temporary, text))
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("write {}", path.display()))
}

/// A running worker; it is killed when this is dropped.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    address: SocketAddr,
    log: PathBuf,
}

impl Worker {
    /// Starts a worker with the manifest and topology of `mounts` and the queues at `sqs_endpoint`. Its log is a file in `mounts`.
    ///
    /// # Errors
    /// The binary is missing or older than its sources, or it cannot be started.
    pub fn start(mounts: &Mounts, sqs_endpoint: &str) -> anyhow::Result<Self> {
        Self::start_command(mounts, command(sqs_endpoint)?)
    }

    /// The same with the AWS identity that its pod is given.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub fn start_as(mounts: &Mounts, sqs_endpoint: &str, identity: &PodIdentity) -> anyhow::Result<Self> {
        let mut command = command(sqs_endpoint)?;
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", identity.url());
        Self::start_command(mounts, command)
    }

    fn start_command(mounts: &Mounts, mut command: Command) -> anyhow::Result<Self> {
        let folder = mounts.path();
        let address = free_address()?;
        command.arg("run").arg(folder.join(layout::MANIFEST)).arg("--mounts").arg(folder).arg("--listen").arg(address.to_string());
        let topology = folder.join(layout::TOPOLOGY);
        if topology.exists() {
            command.arg("--topology").arg(topology);
        }
        let log = folder.join(format!("worker-{}.log", address.ip()));
        Ok(Self { process: Process::start_command("the worker", command, &log)?, address, log })
    }

    /// Where it serves `/livez`, `/readyz`, `/metrics` and `/state`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has logged so far.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// It does not answer, or has nothing to say yet.
    pub async fn state(&self) -> anyhow::Result<WorkerState> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let ask = async {
            let answer = client.get(format!("http://{}/state", self.address).parse()?).await?;
            let (status, body) = (answer.status(), answer.into_body().collect().await?.to_bytes());
            if !status.is_success() {
                bail!("/state answers {status}");
            }
            Ok(serde_json::from_slice(&body)?)
        };
        timeout(ASK_TIMEOUT, ask).await.context("/state does not answer")?
    }

    /// Waits until what it says of itself fulfils a condition.
    ///
    /// # Errors
    /// That is not so within `limit`, or the worker has ended; the error holds its last state and the end of its log.
    pub async fn wait_for(&mut self, what: &str, limit: Duration, condition: impl Fn(&WorkerState) -> bool) -> anyhow::Result<WorkerState> {
        let end = Instant::now() + limit;
        loop {
            self.process.check_running().with_context(|| format!("waited for: {what}"))?;
            let state = self.state().await;
            if let Ok(state) = &state
                && condition(state)
            {
                return Ok(state.clone());
            }
            if Instant::now() > end {
                let said =
                    state.map_or_else(|error| format!("{error:#}"), |state| serde_json::to_string_pretty(&state).unwrap_or_default());
                bail!("not within {} s: {what}; the worker says {said}\nthe end of its log:\n{}", limit.as_secs(), last_lines(&self.log));
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// Asks it to end, as Kubernetes does, and waits until it has given back what it held.
    ///
    /// # Errors
    /// It does not end within 75 s, or not with success.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGTERM);
        let end = Instant::now() + STOP_TIMEOUT;
        while self.process.is_running() {
            if Instant::now() > end {
                bail!(
                    "the worker has not ended {} s after SIGTERM; the end of its log:\n{}",
                    STOP_TIMEOUT.as_secs(),
                    last_lines(&self.log)
                );
            }
            sleep(ASK_EVERY).await;
        }
        let status = self.process.wait()?;
        if !status.success() {
            bail!("the worker ended with {status}; the end of its log:\n{}", last_lines(&self.log));
        }
        Ok(())
    }

    /// Ends it at once, as a lost node does.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// The most memory that it has had resident so far, in bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn peak_memory(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.process.id());
        let status = fs::read_to_string(&path).with_context(|| format!("read {path}: has the worker ended?"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM: has the worker ended?")?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes * 1024)
    }
}

/// The AWS identity that [`command`] gives.
#[must_use]
pub fn identity() -> AwsIdentity {
    AwsIdentity { access_key_id: KEY.to_owned(), secret_access_key: KEY.to_owned(), session_token: None }
}

/// The worker's binary, still without arguments, with the environment that its pod would have.
///
/// # Errors
/// The binary is missing or older than its sources.
pub fn command(sqs_endpoint: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(binary()?);
    command
        .env("AWS_ENDPOINT_URL_SQS", sqs_endpoint)
        .env("AWS_REGION", sqs::REGION)
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", KEY)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        // Only the manifest's authorities are trusted; and hundreds of files of the platform's are not read for each connection.
        .env("SSL_CERT_FILE", "/dev/null")
        .env_remove("SSL_CERT_DIR");
    Ok(command)
}

/// An address of the loopback that nothing listens on, with the port that a worker has in its pod.
///
/// # Errors
/// A hundred that were tried are taken.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    for _ in 0..100 {
        let [second, third, fourth] = std::array::from_fn(|_| rand::rng().random_range(1..=254));
        let address = SocketAddr::from((Ipv4Addr::new(127, second, third, fourth), layout::HTTP_PORT));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("port {} of all loopback addresses is taken: look with `ss -ltnp` who listens on it", layout::HTTP_PORT)
}

/// The worker's binary: it lies in the folder of this program's profile.
fn binary() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("where this program is")?;
    let folders = program.ancestors().skip(1).take(2);
    let Some(binary) = folders.map(|folder| folder.join(BINARY)).find(|path| path.exists()) else {
        bail!("there is no {BINARY} beside {}: run `make test`, or `cargo build -p {BINARY}` before the tests", program.display());
    };
    let sources = ["../worker/src", "../crds/src"].map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    let built = fs::metadata(&binary)?.modified()?;
    if let Some(source) = sources.iter().find(|folder| newest(folder).is_some_and(|time| time > built)) {
        bail!("{} is older than {}: run `make test`, or `cargo build -p {BINARY}` before the tests", binary.display(), source.display());
    }
    Ok(binary)
}

/// When the newest source below a folder was written; nothing where the sources are not at hand.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let times = entries.filter_map(|path| {
        if path.is_dir() {
            newest(&path)
        } else if path.extension() == Some(OsStr::new("rs")) {
            fs::metadata(&path).ok()?.modified().ok()
        } else {
            None
        }
    });
    times.max()
}
