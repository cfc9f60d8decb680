//! What RDS tells of failovers, in the texts of its documentation, and how a test may have them told.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::cluster::{Cluster, Event, Source};

/// An event of a cluster about a failover.
///
/// `DescribeEvents` has no member for the identifier: who reads the API knows an event by its message alone. (The identifier is in what SNS
/// and `EventBridge` deliver.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum EventId {
    /// RDS-EVENT-0069.
    Failed,
    /// RDS-EVENT-0070.
    PreviousWriterPromoted,
    /// RDS-EVENT-0071.
    Completed,
    /// RDS-EVENT-0072.
    StartedInSameZone,
    /// RDS-EVENT-0073.
    StartedAcrossZones,
}

impl EventId {
    /// The identifier as documented.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Failed => "RDS-EVENT-0069",
            Self::PreviousWriterPromoted => "RDS-EVENT-0070",
            Self::Completed => "RDS-EVENT-0071",
            Self::StartedInSameZone => "RDS-EVENT-0072",
            Self::StartedAcrossZones => "RDS-EVENT-0073",
        }
    }

    /// The message of the event, which mostly names an instance.
    #[must_use]
    pub fn message(self, instance: &str) -> String {
        match self {
            Self::Failed => "Cluster failover failed, check the health of your cluster instances and try again.".to_owned(),
            Self::PreviousWriterPromoted => format!("Promoting previous primary again: {instance}"),
            Self::Completed => format!("Completed failover to DB instance: {instance}"),
            Self::StartedInSameZone => format!("Started same AZ failover to DB instance: {instance}"),
            Self::StartedAcrossZones => format!("Started cross AZ failover to DB instance: {instance}"),
        }
    }
}

/// How the cluster's events of failovers are told: RDS promises neither that they come nor when.
#[derive(Debug, Clone)]
pub struct Telling {
    /// How long after its `Date` an event can first be described.
    pub delay: Duration,
    /// How often each one is told, with the same `Date`: 0 tells nothing, 2 doubles.
    pub copies: usize,
    /// Events that are never told.
    pub leave_out: Vec<EventId>,
}

impl Default for Telling {
    fn default() -> Self {
        Self { delay: Duration::ZERO, copies: 1, leave_out: Vec::new() }
    }
}

impl Cluster {
    /// Tells of a failover, in the way that is set.
    pub fn tell_of_failover(&self, event: EventId, instance: &str) {
        let telling = self.state().behaviour.telling.clone();
        if telling.leave_out.contains(&event) {
            return;
        }
        let at = Timestamp::now();
        for _ in 0..telling.copies {
            self.tell(Source::Cluster, "failover", event.message(instance), at, telling.delay);
        }
    }

    /// Adds to what the RDS API tells of the past, once `delay` is over.
    pub fn tell(&self, source: Source, category: &'static str, message: String, at: Timestamp, delay: Duration) {
        let shown = Timestamp::now().checked_add(SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX);
        self.state().events.push(Event { at, shown, source, category, message });
    }
}
