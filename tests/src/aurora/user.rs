//! `PostgreSQL` refuses to run as root: its processes and files belong to the user `postgres`.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use nix::unistd::{Gid, Uid, geteuid};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// The user `postgres`, and its programs.
#[derive(Clone, Copy)]
pub(super) struct User {
    uid: Uid,
    gid: Gid,
}

impl User {
    /// Looks for the user and the programs.
    pub fn find() -> anyhow::Result<Self> {
        if !geteuid().is_root() {
            bail!("the local Aurora starts PostgreSQL as user postgres: run this as root");
        }
        let user = nix::unistd::User::from_name("postgres").context("look up the user postgres")?;
        match user {
            Some(user) if Self::program("initdb").exists() => Ok(Self { uid: user.uid, gid: user.gid }),
            _ => bail!("PostgreSQL 15 is missing: run `testbed tools`, or apt-get install postgresql-15"),
        }
    }

    /// Where one of `PostgreSQL`'s programs is.
    pub fn program(name: &str) -> PathBuf {
        Path::new(PROGRAMS).join(name)
    }

    /// The arguments of `setpriv` that make a program run as this user and end with its parent.
    pub fn setpriv(&self) -> Vec<String> {
        vec![format!("--reuid={}", self.uid), format!("--regid={}", self.gid), "--init-groups".into(), "--pdeathsig=KILL".into()]
    }

    /// Makes a folder that only this user (and root) can enter.
    pub fn create_folder(&self, path: &Path) -> anyhow::Result<()> {
        fs::create_dir(path).with_context(|| format!("make {}", path.display()))?;
        self.own(path, 0o700)
    }

    /// Writes a file that only this user can read, at once and whole.
    pub fn write(&self, path: &Path, content: &str) -> anyhow::Result<()> {
        let temporary = path.with_extension("new");
        fs::write(&temporary, content).with_context(|| format!("write {}", temporary.display()))?;
        self.own(&temporary, 0o600)?;
        fs::rename(&temporary, path).with_context(|| format!("write {}", path.display()))
    }

    fn own(&self, path: &Path, mode: u32) -> anyhow::Result<()> {
        chown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw())).with_context(|| format!("give {} to postgres", path.display()))?;
        fs::set_permissions(path, Permissions::from_mode(mode)).with_context(|| format!("set the mode of {}", path.display()))
    }

    /// Runs one of `PostgreSQL`'s programs to its end, with `input` as its standard input.
    pub async fn run<S: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = S>, input: Stdio) -> anyhow::Result<()> {
        let mut command = tokio::process::Command::new("setpriv");
        command.args(self.setpriv()).arg(Self::program(program)).args(arguments);
        let output = command
            .current_dir("/")
            .env("LC_ALL", "C.UTF-8")
            .stdin(input)
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("start {program}"))?;
        if !output.status.success() {
            bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

/// Fails when another user cannot reach `folder`, which `PostgreSQL` must.
pub(super) fn check_reachable(folder: &Path) -> anyhow::Result<()> {
    for ancestor in folder.ancestors() {
        let mode = fs::metadata(ancestor).with_context(|| format!("look at {}", ancestor.display()))?.permissions().mode();
        if mode & 0o001 == 0 {
            bail!("user postgres cannot enter {}: chmod o+x it, or choose a folder elsewhere", ancestor.display());
        }
    }
    Ok(())
}
