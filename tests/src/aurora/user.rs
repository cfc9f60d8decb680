//! `PostgreSQL` refuses to run as root: its processes and files belong to the user `postgres`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use nix::unistd::{Gid, Uid, geteuid};

use crate::tools;

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// The user `postgres`, and its programs.
#[derive(Clone, Copy)]
pub(super) struct User {
    uid: Uid,
    gid: Gid,
}

impl User {
    /// Looks for the user and the programs, and installs them when they lack. Blocks the thread.
    pub fn find() -> anyhow::Result<Self> {
        if !geteuid().is_root() {
            bail!("the local Aurora starts PostgreSQL as user postgres: run this as root");
        }
        if !Self::program("initdb").exists() {
            tools::apt(&["postgresql-15"])?;
        }
        let user = nix::unistd::User::from_name("postgres").context("look up the user postgres")?;
        let user = user.context("PostgreSQL is installed and there is no user postgres: apt-get install --reinstall postgresql-common")?;
        Ok(Self { uid: user.uid, gid: user.gid })
    }

    /// Where one of `PostgreSQL`'s programs is.
    pub fn program(name: &str) -> PathBuf {
        Path::new(PROGRAMS).join(name)
    }

    /// Makes a folder that only this user (and root) can enter.
    pub fn create_folder(self, path: &Path) -> anyhow::Result<()> {
        fs::create_dir(path).with_context(|| format!("make {}", path.display()))?;
        self.own(path, 0o700)
    }

    /// Writes a file that only this user can read, at once and whole.
    pub fn write(self, path: &Path, content: &str) -> anyhow::Result<()> {
        let temporary = path.with_extension("new");
        fs::write(&temporary, content).with_context(|| format!("write {}", temporary.display()))?;
        self.own(&temporary, 0o600)?;
        fs::rename(&temporary, path).with_context(|| format!("write {}", path.display()))
    }

    fn own(self, path: &Path, mode: u32) -> anyhow::Result<()> {
        chown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw())).with_context(|| format!("give {} to postgres", path.display()))?;
        fs::set_permissions(path, Permissions::from_mode(mode)).with_context(|| format!("set the mode of {}", path.display()))
    }

    /// A command that runs one of `PostgreSQL`'s programs as this user, and ends with its parent.
    pub fn command(self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={}", self.uid), format!("--regid={}", self.gid)]).args(["--init-groups", "--pdeathsig=KILL"]);
        command.arg(Self::program(program)).current_dir("/").env("LC_ALL", "C.UTF-8");
        command
    }
}

/// Fails when another user cannot reach `folder`, which `PostgreSQL` must.
pub(super) fn check_reachable(folder: &Path) -> anyhow::Result<()> {
    for ancestor in folder.ancestors() {
        let mode = fs::metadata(ancestor).with_context(|| format!("look at {}", ancestor.display()))?.permissions().mode();
        if mode & 0o001 == 0 {
            bail!("user postgres cannot enter {}: chmod o+x it, or set TMPDIR to a folder elsewhere", ancestor.display());
        }
    }
    Ok(())
}
