//! What a failover is like, what is known of it afterwards, and why it may not begin.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::witness::{Attempt, Seen};

/// How long parts of a failover take beyond what the servers need.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// From a fault of the writer to the moment when it is noticed and the failover begins.
    pub detection: Duration,
    /// From then to the promotion.
    pub promotion: Duration,
    /// From the promotion to the end of what is left of the old writer, which then comes back as a true reader.
    pub rejoin: Duration,
    /// From the promotion until the cluster endpoint and the reader endpoint follow, as names do.
    pub names: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { detection: Duration::from_millis(200), promotion: Duration::ZERO, rejoin: Duration::ZERO, names: Duration::from_millis(200) }
    }
}

/// What happens to the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Fault {
    /// It is stopped as an administrator does, and another instance is promoted: what `FailoverDBCluster` does.
    Planned,
    /// All of its processes are killed.
    WriterKilled,
    /// All of its processes freeze: connections stay open and nothing answers, until the promotion has taken place.
    WriterHangs,
    /// It becomes a reader while connections to it stay open: reads go on, writes are refused with SQLSTATE 25006. New connections to it
    /// find the same. This lasts for [`Timing::rejoin`] after the promotion; then it restarts, which ends its connections.
    ///
    /// A real server cannot become a standby with open connections. In that time it is therefore a server that refuses new write
    /// transactions, receives nothing from the new writer (what is read may be old), and says `pg_is_in_recovery() = false`, while
    /// `aurora_replica_status()` names the new writer. Transactions that had written are broken off.
    WriterTurnsReader,
}

/// What happened in one failover, by the clock of this machine.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Failover {
    /// What happened to the old writer.
    pub fault: Fault,
    /// Whether `FailoverDBCluster` was its cause.
    pub called: bool,
    /// The old writer.
    pub from: String,
    /// The new writer, once chosen: at the end the old one, if that was promoted again.
    pub to: Option<String>,
    /// When the old writer stopped to accept writes: just before its fault was placed.
    pub stopped: Timestamp,
    /// When the promotion returned, or the old writer was up again.
    pub promoted: Option<Timestamp>,
    /// When a first write on the new writer was acknowledged, with all guarantees.
    pub writable: Option<Timestamp>,
    /// When every write was accepted again: later than `writable` by [`Behaviour::flapping`](super::Behaviour).
    pub steady: Option<Timestamp>,
    /// When the old writer received changes again as a reader.
    pub rejoined: Option<Timestamp>,
    /// When writes stopped and came back, once they are back.
    pub truth: Option<Truth>,
}

/// When writes stopped and came back, as a session saw it that wrote all the time at the servers themselves, one commit after the other, and
/// not through the endpoints. A fresh client of an instance's endpoint needs in addition its own time to connect.
///
/// The time in which nobody's commit was acknowledged was at most `gap`, and at least `gap` less `uncertainty`, which is measured:
/// - from the last acknowledgement on the old writer to the moment when none could follow: the first refusal that was seen; for a hanging
///   writer the moment when all of its processes were frozen. (Sessions that are ended together are ended one after the other, on a busy
///   machine some milliseconds apart: that is not in it.)
/// - from the last refusal on the new writer to the begin of the first attempt that it acknowledged. How long that attempt waited for a
///   reader counts as outage: commits that wait are released in their order, so none that began later was acknowledged earlier. Where no
///   reader is waited for, to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Truth {
    /// When the last commit was acknowledged on the old writer.
    pub last_write: Timestamp,
    /// When the first commit was acknowledged on the new writer.
    pub first_write: Timestamp,
    /// The time between both by the monotonic clock. In JSON in milliseconds, as `gapMilliseconds`.
    #[serde(rename = "gapMilliseconds", serialize_with = "milliseconds")]
    pub gap: Duration,
    /// How much shorter the gap may have been for somebody else; it was not longer.
    #[serde(rename = "uncertaintyMilliseconds", serialize_with = "milliseconds")]
    pub uncertainty: Duration,
}

fn milliseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64() * 1000.0)
}

impl Truth {
    /// `stopped`: from when nothing can have been acknowledged by the old writer. `waits`: whether the new writer waits for a reader.
    pub(super) fn new(old: &Seen, stopped: Instant, new: &Seen, waits: bool) -> Option<Self> {
        let (last, first) = (old.last?, new.first?);
        let stopped = old.refused_after.map_or(stopped, |refused| refused.end.instant.min(stopped));
        let possible = if waits { first.begin } else { first.end };
        let refused: Attempt = new.refused_before.unwrap_or(first);
        Some(Self {
            last_write: last.end.at,
            first_write: first.end.at,
            gap: first.end.instant.duration_since(last.end.instant),
            uncertainty: stopped.duration_since(last.end.instant) + possible.instant.duration_since(refused.begin.instant),
        })
    }
}

/// How often `FailoverDBCluster` was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailoverCalls {
    /// Calls that arrived, whatever became of them and of their answers.
    pub received: u64,
    /// Those of them that began a failover.
    pub took_effect: u64,
}

impl Failover {
    /// How long no write was possible, if it is over.
    #[must_use]
    pub fn outage(&self) -> Option<Duration> {
        self.writable.and_then(|writable| Duration::try_from(writable.duration_since(self.stopped)).ok())
    }
}

/// Why a failover does not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another one has not ended.
    #[error("a failover is in progress: wait until the cluster is available")]
    InProgress,
    /// There is nobody to promote.
    #[error("the cluster has no reader that could be promoted")]
    NoReader,
    /// The wanted writer is the writer.
    #[error("{0} is the writer already")]
    IsWriter(String),
    /// The wanted writer is not in the cluster.
    #[error("{0} is no instance of the cluster")]
    Unknown(String),
    /// The cluster is in another state.
    #[error("the cluster is {0} and not available")]
    Unavailable(String),
    /// The wanted writer is down.
    #[error("{0} is not available")]
    Down(String),
}
