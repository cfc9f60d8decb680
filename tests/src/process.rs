//! Child processes that never outlive their owner: killed by id when dropped, and by the kernel when the owner dies.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::{io, thread};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// A running child process with its own session, so that a signal reaches it and all that it started.
///
/// It dies with this process, whatever thread or runtime started it, also when this process is killed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
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
        let mut wrapped = dying_with_owner(&command);
        wrapped.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = spawn(wrapped).with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
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

    /// An error with the end of the log once the process has ended, for loops that wait for it to be ready.
    ///
    /// # Errors
    /// The process has ended.
    pub fn check_running(&mut self) -> anyhow::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        bail!("{} has ended; the end of {}:\n{}", self.name, self.log.display(), last_lines(&self.log))
    }

    /// Blocks until the process ends by itself.
    ///
    /// # Errors
    /// The operating system refuses to wait.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.wait().with_context(|| format!("wait for {}", self.name))
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
        // One that has just been started may have no session yet.
        self.signal(Signal::SIGKILL);
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

/// Runs a command to its end with its output in `log`; blocks the thread.
///
/// # Errors
/// It cannot be started or does not succeed: the error holds the end of the log.
pub fn run(name: &str, command: Command, log: &Path) -> anyhow::Result<()> {
    let status = Process::start_command(name, command, log)?.wait()?;
    if !status.success() {
        bail!("{name} failed ({status}); the end of {}:\n{}", log.display(), last_lines(log));
    }
    Ok(())
}

/// The same command, in its own session and killed by the kernel when the thread that starts it ends (see [`spawn`]).
fn dying_with_owner(command: &Command) -> Command {
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
    wrapped
}

/// Starts a command from one thread that lives as long as this process: `PR_SET_PDEATHSIG` acts when the *thread* that started a child
/// ends, and tests and runtimes end their threads early.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static STARTER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
        let (orders, received) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in received {
                reply.send(command.spawn()).ok();
            }
        });
        orders
    });
    let (reply, child) = mpsc::channel();
    STARTER.send((command, reply)).map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}

/// The last 20 lines of a log, or why it cannot be read.
pub(crate) fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).map_or_else(|error| error.to_string(), |bytes| String::from_utf8_lossy(&bytes).into_owned());
    let lines: Vec<_> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(20)).copied().collect::<Vec<_>>().join("\n")
}
