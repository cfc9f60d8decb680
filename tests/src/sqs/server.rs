//! The ElasticMQ server: its parts from Maven into the cache, the process, and the addresses it is reached at.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::process::{self, Process};
use crate::proxy::tcp::TcpFaultProxy;
use crate::tools;

/// What ElasticMQ is made of; its text, so that the cache knows the version without a checkout.
const POM: &str = include_str!("../../sqs/pom.xml");
/// Without it ElasticMQ keeps a processor busy while a FIFO group is blocked; see there.
const SCHEDULER: &str = include_str!("../../sqs/PatientScheduler.java");

/// Bounds the heap: enough for a hundred thousand messages of 300 bytes, or some hundred of 1 MiB.
const HEAP: &str = "-Xmx1g";

const START_TIMEOUT: Duration = Duration::from_secs(60);

static SHARED: OnceCell<Sqs> = OnceCell::const_new();

/// A running ElasticMQ server; it ends when this is dropped. Its queues are in memory.
#[derive(Debug)]
pub struct Sqs {
    addresses: Vec<SocketAddr>,
    _forwarders: Vec<TcpFaultProxy>,
    _server: Process,
    _log: File,
}

impl Sqs {
    /// Starts a server that is reached at each of `addresses`, all on the same `port` (0: a free one), and waits until it answers, usually
    /// 2 s (10 s the first time on a machine, when Maven fetches its parts).
    ///
    /// ElasticMQ itself listens on the first address only; a forwarder of this process serves the others.
    ///
    /// # Errors
    /// Maven or Java is missing, the port is taken, or the server does not answer within a minute; the message carries the end of its log.
    pub async fn start(addresses: &[IpAddr], port: u16) -> anyhow::Result<Self> {
        let (&first, others) = addresses.split_first().context("no address to listen on: name at least one")?;
        let folder = tokio::task::spawn_blocking(parts).await??;
        let address = free(SocketAddr::new(first, port))?;
        let log = tempfile::tempfile().context("log of ElasticMQ")?;
        let log_path = PathBuf::from(format!("/proc/self/fd/{}", log.as_raw_fd())); // has no name on disk, so nothing is left behind
        let mut server = Process::start("ElasticMQ", "java", arguments(&folder, address), &log_path)?;
        wait_until_it_answers(&mut server, address).await?;
        let mut forwarders = Vec::new();
        for other in others {
            forwarders.push(TcpFaultProxy::start(&[SocketAddr::new(*other, address.port())], address).await?);
        }
        let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, address.port())).collect();
        Ok(Self { addresses, _forwarders: forwarders, _server: server, _log: log })
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

async fn wait_until_it_answers(server: &mut Process, address: SocketAddr) -> anyhow::Result<()> {
    let client = super::client(&format!("http://{address}"));
    let deadline = Instant::now() + START_TIMEOUT;
    while TcpStream::connect(address).await.is_err() || client.list_queues().send().await.is_err() {
        server.check_running()?;
        if Instant::now() > deadline {
            bail!("ElasticMQ did not answer at {address} within {START_TIMEOUT:?}: is the machine overloaded?");
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn arguments(folder: &Path, address: SocketAddr) -> Vec<String> {
    [
        HEAP.to_owned(),
        "-XX:+UseSerialGC".to_owned(), // on two cores half the memory of the default, and less processor time
        "-Dpekko.scheduler.implementation=PatientScheduler".to_owned(),
        format!("-Drest-sqs.bind-hostname={}", address.ip()),
        format!("-Drest-sqs.bind-port={}", address.port()),
        "-Drest-sqs.sqs-limits=strict".to_owned(),
        "-Dnode-address.host=*".to_owned(), // URLs of queues with the address of the request
        format!("-Daws.region={}", super::REGION),
        "-Dpekko.loglevel=INFO".to_owned(),
        "-cp".to_owned(),
        format!("{0}:{0}/*", folder.display()),
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

/// The folder with the jar files, fetched once for each version, and with our scheduler.
fn parts() -> anyhow::Result<PathBuf> {
    tools::apt_programs(&[("javac", "openjdk-17-jdk-headless"), ("mvn", "maven")])?;
    let version = POM.split("elasticmq.version>").nth(1).and_then(|rest| rest.split('<').next()).context("no version in pom.xml")?;
    tools::once(&format!("elasticmq-{version}-patient"), "10 seconds", |folder| {
        fs::write(folder.join("pom.xml"), POM)?;
        let mut command = Command::new("mvn");
        command.args(["--batch-mode", "--strict-checksums", "dependency:copy-dependencies", "-DoutputDirectory=."]).current_dir(folder);
        process::run("mvn", command, &folder.join("log")).context("is Maven Central reachable?")?;
        fs::write(folder.join("PatientScheduler.java"), SCHEDULER)?;
        let mut command = Command::new("javac");
        command.args(["-cp", "*", "PatientScheduler.java"]).current_dir(folder);
        process::run("javac", command, &folder.join("log"))
    })
}
