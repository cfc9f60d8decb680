//! One `PostgreSQL` server: its files, its process, and what it is told of the others.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::user::User;
use crate::process::{self, Process};

/// All servers listen here, each at its own loopback address: nothing else can take a port away while a server is down.
pub(super) const PORT: u16 = 15432;
const ACCESS: &str = "pg_hba.conf";
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);

/// A server of the cluster. All of its files are in its folder, so that each one can be thrown away and made again.
pub(super) struct Node {
    pub name: String,
    pub resource_id: String,
    pub address: SocketAddr,
    folder: PathBuf,
    user: User,
    /// The names of the other servers, quoted.
    others: Vec<String>,
    arguments: Vec<String>,
    settings: Mutex<Settings>,
    process: Mutex<Slot>,
}

/// What a server reads of what may change, beyond its data.
#[derive(Default)]
struct Settings {
    role: String,
    lag: String,
}

enum Slot {
    Stopped,
    Running(Process),
    /// The cluster is being dropped: nothing starts any more.
    Closed,
}

/// What a server knows of its role. Written to a file that it reads again on a signal: works without a connection to it.
pub(super) struct Role<'a> {
    /// The instance that it takes to be the writer.
    pub writer: &'a str,
    /// The server to receive changes from.
    pub follows: Option<&'a Node>,
    /// Whether a commit is acknowledged only when another server has it.
    pub synchronous: bool,
    /// Whether new transactions are refused to write (SQLSTATE 25006) although it is no standby.
    pub read_only: bool,
}

