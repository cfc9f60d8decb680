//! Watching a drill until it ends.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::bail;
use durable_write_crds::{FailoverDrill, FailoverDrillStatus};
use futures::{StreamExt, pin_mut};
use kube::ResourceExt;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cluster::Cluster;
use crate::live;

/// Without a word of the operator for so long, the user is told what may be wrong.
const UNHEARD: Duration = Duration::from_secs(30);

/// Where lines go, and below them, on a terminal, one line that is renewed.
pub struct Screen<'a> {
    out: &'a mut (dyn Write + Send),
    terminal: bool,
    ticker: bool,
}

impl<'a> Screen<'a> {
    /// A screen on a writer; `terminal` when it understands to have a line renewed.
    pub fn new(out: &'a mut (dyn Write + Send), terminal: bool) -> Self {
        Self { out, terminal, ticker: false }
    }

    /// Prints a line.
    ///
    /// # Errors
    /// The writer fails.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        self.clear()?;
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }

    /// True when it can renew a line.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Renews the line below, on a terminal.
    ///
    /// # Errors
    /// The writer fails.
    pub fn tick(&mut self, line: &str) -> io::Result<()> {
        if self.terminal {
            self.clear()?;
            // What does not fit is cut off: a second line of it could not be cleared.
            write!(self.out, "\x1b[?7l{line}\x1b[?7h")?;
            self.ticker = true;
            self.out.flush()?;
        }
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.ticker) {
            write!(self.out, "\r\x1b[2K")?;
        }
        Ok(())
    }
}

/// Shows what happens until the drill has a verdict and its conditions say that it is complete, or `limit` has passed.
///
/// # Errors
/// The drill is deleted or another one took its name, it did not end within `limit`, or the writer fails. While the API server cannot be
/// reached it is asked again.
pub async fn follow(cluster: &Cluster, drill: &FailoverDrill, limit: Duration, screen: &mut Screen<'_>) -> anyhow::Result<FailoverDrill> {
    let name = drill.name_any();
    let stream = watcher::watch_object(cluster.api::<FailoverDrill>(), &name).default_backoff();
    pin_mut!(stream);
    let begin = Instant::now();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut failing, mut unreachable, mut hinted) = (FailoverDrillStatus::default(), None, false, false);
    loop {
        tokio::select! {
            event = stream.next() => match event {
                Some(Ok(Some(now))) if now.uid() == drill.uid() => {
                    unreachable = false;
                    let status = now.status.clone().unwrap_or_default();
                    for line in live::lines(&seen, &status) {
                        screen.line(&line)?;
                    }
                    if ended(&status) {
                        return Ok(now);
                    }
                    failing = live::writes_fail(&status).then(|| failing.unwrap_or_else(Instant::now));
                    seen = status;
                }
                Some(Ok(Some(_))) => bail!("another drill has taken the name {name}"),
                Some(Ok(None)) => bail!("drill {name} was deleted while it ran; a failover that was called for is not undone"),
                Some(Err(error)) if !unreachable => {
                    unreachable = true;
                    screen.line(&format!("the API server cannot be asked, and is asked again; the drill goes on ({error})"))?;
                }
                Some(Err(_)) => {}
                None => bail!("the watch of drill {name} ended"),
            },
            _ = second.tick() => {
                screen.tick(&live::ticker(&seen, begin.elapsed(), failing.map(|since| since.elapsed())))?;
                if !hinted && seen.phase.is_none() && begin.elapsed() > UNHEARD {
                    hinted = true;
                    screen.line("no operator has taken the drill up: is durable-write's operator running, and drills.enabled set?")?;
                }
                if begin.elapsed() > limit {
                    bail!("drill {name} has not ended within {} minutes; look again with kubectl dw drill show {name}", limit.as_secs() / 60);
                }
            }
        }
    }
}

/// The verdict is written together with the condition Complete; either says so.
fn ended(status: &FailoverDrillStatus) -> bool {
    let complete = durable_write_crds::conditions::drill_types::COMPLETE;
    status.verdict.is_some() && status.conditions.iter().any(|condition| condition.type_ == complete && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(terminal: bool) -> String {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, terminal);
        screen.tick("one").unwrap();
        screen.tick("two").unwrap();
        screen.line("three").unwrap();
        screen.line("four").unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_that_is_renewed_does_not_wrap_and_is_cleared_before_the_next() {
        assert_eq!(shown(true), "\x1b[?7lone\x1b[?7h\r\x1b[2K\x1b[?7ltwo\x1b[?7h\r\x1b[2Kthree\nfour\n");
        assert_eq!(shown(false), "three\nfour\n");
    }
}
