//! The ElasticMQ server: its parts from Maven into the cache, the process, and the addresses it is reached at.

use std::fs;
use std::io::{Read, Seek};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::process::Process;
use crate::proxy::tcp::TcpFaultProxy;

/// What ElasticMQ is made of; its text, so that the cache knows the version without a checkout.
const POM: &str = include_str!("../../sqs/pom.xml");

/// Bounds the heap: enough for a hundred thousand messages of 300 bytes, or some hundred of 1 MiB.
const HEAP: &str = "-Xmx1g";

const START_TIMEOUT: Duration = Duration::from_secs(60);

static SHARED: OnceCell<Sqs> = OnceCell::const_new();

/// A running ElasticMQ server; it ends when this is dropped. Its queues are in memory.
#[derive(Debug)]
pub struct Sqs {
    addresses: Vec<SocketAddr>,
    _forwarders: Vec<TcpFaultProxy>,
    _server: Server,
}

impl Sqs {
    /// Starts a server that is reached at each of `addresses`, all on the same `port` (0: a free one), and waits until it answers, usually
    /// 2 s (30 s the first time on a machine, when Maven fetches its parts).
    ///
    /// ElasticMQ itself listens on the first address only; a forwarder of this process serves the others.
    ///
    /// # Errors
    /// Maven or Java is missing, the port is taken, or the server does not answer within a minute; the message carries the end of its log.
    pub async fn start(addresses: &[IpAddr], port: u16) -> anyhow::Result<Self> {
        let (&first, others) = addresses.split_first().context("no address to listen on: name at least one")?;
        let folder = parts().await?;
        let address = free(SocketAddr::new(first, port))?;
        let server = Server::start(&folder, address)?;
        server.wait_until_it_answers(address).await?;
        let mut forwarders = Vec::new();
        for other in others {
            forwarders.push(TcpFaultProxy::start(&[SocketAddr::new(*other, address.port())], address).await?);
        }
        let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, address.port())).collect();
        Ok(Self { addresses, _forwarders: forwarders, _server: server })
    }

    /// The one server that all tests of a process share, on a free port of the loopback; it ends with the process.
    ///
    /// # Errors
    /// See [`Sqs::start`].
    pub async fn shared() -> anyhow::Result<&'static Self> {
        SHARED.get_or_try_init(async || Self::start(&[Ipv4Addr::LOCALHOST.into()], 0).await).await
    }

    /// Where it is reached, in the order of the addresses that it was started with.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The endpoint at its first address. URLs of queues follow the address that a request was sent to.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.addresses.first().map(|address| format!("http://{address}")).unwrap_or_default()
    }

    /// A new client of the endpoint.
    #[must_use]
    pub fn client(&self) -> aws_sdk_sqs::Client {
        super::client(&self.endpoint())
    }
}

/// The process, kept by a thread of its own: it would be killed with the thread that started it, and the thread of a test ends with the test.
#[derive(Debug)]
struct Server {
    stop: Option<mpsc::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
    log: fs::File,
}

impl Server {
    fn start(folder: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        let log = tempfile::tempfile().context("log of ElasticMQ")?;
        let log_path = PathBuf::from(format!("/proc/self/fd/{}", log.as_raw_fd())); // has no name on disk, so nothing is left behind
        let arguments = arguments(folder, address);
        let (stop, stopped) = mpsc::channel();
        let (started, result) = mpsc::channel();
        let keeper = std::thread::spawn(move || match Process::start("ElasticMQ", "java", arguments, &log_path) {
            Ok(process) => {
                started.send(Ok(())).ok();
                stopped.recv().ok();
                drop(process);
            }
            Err(error) => drop(started.send(Err(error))),
        });
        result.recv().context("the thread of ElasticMQ ended")?.context("install Java: apt-get install openjdk-17-jre-headless")?;
        Ok(Self { stop: Some(stop), keeper: Some(keeper), log })
    }

