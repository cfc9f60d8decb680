//! What failovers do that a drill must notice, beyond the time that they take.

use std::time::Duration;

use super::event::Telling;
use super::failover::Fault;

/// What the next failovers do; each one looks when it begins.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// What a call of `FailoverDBCluster` does to the writer.
    pub fault: Fault,
    /// What becomes of the failover.
    pub outcome: Outcome,
    /// The least time from the fault to the promotion. [`Truth`](super::Truth) tells how long no write was possible.
    pub outage: Duration,
    /// For so long after the first write the new writer now accepts and now refuses writes (SQLSTATE 25006), in turns of [`FLAP`].
    pub flapping: Duration,
    /// How the cluster's events are told.
    pub telling: Telling,
}

/// How long a turn of a flapping writer lasts.
pub const FLAP: Duration = Duration::from_millis(150);

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            fault: Fault::Planned,
            outcome: Outcome::default(),
            outage: Duration::ZERO,
            flapping: Duration::ZERO,
            telling: Telling::default(),
        }
    }
}

/// What becomes of a failover that was accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Another instance is promoted.
    #[default]
    Completes,
    /// After the outage the old writer is the writer again: events that it started, and RDS-EVENT-0070.
    PreviousWriter,
    /// As [`Outcome::PreviousWriter`], with RDS-EVENT-0069 in the stead of 0070.
    Fails,
    /// `FailoverDBCluster` is answered with success, and nothing happens. A fault that a test places is not concerned.
    NeverBegins,
}
