//! The rival: the usual consumer of the Node.js world, in pinned versions, with its parts from npm in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::{process, tools};

const PACKAGE: &str = include_str!("../../benches/rival/package.json");
const PROGRAM: &str = include_str!("../../benches/rival/consumer.mjs");
const OLDEST_NODE: u32 = 20;

/// The rival's program, installed when it is missing (10 seconds).
pub(super) fn install() -> anyhow::Result<PathBuf> {
    check_node()?;
    let mut hash = Sha256::new();
    [PACKAGE, PROGRAM].iter().for_each(|text| hash.update(text));
    let hash: String = hash.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let folder = tools::once(&format!("rival-{hash}"), "10 seconds", |folder| {
        fs::write(folder.join("package.json"), PACKAGE)?;
        fs::write(folder.join("consumer.mjs"), PROGRAM)?;
        let mut command = Command::new("npm");
        command.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]).current_dir(folder);
        process::run("npm install", command, &folder.join("log")).context("is the npm registry reachable?")
    })?;
    Ok(folder.join("consumer.mjs"))
}

/// How the rival is started, but for its settings, which it takes from the environment.
pub(super) fn command(program: &Path) -> Command {
    let mut command = Command::new("node");
    command.arg(program);
    command
}

fn check_node() -> anyhow::Result<()> {
    let version = Command::new("node").arg("--version").output().ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let major = version.as_deref().and_then(|text| text.trim().trim_start_matches('v').split('.').next()?.parse::<u32>().ok());
    match major {
        Some(major) if major >= OLDEST_NODE => Ok(()),
        _ => bail!(
            "the rival needs Node.js {OLDEST_NODE} or newer, with npm, on the PATH (found: {}): install it, or measure with --without-rival",
            version.as_deref().unwrap_or("none").trim()
        ),
    }
}
