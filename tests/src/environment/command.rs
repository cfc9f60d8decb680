//! `testbed environment`: all parts in one process, until a signal ends it.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::{Access, Environment, Servers};
use crate::cluster::Cluster;

/// Arguments of `testbed environment`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where it keeps its data: `access.json` says how it is reached, once it is
    #[arg(long)]
    folder: PathBuf,
    /// No cluster of ours: an address of this machine that the pods of another cluster reach
    #[arg(long)]
    address: Option<IpAddr>,
}

/// Runs the command.
///
/// # Errors
/// A part does not start, or another process runs in the folder.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let _lock = lock(&arguments.folder)?;
    let serve = async {
        let (_owned, access) = start(&arguments).await?;
        write_access(&arguments.folder, &access)?;
        std::future::pending::<anyhow::Result<()>>().await
    };
    let outcome = tokio::select! { outcome = serve => outcome, _ = interrupt.recv() => Ok(()), _ = terminate.recv() => Ok(()) };
    fs::remove_file(access_file(&arguments.folder)).ok();
    outcome
}

/// What runs, for as long as it is held.
type Owned = (Servers, Option<Cluster>);

async fn start(arguments: &Arguments) -> anyhow::Result<(Owned, Access)> {
    Ok(match arguments.address {
        None => {
            let Environment { servers, cluster, access } = Environment::start(&arguments.folder).await?;
            ((servers, Some(cluster)), access)
        }
        Some(address) => {
            let servers = Servers::start(address).await?;
            let access = servers.access()?;
            ((servers, None), access)
        }
    })
}

/// Locks the folder as long as this process lives, and writes down who has it.
fn lock(folder: &Path) -> anyhow::Result<File> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let mut lock = File::options().create(true).truncate(false).read(true).write(true).open(lock_file(folder))?;
    if lock.try_lock().is_err() {
        bail!("another process runs an environment in {}", folder.display());
    }
    lock.set_len(0)?;
    write!(lock, "{}", std::process::id())?;
    Ok(lock)
}

/// Locked as long as an environment runs in the folder; it holds the process id.
pub(crate) fn lock_file(folder: &Path) -> PathBuf {
    folder.join("lock")
}

/// There as soon as the environment can be used.
pub(crate) fn access_file(folder: &Path) -> PathBuf {
    folder.join("access.json")
}

/// With a password in it, for the owner's eyes only.
fn write_access(folder: &Path, access: &Access) -> anyhow::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.as_file().set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(serde_json::to_string_pretty(access)?.as_bytes())?;
    file.persist(access_file(folder)).context("write how the environment is reached")?;
    Ok(())
}