impl Node {
    /// The server `name` of those with the `names`; it is not there yet. All share the folder of settings.
    pub fn new(shared: &Path, name: String, names: &[String], address: IpAddr, user: User) -> anyhow::Result<Self> {
        let folder = shared.join(&name);
        let socket = folder.join(format!(".s.PGSQL.{PORT}"));
        if socket.as_os_str().len() > 107 {
            bail!("the path of a socket is longer than 107 bytes: choose a shorter folder than {}", folder.display());
        }
        user.create_folder(&folder)?;
        let own = [
            ("listen_addresses", address.to_string()),
            ("port", PORT.to_string()),
            ("unix_socket_directories", folder.display().to_string()),
            ("cluster_name", name.clone()),
            ("durable_write.instance", name.clone()),
            ("durable_write.members", names.join(",")),
            ("config_file", shared.join("postgresql.conf").display().to_string()),
            ("hba_file", folder.join(ACCESS).display().to_string()),
        ];
        let others = names.iter().filter(|other| **other != name).map(|other| format!("\"{other}\"")).collect();
        let arguments = own.iter().flat_map(|(key, value)| ["-c".to_owned(), format!("{key}={value}")]).collect();
        let resource_id = format!("db-{}", super::random(26, super::UPPER_CASE));
        Ok(Self {
            name,
            resource_id,
            address: SocketAddr::new(address, PORT),
            folder,
            user,
            others,
            arguments,
            settings: Mutex::default(),
            process: Mutex::new(Slot::Stopped),
        })
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where it is said who may log in.
    pub fn access(&self) -> PathBuf {
        self.folder.join(ACCESS)
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.folder.join("postgres.log")
    }

    /// How the superuser connects: by a socket in the server's own folder, not through any endpoint, without TLS.
    pub fn admin_options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.folder)
            .port(PORT)
            .username("postgres")
            .database("postgres")
            .ssl_mode(PgSslMode::Disable)
            .disable_statement_logging()
    }

    /// Connects as superuser.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        let options = self.admin_options();
        let connecting = PgConnection::connect_with(&options);
        timeout(Duration::from_secs(5), connecting).await.ok().transpose()?.with_context(|| format!("{} does not answer", self.name))
    }

    /// Executes statements as superuser in a database.
    pub async fn execute(&self, database: &str, statements: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect_with(&self.admin_options().database(database)).await?;
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await?;
        connection.close().await.ok();
        Ok(())
    }

    /// Tells the server its role; takes effect at the next start, or soon when it runs.
    pub fn configure(&self, role: &Role<'_>) -> anyhow::Result<()> {
        let follows = role.follows.map_or_else(String::new, |node| format!("host={} port={PORT} user=postgres", node.folder.display()));
        // By name: a program that only makes a copy would count as well.
        let standbys = if role.synchronous { format!("ANY 1 ({})", self.others.join(", ")) } else { String::new() };
        let read_only = if role.read_only { "on" } else { "off" };
        let role = format!(
            "durable_write.writer = '{}'\nprimary_conninfo = '{follows}'\nsynchronous_standby_names = '{standbys}'\n\
             default_transaction_read_only = {read_only}\n",
            role.writer
        );
        self.write(|settings| settings.role = role)
    }

    /// Lets the server be so far behind the one that it follows, in what can be read, and tell lags of instances (`orders-2=1500`, in
    /// milliseconds) that nobody measures. It takes effect soon.
    pub fn set_lag(&self, behind: Duration, told: &str) -> anyhow::Result<()> {
        let lag = format!("recovery_min_apply_delay = {}ms\ndurable_write.lags = '{told}'\n", behind.as_millis());
        self.write(|settings| settings.lag = lag)
    }

    fn write(&self, change: impl FnOnce(&mut Settings)) -> anyhow::Result<()> {
        {
            // Held while the file is written, so that the file is what was said last.
            let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut settings);
            self.user.write(&self.data().join("postgresql.auto.conf"), &format!("{}{}", settings.role, settings.lag))?;
        }
        self.signal(Signal::SIGHUP);
        Ok(())
    }

    /// Makes the server a standby at its next start.
    pub fn mark_standby(&self) -> anyhow::Result<()> {
        self.user.write(&self.data().join("standby.signal"), "")
    }

    /// Replaces the data directory by a fresh copy of a running server's.
    pub async fn copy_from(&self, source: &Self) -> anyhow::Result<()> {
        let data = self.data();
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("remove {}", data.display()))?;
        }
        let mut copy = self.user.command("pg_basebackup");
        copy.arg("--pgdata").arg(&data).arg("--host").arg(&source.folder).arg(format!("--port={PORT}"));
        copy.args(["--username=postgres", "--checkpoint=fast", "--wal-method=stream", "--no-sync"]);
        let log = self.folder.join("pg_basebackup.log");
        tokio::task::spawn_blocking(move || process::run("pg_basebackup", copy, &log)).await?
    }

    /// Starts the server and waits until it answers.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.spawn()?;
        let deadline = Instant::now() + START;
        loop {
            if let Ok(connection) = self.connect().await {
                connection.close().await.ok();
                return Ok(());
            }
            if let Slot::Running(process) = &mut *self.slot() {
                process.check_running()?;
            }
            if Instant::now() > deadline {
                bail!("{} did not start within {} s; its log is {}", self.name, START.as_secs(), self.log().display());
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn spawn(&self) -> anyhow::Result<()> {
        let mut slot = self.slot();
        if matches!(*slot, Slot::Closed) {
            bail!("the cluster is being taken down");
        }
        // A namespace of its own, in which the server is process 1: when it is killed, all of its sessions die at the same instant, even
        // frozen ones, and also when this program is killed.
        let mut command = Command::new("unshare");
        let server = self.user.command("postgres");
        command.args(["--pid", "--fork", "--kill-child"]).arg(server.get_program()).args(server.get_args());
        command.arg("-D").arg(self.data()).args(&self.arguments).current_dir("/").env("LC_ALL", "C.UTF-8");
        *slot = Slot::Running(Process::start_command(&self.name, command, &self.log())?);
        Ok(())
    }

    /// Stops the server as an administrator does: sessions are ended with an error, standbys receive everything first.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGINT);
        if !self.ended(STOP).await {
            tracing::warn!(instance = self.name, "does not stop, is killed");
            self.kill().await?;
        }
        Ok(())
    }

    /// Kills the server and all of its sessions, also when frozen.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGKILL);
        if !self.ended(STOP).await {
            bail!("{} was killed and is still there: look at its processes", self.name);
        }
        Ok(())
    }

    /// Freezes the server and all of its sessions: connections stay open and nothing answers.
    pub fn freeze(&self) {
        // First the one that starts sessions, so that no session is missed.
        self.signal(Signal::SIGSTOP);
        for session in self.postmaster().map(children).unwrap_or_default() {
            kill(session, Signal::SIGSTOP).ok();
        }
    }

    /// Kills the server for good, and waits (some milliseconds) until it is gone.
    pub fn close(&self) {
        self.signal(Signal::SIGKILL);
        let deadline = std::time::Instant::now() + Duration::from_secs(1);
        while self.is_running() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        *self.slot() = Slot::Closed;
    }

    fn is_running(&self) -> bool {
        match &mut *self.slot() {
            Slot::Running(process) => process.is_running(),
            Slot::Stopped | Slot::Closed => false,
        }
    }

    async fn ended(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let ended = async {
            while self.is_running() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        let ended = timeout_at(deadline, ended).await.is_ok();
        if ended {
            *self.slot() = Slot::Stopped;
        }
        ended
    }

    /// The server's own process, which is the only child of the one that made its namespace.
    fn postmaster(&self) -> Option<Pid> {
        match &*self.slot() {
            Slot::Running(process) => children(process.id()).first().copied(),
            Slot::Stopped | Slot::Closed => None,
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(postmaster) = self.postmaster() {
            kill(postmaster, signal).ok();
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The child processes of a process, as the kernel lists them.
fn children(of: Pid) -> Vec<Pid> {
    let list = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|id| id.parse().ok().map(Pid::from_raw)).collect()
}
