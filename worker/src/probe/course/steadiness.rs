//! Whether the baseline is steady: only then does an outage say something.

use std::time::Duration;

use durable_write_crds::conditions::drill_reasons;
use durable_write_crds::drill::{BASELINE_PATIENCE, SHORTEST_BASELINE};
use durable_write_crds::probe::STREAK;

use super::super::clock::{At, floor};
use super::Course;
use crate::problem::Problem;

/// The last writes must be good for so long; and no tick be missed.
const LAST: Duration = Duration::from_secs(2);
/// A message that was acknowledged so long ago should be in the table.
const ARRIVED: Duration = Duration::from_secs(5);

/// Why the baseline is not steady.
#[derive(Clone, Debug)]
pub(super) struct Unsteady {
    pub(super) problem: Problem,
    /// Time does not mend it.
    pub(super) at_once: bool,
}

impl Course {
    /// How long after its begin the baseline must be steady.
    pub(super) fn patience(&self) -> Duration {
        self.plan.warm_up.get() + BASELINE_PATIENCE + self.delay
    }

    /// Why the baseline is not steady, if it is not: what says most about the cause comes first.
    pub(super) fn unsteady(&self, now: At) -> Option<Unsteady> {
        let unsteady = |reason, message: String| Some(Unsteady { problem: Problem::new(reason, "", message), at_once: false });
        if let Some(message) = self.too_short().filter(|_| self.ready.is_none()) {
            return Some(Unsteady { problem: Problem::new(drill_reasons::BASELINE_UNSTEADY, "", message), at_once: true });
        }
        if let Some(other) = self.gaps.other_writer().filter(|_| self.ready.is_none()) {
            let message = format!(
                "writes land on {other} and not on the pinned writer {}: the roles have changed, or the pipeline's topology leads to another \
                 cluster; run a new drill",
                self.plan.writer
            );
            return Some(Unsteady { problem: Problem::new(drill_reasons::WRITER_DIFFERS, "", message), at_once: true });
        }
        if let Some(problem) = &self.send_problem {
            return Some(Unsteady { problem: problem.clone(), at_once: true });
        }
        let interval = self.plan.direct_write_interval.get();
        let few = u32::try_from(LAST.as_millis() / interval.as_millis().max(1)).unwrap_or(u32::MAX).max(STREAK);
        if self.gaps.good_in_a_row() < few {
            let why = self.direct_problem.as_ref().map_or_else(String::new, |problem| format!(", the last one for this: {problem}"));
            return unsteady(drill_reasons::BASELINE_UNSTEADY, format!("direct writes to {} are not steadily good{why}", self.plan.writer));
        }
        let missed: u64 = self.missed.iter().filter(|(at, _)| *at + LAST >= now).map(|(_, missed)| missed).sum();
        if missed > 0 {
            let message = format!(
                "the probe itself misses its ticks ({missed} in the last {} s): give its node more processor, or raise load.directWriteInterval",
                LAST.as_secs()
            );
            return unsteady(drill_reasons::BASELINE_UNSTEADY, message);
        }
        self.unsteady_queue(now).or_else(|| self.unsteady_target()).or_else(|| {
            let left = (self.began + self.shortest()).checked_sub(now)?;
            unsteady(drill_reasons::BASELINE_UNSTEADY, format!("the warm-up lasts {} s more", left.as_secs() + 1))
                .filter(|_| !left.is_zero())
        })
    }

    /// Why the deadline leaves no time for a baseline and a cool-down.
    fn too_short(&self) -> Option<String> {
        let (baseline, cool_down) = (self.shortest(), self.plan.cool_down.get());
        let short = !self.delay.is_zero() && baseline + cool_down > self.plan.deadline.get();
        short.then(|| {
            format!(
                "the queue delays each message by {} s, so that baseline ({} s) and cool-down ({} s) do not fit into the {} s that the probe has: \
                 raise the drill's deadline, or lower the queue's DelaySeconds",
                self.delay.as_secs(),
                baseline.as_secs(),
                cool_down.as_secs(),
                self.plan.deadline.get().as_secs()
            )
        })
    }

    /// The shortest baseline: messages must have had time to arrive.
    fn shortest(&self) -> Duration {
        self.plan.warm_up.get().max(SHORTEST_BASELINE + self.delay)
    }

    fn unsteady_queue(&self, now: At) -> Option<Unsteady> {
        let late = self.queue.unsettled(now.saturating_sub(ARRIVED + self.delay));
        let (reason, message) = if !self.queue.any_settled() {
            let message = "no message of the probe has reached the database through the pipeline yet: look whether its workers run, flow and \
                 have no backlog (kubectl get dwp), are as new as this probe, and whether another consumer reads the queue";
            (drill_reasons::BASELINE_UNSTEADY, message.to_owned())
        } else if late > 0 {
            let message = format!(
                "{late} messages of the probe have not reached the database within {} s although others have: another consumer reads the queue, \
                 or the pipeline has a backlog; end the other consumer, or wait until the backlog is gone",
                (ARRIVED + self.delay).as_secs()
            );
            (drill_reasons::ANOTHER_CONSUMER, message)
        } else {
            return None;
        };
        Some(Unsteady { problem: Problem::new(reason, "", message), at_once: false })
    }

    fn unsteady_target(&self) -> Option<Unsteady> {
        let target = &self.plan.target;
        let most = floor(self.plan.max_replica_lag.get());
        let message = match self.lags.as_ref().map(|lags| lags.get(target)) {
            None => format!("how far {target} lags behind is not known yet"),
            Some(None) => format!("{target} is not among the cluster's readers (aurora_replica_status): choose another target"),
            Some(Some(lag)) if *lag > most => {
                format!(
                    "{target} lags {lag} ms behind the writer, more than the {most} ms that are allowed: wait, or choose another target"
                )
            }
            Some(Some(_)) => return None,
        };
        Some(Unsteady { problem: Problem::new(drill_reasons::REPLICA_LAGS, "", message), at_once: false })
    }
}
