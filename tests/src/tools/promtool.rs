//! `promtool`, which tests alerts, out of Debian's package of Prometheus. The package is not installed, as it would run a server.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::once;
use crate::process;

/// The `promtool` program. Fetched when missing, which blocks.
///
/// # Errors
/// Not Debian or alike, or the package cannot be fetched.
pub fn promtool() -> anyhow::Result<PathBuf> {
    let folder = once("promtool", "10 seconds", |folder| {
        let run = |name: &str, arguments: &[&str]| {
            let mut command = Command::new(name);
            command.args(arguments).current_dir(folder);
            process::run(name, command, &folder.join("log"))
        };
        let download = || run("apt-get", &["-o", "APT::Sandbox::User=root", "download", "prometheus"]);
        // The lists of packages may be missing or old.
        download().or_else(|_| run("apt-get", &["update"]).and_then(|()| download())).context("is a mirror of Debian reachable?")?;
        let package = package(folder)?;
        run("dpkg-deb", &["--extract", &package, "all"])?;
        std::fs::rename(folder.join("all/usr/bin/promtool"), folder.join("promtool"))?;
        std::fs::remove_dir_all(folder.join("all"))?;
        Ok(std::fs::remove_file(folder.join(package))?)
    })?;
    Ok(folder.join("promtool"))
}

/// The name of the package in that folder.
fn package(folder: &Path) -> anyhow::Result<String> {
    let names = std::fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.into_iter().find(|name| name.ends_with(".deb")).context("apt-get has fetched no package")
}
