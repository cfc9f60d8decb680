//! The image of operator and worker, from the programs as this checkout builds them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::progress::Step;
use crate::{image, tools};

const REPOSITORY: &str = "localhost/durable-write";
/// The operator is what the image runs by itself.
const PROGRAMS: [&str; 2] = ["durable-write-operator", "durable-write-worker"];
/// Nobody loads an image this long after it was made.
const OLD: Duration = Duration::from_secs(3600);

/// An image with operator and worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Name without tag.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The OCI archive, unless clusters find the image elsewhere.
    pub archive: Option<PathBuf>,
}

impl Image {
    /// Builds the programs, in the profile of this program, and an image of them. Its tag follows from the programs, so that new ones are
    /// rolled out. Blocks the thread; a second when nothing has changed.
    ///
    /// # Errors
    /// The build fails.
    pub fn build() -> anyhow::Result<Self> {
        let programs = build_programs()?;
        let mut hash = Sha256::new();
        for program in &programs {
            hash.update(fs::read(program).with_context(|| format!("read {}", program.display()))?);
        }
        let tag: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let folder = tools::cache()?.join("images");
        let archive = folder.join(format!("{tag}.tar"));
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        // Two runs at once want the same one.
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        if !archive.exists() {
            let step = Step::begin("making the image", "10 seconds");
            tools::apt(&["buildah"])?;
            forget_old(&folder)?;
            let places = PROGRAMS.map(|name| format!("/usr/bin/{name}"));
            let files: Vec<_> = programs.iter().map(PathBuf::as_path).zip(places.iter().map(String::as_str)).collect();
            image::build(&format!("{REPOSITORY}:{tag}"), &files, &archive)?;
            step.done();
        }
        Ok(Self { repository: REPOSITORY.to_owned(), tag, archive: Some(archive) })
    }

    /// An image that the cluster can pull or has, as `repository:tag`.
    ///
    /// # Errors
    /// There is no tag in it.
    pub fn named(reference: &str) -> anyhow::Result<Self> {
        match reference.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => {
                Ok(Self { repository: repository.to_owned(), tag: tag.to_owned(), archive: None })
            }
            _ => bail!("{reference} has no tag: write repository:tag"),
        }
    }

    /// `repository:tag`.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// Removes images of programs that are no more, but for young ones: another checkout may be about to load its own.
fn forget_old(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, age) = (entry.path(), entry.metadata()?.modified()?.elapsed().unwrap_or_default());
        if age > OLD && path.extension().is_some_and(|extension| extension == "tar") {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Builds the whole workspace as the Makefile does, so that nothing is compiled twice, into the folder that this program is in.
fn build_programs() -> anyhow::Result<Vec<PathBuf>> {
    let own = std::env::current_exe().context("where this program is")?;
    // A test is one folder deeper.
    let folder = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).context("the folder of this program")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let step = Step::begin("building operator and worker", "a second when built, else 5 to 10 minutes");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--workspace", "--all-targets", "--profile", profile]).current_dir(super::checkout()?);
    // What cargo tells a test of its package would be told to build scripts, which then would all seem to be of another build.
    for (variable, _) in std::env::vars_os() {
        if variable.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(variable);
        }
    }
    let output = command.output().context("run cargo")?;
    if !output.status.success() {
        bail!("cargo build failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    step.done();
    Ok(PROGRAMS.iter().map(|name| folder.join(name)).collect())
}
