//! What has become of a call for a failover, as the roles and the events of the cluster tell. Pure.

use std::time::Duration;

use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::Phase;
use durable_write_crds::evidence::{Call, CallOutcome, Claim};

use super::{CLAIM_HOLDS, Ending, Known, error};
use crate::drill::observed::{ClusterSeen, Observed};
use crate::drill::rds::EventKind;
use crate::drill::world::CALL_TIMEOUT;

/// A failover that was called for shows in the RDS API within this time.
const SHOWS_WITHIN: Duration = Duration::from_secs(45);
/// From the claim on, until a failover that does not show was not made.
pub(super) const SHOWS: Duration = CLAIM_HOLDS.saturating_add(CALL_TIMEOUT).saturating_add(SHOWS_WITHIN);
/// Whatever state the cluster is in, it is not waited for any longer: a drill that goes on holds back rollouts.
pub(super) const LONGEST: Duration = Duration::from_secs(15 * 60);

/// What has become of the call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    /// The target is the writer now.
    pub(super) target_is_writer: bool,
    /// A failover was seen, of whatever outcome.
    pub(super) seen: bool,
    /// Nothing more will come of the call.
    pub(super) settled: bool,
}

impl Fate {
    pub(super) fn read(observed: &Observed, known: &Known, claim: &Claim) -> Self {
        let seen_event = known.events.iter().any(|event| event.kind.is_failover());
        let over = known.events.iter().any(|event| event.kind.is_failover() && !matches!(event.kind, EventKind::Started(_)));
        // By the monotonic clock: a wall clock that was set ahead shall not make the wait shorter.
        let waited = known.since_claim.unwrap_or_default();
        let accepted = known.call.as_ref().is_some_and(|call| call.outcome == CallOutcome::Accepted);
        match &observed.cluster {
            ClusterSeen::Found(cluster) if cluster.resource_id == claim.cluster.resource_id => {
                let target_is_writer = cluster.writer() == Some(claim.target.as_str());
                let moved = known.moved || cluster.writer().is_some_and(|writer| writer != claim.writer);
                let over = target_is_writer || over;
                let shown = cluster.is_available() && (waited >= SHOWS || (over && (accepted || target_is_writer)));
                Self { target_is_writer, seen: moved || seen_event, settled: shown || waited >= LONGEST }
            }
            // Gone, replaced, or not to be asked: then time alone settles it.
            _ => Self { target_is_writer: false, seen: known.moved || seen_event, settled: waited >= SHOWS * 3 },
        }
    }

    pub(super) fn phase(&self, known: &Known) -> Phase {
        match known.stage.as_deref() {
            Some("Draining" | "Counting") => Phase::Draining,
            Some("Recovered") => Phase::Recovering,
            _ if self.target_is_writer => Phase::Recovering,
            _ => Phase::FailingOver,
        }
    }
}

/// True when nothing more will come of the call of that claim.
pub(in crate::drill) fn is_settled(observed: &Observed, known: &Known, claim: &Claim) -> bool {
    Fate::read(observed, known, claim).settled
}

/// No failover was seen.
pub(super) fn unseen(call: &Call, hint: Option<&str>) -> Ending {
    let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
    if call.outcome == CallOutcome::Accepted {
        let message = format!(
            "the RDS API accepted the failover, and no other instance was seen to become the writer{hint}: look at the cluster's events"
        );
        return error(reasons::NO_FAILOVER_SEEN, message);
    }
    let message = format!(
        "whether the failover was called for cannot be known, and none was seen{hint}: look at the cluster's events, and create a new drill"
    );
    error(reasons::TRIGGER_UNKNOWN, message)
}
