//! Debian packages.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::process;
use crate::progress::Step;

/// Containers, the network between them, and images.
const CLUSTER: &[&str] =
    &["containerd", "runc", "containernetworking-plugins", "iptables", "iproute2", "buildah", "catatonit", "ca-certificates"];

/// Installs what every part of the testbed needs.
pub(super) fn install_all() -> anyhow::Result<()> {
    install(&[CLUSTER, &["postgresql-15", "libfaketime"]].concat())?;
    install_programs(&[("javac", "openjdk-17-jdk-headless"), ("mvn", "maven"), ("chromium", "chromium")])
}

/// Installs what a cluster with a node needs.
pub(crate) fn install_for_cluster() -> anyhow::Result<()> {
    install(CLUSTER)
}

/// Installs packages that lack, when the program that each is wanted for is not on the PATH: pairs of program and package.
///
/// # Errors
/// As [`install`].
pub fn install_programs(wanted: &[(&str, &str)]) -> anyhow::Result<()> {
    let lacking: Vec<&str> = wanted.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    install(&lacking)
}

/// Installs those of the Debian packages that are missing; quick when none is.
///
/// # Errors
/// Not root, not Debian or alike, or `apt-get` fails.
pub fn install(packages: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !on_path("apt-get") {
        bail!("this system has no apt-get: install what these Debian packages hold by hand: {}", missing.join(" "));
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("packages are missing and only root can install them: sudo apt-get install --yes {}", missing.join(" "));
    }
    if missing.iter().any(|package| package.starts_with("postgresql")) {
        keep_postgresql_quiet()?;
    }
    let log = super::cache()?.join("apt.log");
    let step = Step::begin(format!("installing {}", missing.join(" ")), "1 minute");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold"]);
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        process::run("apt-get", command, &log)
    };
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"], missing.as_slice()].concat()).context("install packages")?;
    step.done();
    Ok(())
}

/// Says, before the package is there, that it shall not make and start a server of its own.
fn keep_postgresql_quiet() -> anyhow::Result<()> {
    let settings = Path::new("/etc/postgresql-common/createcluster.conf");
    if settings.exists() {
        return Ok(());
    }
    fs::create_dir_all("/etc/postgresql-common").context("make /etc/postgresql-common")?;
    fs::write(settings, "create_main_cluster = false\n").with_context(|| format!("write {}", settings.display()))
}

fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat", "${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

/// True when the shell would find the program.
fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}