    async fn wait_until_it_answers(&self, address: SocketAddr) -> anyhow::Result<()> {
        let client = super::client(&format!("http://{address}"));
        let deadline = Instant::now() + START_TIMEOUT;
        while tokio::net::TcpStream::connect(address).await.is_err() || client.list_queues().send().await.is_err() {
            if Instant::now() > deadline || self.log_text().contains("Exception") {
                bail!("ElasticMQ does not answer at {address}; the end of its log:\n{}", last_lines(&self.log_text(), 20));
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn log_text(&self) -> String {
        let mut text = String::new();
        let Ok(mut log) = self.log.try_clone() else { return text };
        log.rewind().ok();
        log.read_to_string(&mut text).ok();
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(keeper) = self.keeper.take() {
            keeper.join().ok();
        }
    }
}

fn arguments(folder: &Path, address: SocketAddr) -> Vec<String> {
    [
        HEAP.to_owned(),
        "-XX:+UseSerialGC".to_owned(),
        format!("-Drest-sqs.bind-hostname={}", address.ip()),
        format!("-Drest-sqs.bind-port={}", address.port()),
        "-Drest-sqs.sqs-limits=strict".to_owned(),
        "-Dnode-address.host=*".to_owned(), // URLs of queues with the address of the request
        format!("-Daws.region={}", super::REGION),
        "-Dpekko.loglevel=INFO".to_owned(),
        "-cp".to_owned(),
        format!("{}/*", folder.display()),
        "org.elasticmq.server.Main".to_owned(),
    ]
    .into()
}

/// The address, with a free port in the stead of 0. Another program may still take it before the server does; the server's log then says so.
fn free(address: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address}: choose an address of this machine, and a port that is free (0 finds one)"))?;
    Ok(listener.local_addr()?)
}

fn last_lines(text: &str, number: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(number)).copied().collect::<Vec<_>>().join("\n")
}

/// The folder with the jar files, fetched once for each version.
async fn parts() -> anyhow::Result<PathBuf> {
    let version = POM.split("elasticmq.version>").nth(1).and_then(|rest| rest.split('<').next()).context("no version in pom.xml")?;
    let folder = cache_folder()?.join(format!("elasticmq-{version}"));
    if !folder.exists() {
        tracing::info!(version, "fetching ElasticMQ by Maven, usually 30 s, once");
        let target = folder.clone();
        tokio::task::spawn_blocking(move || fetch(&target)).await??;
    }
    Ok(folder)
}

/// Has Maven copy the jar files beside `folder`, then moves them there in one step, as another process may do the same.
fn fetch(folder: &Path) -> anyhow::Result<()> {
    let parent = folder.parent().context("the cache folder has no parent")?;
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    let work = tempfile::tempdir_in(parent)?;
    fs::write(work.path().join("pom.xml"), POM)?;
    let output = Command::new("mvn")
        .args(["--batch-mode", "--quiet", "--strict-checksums", "dependency:copy-dependencies", "-DoutputDirectory=jars"])
        .current_dir(work.path())
        .output()
        .context("start mvn: install it by apt-get install maven")?;
    if !output.status.success() {
        bail!(
            "Maven could not fetch ElasticMQ; is Maven Central reachable from here?\n{}",
            last_lines(&String::from_utf8_lossy(&output.stdout), 20)
        );
    }
    match fs::rename(work.path().join("jars"), folder) {
        Err(_) if folder.exists() => Ok(()), // another process was faster
        moved => moved.with_context(|| format!("move the jar files of ElasticMQ to {}", folder.display())),
    }
}

fn cache_folder() -> anyhow::Result<PathBuf> {
    let folder = std::env::var_os("DURABLE_WRITE_CACHE").map(PathBuf::from);
    folder
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache/durable-write")))
        .context("no home folder: set DURABLE_WRITE_CACHE to a folder for downloads")
}
