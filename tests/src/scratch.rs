//! Folders for one run: removed when dropped, and by the next run when their owner was killed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

/// A folder that is gone with its owner, at the latest when the next one is made.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    /// Locked as long as the owner lives: who can lock it may remove the folder.
    _lock: File,
}

impl Scratch {
    /// Makes an empty folder whose name begins with `name`. Paths stay short enough for unix sockets.
    ///
    /// # Errors
    /// The folder for temporary files cannot be written.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let parent = std::env::temp_dir().join(format!("durable-write-{}", nix::unistd::getuid()));
        fs::create_dir_all(&parent).with_context(|| format!("make {}", parent.display()))?;
        // Serialises this function between processes: a folder without a lock file is a leftover.
        let making = File::create(parent.join("lock")).with_context(|| format!("lock {}", parent.display()))?;
        making.lock()?;
        remove_leftovers(&parent);
        let folder =
            TempDir::with_prefix_in(format!("{name}-"), &parent).with_context(|| format!("make a folder in {}", parent.display()))?;
        let lock = File::create(folder.path().join("lock"))?;
        lock.lock()?;
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders whose owners are dead. What cannot be removed is tried again by the next run.
fn remove_leftovers(parent: &Path) {
    let folders = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    for folder in folders.collect::<Vec<PathBuf>>() {
        let lock = File::open(folder.join("lock"));
        if lock.map_or(true, |lock| lock.try_lock().is_ok()) {
            fs::remove_dir_all(&folder).ok();
        }
    }
}
