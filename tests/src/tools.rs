//! What the testbed needs beside Rust and Go: Debian packages, and programs that are built once into a cache outside the checkout.

mod aws;
mod build;
mod debian;
mod ministack;
mod promtool;

use std::path::PathBuf;

use anyhow::Context;

pub use aws::aws;
pub use build::{helm, kubernetes, once};
pub(crate) use debian::install_for_cluster as cluster_packages;
pub use debian::{install as apt, install_programs as apt_programs};
pub use ministack::ministack;
pub use promtool::promtool;

/// Arguments of `testbed tools`.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// Installs and builds everything that the other commands need; quick when all is there.
///
/// # Errors
/// A package cannot be installed or a program cannot be built.
pub async fn run(_: Arguments) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(|| {
        debian::install_all()?;
        let kubernetes = kubernetes()?;
        let helm = helm()?;
        let aws = aws()?;
        let ministack = ministack()?;
        let promtool = promtool()?;
        for (name, path) in [("kubernetes", kubernetes), ("helm", helm), ("aws", aws), ("ministack", ministack), ("promtool", promtool)] {
            println!("{name:10} {}", path.display());
        }
        Ok(())
    })
    .await?
}

/// The folder of everything that outlives a run and can be deleted at will: `$DURABLE_WRITE_CACHE`, else `durable-write` in the user's
/// cache folder.
///
/// # Errors
/// There is no home folder, or the folder cannot be made.
pub fn cache() -> anyhow::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("DURABLE_WRITE_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("durable-write")))
        .or_else(|| Some(variable("HOME")?.join(".cache/durable-write")))
        .context("no HOME in the environment: set DURABLE_WRITE_CACHE to a folder for built programs")?;
    std::fs::create_dir_all(&folder).with_context(|| format!("make the cache folder {}", folder.display()))?;
    std::path::absolute(&folder).with_context(|| format!("cache folder {}", folder.display()))
}
