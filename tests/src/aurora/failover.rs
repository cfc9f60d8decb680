//! Moves the writer's role to another instance, and lets the old writer come back as a reader.
//!
//! No acknowledged commit is lost, because a commit is acknowledged only when a second instance has it (or by a new writer until its readers
//! follow, when nothing else can befall it, as its failover lasts), and because before a promotion the readers stop receiving, are compared,
//! and the promoted one first gets what the most advanced one has. Nothing here ever cancels a statement: a commit that waits for a reader
//! would then be acknowledged without it.

mod record;
mod steps;
mod witness;

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

pub use self::record::{Failover, FailoverCalls, Fault, Refused, Timing, Truth};
pub(super) use self::steps::{follow, wait_until_follows, wait_until_waited_for};

use self::steps::{end_old_writer, end_writing_sessions, fence, flap, place, promote, rejoin, restore, wait_for_readers};
use self::witness::{Moment, Witness};
use super::behaviour::{Behaviour, Outcome};
use super::cluster::{Cluster, Source, Status};
use super::event::EventId;
use super::node::{Node, Role};

/// How long a step may take that usually takes less than a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// A failover as it was decided, before anything has happened.
struct Plan {
    fault: Fault,
    /// Whether `FailoverDBCluster` is its cause: it is then noticed at once.
    called: bool,
    from: usize,
    target: usize,
    timing: Timing,
    behaviour: Behaviour,
}

/// What was seen of the old writer until nothing could be acknowledged by it any more.
struct Stop {
    seen: witness::Seen,
    at: Instant,
}

impl Cluster {
    /// Places a fault, or fails over as a test wants it: it goes on by itself.
    pub fn begin_failover(&self, fault: Fault, target: Option<&str>) -> Result<JoinHandle<anyhow::Result<Failover>>, Refused> {
        let (guard, plan) = self.admit(target, false)?;
        self.run(guard, Plan { fault, ..plan })
    }

    /// `FailoverDBCluster`: as [`Behaviour`] says.
    pub fn call_failover(&self, target: Option<&str>) -> Result<(), Refused> {
        let (guard, plan) = self.admit(target, true)?;
        if plan.behaviour.outcome != Outcome::NeverBegins {
            self.update(|state| state.status = Status::FailingOver);
            self.run(guard, plan)?;
        }
        Ok(())
    }

    fn admit(&self, target: Option<&str>, called: bool) -> Result<(OwnedMutexGuard<()>, Plan), Refused> {
        let guard = self.operation.clone().try_lock_owned().map_err(|_| Refused::InProgress)?;
        let target = self.choose(target)?;
        let state = self.state();
        let (behaviour, timing, from) = (state.behaviour.clone(), state.timing, state.writer);
        Ok((guard, Plan { fault: behaviour.fault, called, from, target, timing, behaviour }))
    }

    fn run(&self, guard: OwnedMutexGuard<()>, plan: Plan) -> Result<JoinHandle<anyhow::Result<Failover>>, Refused> {
        let Some(this) = self.this.upgrade() else { return Err(Refused::InProgress) };
        Ok(self.spawn(async move {
            let outcome = this.fail_over(plan).await;
            if let Err(error) = &outcome {
                tracing::error!(%error, "a failover of the local Aurora failed, and the cluster is in an undefined state");
                this.tell_of_failover(EventId::Failed, "");
            }
            drop(guard);
            outcome
        }))
    }

    /// The wanted instance, or the one with the lowest promotion tier, which is its position.
    fn choose(&self, target: Option<&str>) -> Result<usize, Refused> {
        let state = self.state();
        if let Some(status) = &state.cluster_status {
            return Err(Refused::Unavailable(status.clone()));
        }
        let available = |position: usize| state.is_up(position) && !state.instance_statuses.contains_key(&position);
        match target {
            None => (0..self.nodes.len()).find(|position| *position != state.writer && available(*position)).ok_or(Refused::NoReader),
            Some(name) => match self.position(name) {
                None => Err(Refused::Unknown(name.to_owned())),
                Some(position) if position == state.writer => Err(Refused::IsWriter(name.to_owned())),
                Some(position) if !available(position) => Err(Refused::Down(name.to_owned())),
                Some(position) => Ok(position),
            },
        }
    }

    async fn fail_over(&self, plan: Plan) -> anyhow::Result<Failover> {
        let (old, new) = (self.node(plan.from)?, self.node(plan.target)?);
        let others = self.readers_beside(plan.target);
        self.begin_record(&plan, old);
        let (stop, begun) = self.stop_writes(&plan, old, new, &others).await?;
        sleep(plan.timing.promotion).await;
        sleep_until(begun + plan.behaviour.outage).await;
        match plan.behaviour.outcome {
            Outcome::Completes | Outcome::NeverBegins => self.promote_target(&plan, &stop, old, new, &others).await?,
            Outcome::PreviousWriter | Outcome::Fails => self.restore_old_writer(&plan, &stop, old, new, &others).await?,
        }
        self.update(|state| {
            state.set_up(plan.from, true);
            state.status = Status::Available;
        });
        self.endpoints_settled().await;
        self.state().failovers.last().cloned().context("the failover's record")
    }

