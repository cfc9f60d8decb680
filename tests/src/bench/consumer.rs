//! A consumer under measurement, and what it takes as the kernel counts it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::Instant;

use crate::process::Process;

/// The kernel's unit of CPU time in `/proc`, the same on all common machines.
const TICKS_PER_SECOND: f64 = 100.0;
const KIBIBYTES_PER_MEBIBYTE: f64 = 1024.0;

/// A running consumer; it is killed when dropped.
pub(super) struct Consumer {
    process: Process,
    began: Instant,
}

/// What a process has taken since its start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// User and system time of all its threads.
    pub cpu_seconds: f64,
    /// The most memory that was resident.
    pub peak_mebibytes: f64,
}

impl Consumer {
    pub(super) fn start(name: &str, command: Command, log: &Path) -> anyhow::Result<Self> {
        let began = Instant::now();
        Ok(Self { process: Process::start_command(name, command, log)?, began })
    }

    pub(super) fn runs_for(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn check_running(&mut self) -> anyhow::Result<()> {
        self.process.check_running()
    }

    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        let read = |file: &str| {
            let path = format!("/proc/{}/{file}", self.process.id());
            fs::read_to_string(&path).with_context(|| format!("read {path}: has the consumer ended?"))
        };
        let (ticks, peak) = (ticks(&read("stat")?)?, peak_kibibytes(&read("status")?)?);
        Ok(Usage { cpu_seconds: f64::from(ticks) / TICKS_PER_SECOND, peak_mebibytes: f64::from(peak) / KIBIBYTES_PER_MEBIBYTE })
    }
}

/// The 14th and 15th field of `/proc/<id>/stat`; the second, the program's name, may hold spaces.
fn ticks(stat: &str) -> anyhow::Result<u32> {
    let (_, fields) = stat.rsplit_once(')').context("no program's name in /proc/<id>/stat")?;
    let fields: Vec<u32> = fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    let [user, system] = fields.as_slice() else { bail!("no times in /proc/<id>/stat") };
    Ok(user + system)
}

fn peak_kibibytes(status: &str) -> anyhow::Result<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM: has the consumer ended?")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_program_name() {
        let stat = "4711 (a) b (c) S 1 4711 4711 0 -1 4194304 1 2 3 4 250 50 7 8 20 0 1 0 99 0 0";
        assert_eq!(ticks(stat).unwrap(), 300);
    }
}
