//! The process that owns the demo's environment, and outlives the demo until it is taken down.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::environment::{Access, access_file, cluster_folder, lock_file};

/// Building Kubernetes on two busy cores takes 20 minutes; everything else, a minute.
const START: Duration = Duration::from_secs(45 * 60);
/// An orderly end takes 3 seconds.
const END: Duration = Duration::from_secs(60);

/// Finds the environment of a folder running, or starts it and shows its progress. `address` is where pods of somebody else's cluster reach
/// this machine, if there is one.
pub(super) async fn up(folder: &Path, address: Option<std::net::IpAddr>) -> anyhow::Result<Access> {
    if let Some(owner) = owner(folder)? {
        let access = read_access(folder)?.filter(|access| match address {
            Some(address) => access.address == address,
            None => cluster_folder(folder).exists(),
        });
        if let (true, Some(access)) = (is_of_this_build(owner), access) {
            return Ok(access);
        }
        eprintln!("· an environment of another build, cluster or address runs: it is replaced");
        down(folder).await?;
    }
    clear(folder)?;
    let log = folder.join("log");
    let mut child = start(folder, address, &log)?;
    let mut progress = Progress { log, shown: 0 };
    let end = Instant::now() + START;
    loop {
        progress.show()?;
        if let Some(access) = read_access(folder)? {
            return Ok(access);
        }
        if child.try_wait()?.is_some() {
            bail!("the environment did not start; what it said is above and in {}", progress.log.display());
        }
        if Instant::now() > end {
            child.kill()?;
            bail!("the environment did not start within {} minutes", START.as_secs() / 60);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Ends the environment of a folder, whatever of it runs, and removes its data.
pub(super) async fn down(folder: &Path) -> anyhow::Result<()> {
    if let Some(owner) = owner(folder)? {
        kill(owner, Signal::SIGTERM).ok();
        let end = Instant::now() + END;
        while self::owner(folder)? == Some(owner) {
            if Instant::now() > end {
                eprintln!("· it does not end by itself: it is killed");
                kill(owner, Signal::SIGKILL).ok();
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    // A killed one leaves something.
    let cluster = cluster_folder(folder);
    if cluster.exists() {
        tokio::task::spawn_blocking(move || Cluster::down(&cluster)).await??;
    }
    clear(folder)
}

/// The process that runs the environment of a folder.
pub(super) fn owner(folder: &Path) -> anyhow::Result<Option<Pid>> {
    let Ok(mut lock) = File::open(lock_file(folder)) else { return Ok(None) };
    if lock.try_lock_shared().is_ok() {
        return Ok(None);
    }
    let mut text = String::new();
    lock.read_to_string(&mut text)?;
    // Nothing in it: it is just starting, or another one looks.
    Ok(text.trim().parse().ok().map(Pid::from_raw))
}

/// How an environment is reached, once it runs.
pub(super) fn read_access(folder: &Path) -> anyhow::Result<Option<Access>> {
    match fs::read(access_file(folder)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).context("access.json of the environment: take it down with `make down`")?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("read access.json of the environment"),
    }
}

/// False when its program was built anew since it started.
fn is_of_this_build(owner: Pid) -> bool {
    let program = fs::read_link(format!("/proc/{owner}/exe")).ok();
    program.is_some() && program == std::env::current_exe().ok()
}

/// Starts it in a session of its own, with nothing of this terminal.
fn start(folder: &Path, address: Option<std::net::IpAddr>, log: &Path) -> anyhow::Result<Child> {
    let log = File::create(log).with_context(|| format!("write {}", log.display()))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("environment").arg("--folder").arg(folder);
    if let Some(address) = address {
        command.arg("--address").arg(address.to_string());
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    command.spawn().context("start the environment")
}

/// Removes what another environment left.
fn clear(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(|| format!("remove {}", folder.display())),
        _ => {}
    }
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))
}

/// Shows on standard error what the environment writes to its log.
struct Progress {
    log: PathBuf,
    shown: u64,
}

impl Progress {
    fn show(&mut self) -> anyhow::Result<()> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.shown))?;
        self.shown += io::copy(&mut file, &mut io::stderr())?;
        Ok(())
    }
}