    /// From the fault to the moment when the old writer can acknowledge nothing more; also tells when that began.
    async fn stop_writes(&self, plan: &Plan, old: &Node, new: &Node, others: &[&Node]) -> anyhow::Result<(Stop, Instant)> {
        let witness = Witness::start(old);
        witness.first_commit(PATIENCE).await?;
        let begun = Moment::now();
        self.record(|failover| failover.stopped = begun.at);
        let still_answers = place(plan.fault, old, new).await?;
        let placed = Instant::now();
        self.update(|state| state.set_up(plan.from, still_answers));
        if matches!(plan.fault, Fault::WriterKilled | Fault::WriterHangs) && !plan.called {
            sleep(plan.timing.detection).await;
        }
        self.update(|state| state.status = Status::FailingOver);
        self.record(|failover| failover.to = Some(new.name.clone()));
        let started = if self.same_zone(plan.from, plan.target) { EventId::StartedInSameZone } else { EventId::StartedAcrossZones };
        self.tell_of_failover(started, &new.name);

        fence(old, new, others).await?;
        if plan.fault != Fault::WriterTurnsReader {
            return Ok((Stop { seen: witness.seen(), at: placed }, begun.instant));
        }
        end_writing_sessions(old).await?;
        Ok((Stop { seen: witness.seen(), at: Instant::now() }, begun.instant))
    }

    async fn promote_target(&self, plan: &Plan, stop: &Stop, old: &Node, new: &Node, others: &[&Node]) -> anyhow::Result<()> {
        let witness = Witness::start(new);
        promote(new, others).await?;
        self.record(|failover| failover.promoted = Some(Timestamp::now()));
        self.update(|state| state.writer = plan.target);
        self.let_names_follow(plan.target, plan.timing.names);
        self.writes_are_back(witness, stop, false).await?;
        self.tell_of_failover(EventId::Completed, &new.name);
        wait_for_readers(new, others).await?;
        self.flap(plan, new, !others.is_empty()).await?;

        end_old_writer(plan.fault, old, plan.timing.rejoin).await?;
        self.update(|state| state.set_up(plan.from, false));
        rejoin(plan.fault, old, new).await?;
        new.configure(&Role { writer: &new.name, follows: None, synchronous: true, read_only: false })?;
        wait_until_waited_for(new, old).await?;
        // What was acknowledged before commits waited.
        wait_until_follows(old, new).await?;
        self.record(|failover| failover.rejoined = Some(Timestamp::now()));
        self.tell(Source::Instance(old.name.clone()), "availability", "DB instance restarted".to_owned(), Timestamp::now(), Duration::ZERO);
        Ok(())
    }

    async fn restore_old_writer(&self, plan: &Plan, stop: &Stop, old: &Node, new: &Node, others: &[&Node]) -> anyhow::Result<()> {
        let readers: Vec<&Node> = others.iter().copied().chain([new]).collect();
        let witness = Witness::start(old);
        restore(plan.fault, old, &readers).await?;
        self.record(|failover| {
            failover.promoted = Some(Timestamp::now());
            failover.to = Some(old.name.clone());
        });
        self.update(|state| state.set_up(plan.from, true));
        self.writes_are_back(witness, stop, true).await?;
        let told = if plan.behaviour.outcome == Outcome::Fails { EventId::Failed } else { EventId::PreviousWriterPromoted };
        self.tell_of_failover(told, &old.name);
        self.flap(plan, old, true).await?;
        for reader in readers {
            wait_until_waited_for(old, reader).await?;
        }
        self.record(|failover| failover.rejoined = Some(Timestamp::now()));
        Ok(())
    }

    /// Waits for the first commit on the new writer. `waits`: whether commits wait for a reader.
    async fn writes_are_back(&self, witness: Witness, stop: &Stop, waits: bool) -> anyhow::Result<()> {
        let first = witness.first_commit(PATIENCE).await?;
        let truth = Truth::new(&stop.seen, stop.at, &witness.seen(), waits).context("what the witnesses saw")?;
        self.record(|failover| (failover.writable, failover.truth) = (Some(first.end.at), Some(truth)));
        Ok(())
    }

    async fn flap(&self, plan: &Plan, writer: &Node, synchronous: bool) -> anyhow::Result<()> {
        if !plan.behaviour.flapping.is_zero() {
            flap(writer, synchronous, plan.behaviour.flapping).await?;
        }
        self.record(|failover| failover.steady = Some(Timestamp::now()));
        Ok(())
    }

    /// All readers that are up, but for one.
    pub fn readers_beside(&self, one: usize) -> Vec<&Node> {
        let state = self.state();
        let others = (0..self.nodes.len()).filter(|position| ![one, state.writer].contains(position) && state.is_up(*position));
        others.filter_map(|position| self.nodes.get(position)).collect()
    }

    fn same_zone(&self, one: usize, other: usize) -> bool {
        let instances = self.instances(&self.state());
        let zone = |position: usize| instances.get(position).map(|instance| &instance.zone);
        zone(one) == zone(other)
    }

    fn begin_record(&self, plan: &Plan, old: &Node) {
        self.state().failovers.push(Failover {
            fault: plan.fault,
            called: plan.called,
            from: old.name.clone(),
            to: None,
            stopped: Timestamp::now(),
            promoted: None,
            writable: None,
            steady: None,
            rejoined: None,
            truth: None,
        });
    }

    fn record(&self, change: impl FnOnce(&mut Failover)) {
        if let Some(failover) = self.state().failovers.last_mut() {
            change(failover);
        }
    }

    fn let_names_follow(&self, target: usize, lag: Duration) {
        let this = self.this.clone();
        self.spawn(async move {
            sleep(lag).await;
            if let Some(cluster) = this.upgrade() {
                cluster.update(|state| state.resolved_writer = target);
            }
        });
    }
}
