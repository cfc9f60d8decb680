//! Child processes that never outlive their owner: killed by id when dropped, and by the kernel when the owner dies.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// A running child process with its own session, so that a signal reaches it and all that it started.
///
/// Start it from a thread that lives as long as it should: the kernel kills it when the *thread* that started it ends
/// (`PR_SET_PDEATHSIG`), so never from `spawn_blocking`.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts `program` with `arguments`; standard output and error go to `log`.
    ///
    /// # Errors
    /// The log cannot be written or the program cannot be started.
    pub fn start<S: AsRef<OsStr>>(
        name: &str,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::start_command(name, command, log)
    }

    /// Starts a prepared command (environment, working folder); standard output and error go to `log`.
    ///
    /// # Errors
    /// The log cannot be written or the program cannot be started.
    pub fn start_command(name: &str, command: Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::options().create(true).append(true).open(log).with_context(|| format!("log of {name}: {}", log.display()))?;
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--pdeathsig", "KILL", "setsid"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            wrapped.current_dir(folder);
        }
        let child =
            wrapped.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// The process id: also the id of its session and process group.
    #[must_use]
    pub fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// True while it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        kill(self.id(), signal).ok();
    }

    /// Sends a signal to the process and all that it started in its session.
    pub fn signal_all(&self, signal: Signal) {
        killpg(self.id(), signal).ok();
    }

    /// Kills the whole session at once and waits for the process to be gone.
    pub fn kill(&mut self) {
        self.signal_all(Signal::SIGKILL);
        if let Err(error) = self.child.wait() {
            tracing::warn!(process = self.name, %error, "waiting for a killed process");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
    }
}
