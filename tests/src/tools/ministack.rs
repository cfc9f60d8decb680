//! MiniStack, an AWS of other people's making in one process, from the Python package index: a second opinion on what the local Aurora
//! says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use super::{apt, once};
use crate::process;

const VERSION: &str = "1.5.33";
/// The package is beside it, also after its folder was moved. Its databases would be containers: there are none.
const PROGRAM: &str = r#"#!/bin/sh
export PYTHONPATH="$(dirname "$(readlink -f "$0")")/lib" DOCKER_HOST=unix:///nonexistent IOT_MTLS_ENABLED=0
exec /usr/bin/python3 -c 'from ministack.app import main; main()'
"#;

/// The `ministack` program, which serves on port `$GATEWAY_PORT` at the address `$BIND_HOST` the `$SERVICES`. Fetched when missing, which
/// blocks.
///
/// # Errors
/// It cannot be fetched.
pub fn ministack() -> anyhow::Result<PathBuf> {
    let folder = once(&format!("ministack-{VERSION}"), "25 seconds", |folder| {
        apt(&["python3-pip"])?;
        let mut pip = Command::new("/usr/bin/python3");
        pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(folder.join("lib")).arg(format!("ministack=={VERSION}"));
        process::run("pip", pip, &folder.join("log")).context("is the Python package index reachable?")?;
        let program = folder.join("ministack");
        fs::write(&program, PROGRAM)?;
        Ok(fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?)
    })?;
    Ok(folder.join("ministack"))
}
