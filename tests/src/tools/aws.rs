//! The AWS CLI, from the Python package index: Debian's is too old for what the README shows.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use super::{apt, once};
use crate::process;

const VERSION: &str = "1.45.11";
/// The package is beside it, also after its folder was moved. By itself this version looks at the endpoint of every service but SQS.
const PROGRAM: &str = r#"#!/bin/sh
if [ "$1" = sqs ] && [ -n "$AWS_ENDPOINT_URL_SQS" ]; then set -- --endpoint-url "$AWS_ENDPOINT_URL_SQS" "$@"; fi
PYTHONPATH="$(dirname "$(readlink -f "$0")")/lib" exec /usr/bin/python3 -m awscli "$@"
"#;

/// The `aws` program. Fetched when missing, which blocks.
///
/// # Errors
/// It cannot be fetched.
pub fn aws() -> anyhow::Result<PathBuf> {
    let folder = once(&format!("awscli-{VERSION}"), "20 seconds", |folder| {
        apt(&["python3-pip"])?;
        let mut pip = Command::new("/usr/bin/python3");
        pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(folder.join("lib")).arg(format!("awscli=={VERSION}"));
        process::run("pip", pip, &folder.join("log")).context("is the Python package index reachable?")?;
        let program = folder.join("aws");
        fs::write(&program, PROGRAM)?;
        Ok(fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?)
    })?;
    Ok(folder.join("aws"))
}
