//! Programs built from source, once for each version.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::process;
use crate::progress::Step;

/// Kubernetes as built from `tests/kubernetes`: its `go.mod` says the same.
const KUBERNETES: (&str, &str, &str) = ("1", "34", "4");
const HELM: &str = "3.22.0";

/// The Go module that is one binary with all of Kubernetes; its hash is part of the cache's key.
const MODULE: [(&str, &str); 3] = [
    ("go.mod", include_str!("../../kubernetes/go.mod")),
    ("go.sum", include_str!("../../kubernetes/go.sum")),
    ("main.go", include_str!("../../kubernetes/main.go")),
];

/// The binary that holds etcd, CoreDNS and every part of Kubernetes: the first argument picks the part. Built when missing, which blocks.
/// Beside it lies a link `kubectl`.
///
/// # Errors
/// Go is missing or the build fails.
pub fn kubernetes() -> anyhow::Result<PathBuf> {
    let (major, minor, patch) = KUBERNETES;
    let mut hash = Sha256::new();
    MODULE.iter().for_each(|(_, text)| hash.update(text));
    let hash: String = hash.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let folder = once(&format!("kubernetes-{major}.{minor}.{patch}-{hash}"), "8 to 20 minutes, later 1", |folder| {
        for (name, text) in MODULE {
            fs::write(folder.join(name), text)?;
        }
        let stamps: String = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"]
            .map(|package| {
                format!(
                    "-X {package}.gitVersion=v{major}.{minor}.{patch} -X {package}.gitMajor={major} -X {package}.gitMinor={minor} \
                     -X {package}.gitTreeState=clean "
                )
            })
            .concat();
        go(folder, &["build", "-trimpath", "-ldflags", &format!("-s -w {stamps}"), "-o", "kube", "."])?;
        std::os::unix::fs::symlink("kube", folder.join("kubectl")).context("link kubectl")
    })?;
    Ok(folder.join("kube"))
}

/// The `helm` program. Built when missing, which blocks.
///
/// # Errors
/// Go is missing or the build fails.
pub fn helm() -> anyhow::Result<PathBuf> {
    // Without these stamps `helm template` believes that it talks to Kubernetes 1.20.
    let (major, minor, _) = KUBERNETES;
    let stamps: String = ["chartutil", "lint/rules"]
        .map(|package| {
            let package = format!("helm.sh/helm/v3/pkg/{package}");
            format!("-X {package}.k8sVersionMajor={major} -X {package}.k8sVersionMinor={minor} ")
        })
        .concat();
    let flags = format!("-s -w -X helm.sh/helm/v3/internal/version.version=v{HELM} {stamps}");
    let package = format!("helm.sh/helm/v3/cmd/helm@v{HELM}");
    let folder = once(&format!("helm-{HELM}"), "3 to 7 minutes, later 1", |folder| {
        go(folder, &["install", "-trimpath", "-ldflags", &flags, &package])
    })?;
    Ok(folder.join("helm"))
}

/// A folder of the cache that is made once: `make` fills an empty folder, which becomes `name` only when that has succeeded.
///
/// Safe when two processes race (one waits) and when it is killed half-way (the next starts over). `name` holds the version; `usual` says
/// how long it takes. Blocks the thread.
///
/// # Errors
/// `make` failed or the cache cannot be written.
pub fn once(name: &str, usual: &str, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
    let cache = super::cache()?;
    let folder = cache.join(name);
    if folder.exists() {
        return Ok(folder);
    }
    let lock = File::create(cache.join(format!("{name}.lock")))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let step = Step::begin(format!("waiting for another process that makes {name}"), usual);
            lock.lock()?;
            step.done();
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("lock of {name}")),
    }
    if folder.exists() {
        return Ok(folder);
    }
    let partial = cache.join(format!("{name}.partial"));
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", partial.display()));
        }
        _ => fs::create_dir(&partial)?,
    }
    let step = Step::begin(format!("making {name}"), usual);
    make(&partial).with_context(|| format!("make {name}"))?;
    fs::rename(&partial, &folder).with_context(|| format!("put {} in place", folder.display()))?;
    step.done();
    Ok(folder)
}

/// Runs Go in `folder`, with its programs going there too.
fn go(folder: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    if Command::new("go").arg("version").output().is_err() {
        bail!("Go is missing: install Go 1.24 or newer (go.dev/doc/install) and have `go` on the PATH");
    }
    let mut command = Command::new("go");
    // These two are part of Go's own cache key: fixed, so that a later build only links.
    command.args(arguments).current_dir(folder).env("CGO_ENABLED", "0").env("GOBIN", folder).env_remove("GOFLAGS");
    process::run(&format!("go {}", arguments.first().unwrap_or(&"")), command, &folder.join("log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamped_version_is_the_one_in_the_module() {
        let (major, minor, patch) = KUBERNETES;
        assert!(MODULE[0].1.contains(&format!("k8s.io/kubernetes v{major}.{minor}.{patch}\n")));
    }
}
