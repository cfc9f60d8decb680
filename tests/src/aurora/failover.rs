//! Moves the writer's role to another instance, and lets the old writer come back as a reader.
//!
//! No acknowledged commit is lost, because a commit is acknowledged only when a second instance has it, and because before a promotion
//! the readers stop receiving, are compared, and the promoted one first gets what the most advanced one has. Nothing here ever cancels a
//! statement: a commit that waits for a reader would then be acknowledged without it.

use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::cluster::{Cluster, Source, Status};
use super::node::{Node, Role};

/// How long a step may take that usually takes less than a second.
const PATIENCE: Duration = Duration::from_secs(30);

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone)]
pub struct Failover {
    /// What happened to the old writer.
    pub fault: Fault,
    /// The old writer.
    pub from: String,
    /// The new writer, once chosen.
    pub to: Option<String>,
    /// When the old writer stopped to accept writes: just before its fault was placed.
    pub stopped: Timestamp,
    /// When the promotion returned.
    pub promoted: Option<Timestamp>,
    /// When a first write on the new writer was acknowledged, with all guarantees.
    pub writable: Option<Timestamp>,
    /// When the old writer received changes again as a reader.
    pub rejoined: Option<Timestamp>,
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
    /// The wanted writer is down.
    #[error("{0} is not available")]
    Down(String),
}

impl Cluster {
    /// Begins a failover, which then goes on by itself.
    pub fn begin_failover(&self, fault: Fault, target: Option<&str>) -> Result<JoinHandle<anyhow::Result<Failover>>, Refused> {
        let guard = self.operation.clone().try_lock_owned().map_err(|_| Refused::InProgress)?;
        let target = self.choose(target)?;
        let Some(this) = self.this.upgrade() else { return Err(Refused::InProgress) };
        if fault == Fault::Planned {
            self.update(|state| state.status = Status::FailingOver);
        }
        Ok(self.spawn(async move {
            let outcome = this.fail_over(fault, target).await;
            if let Err(error) = &outcome {
                tracing::error!(%error, "a failover of the local Aurora failed, and the cluster is in an undefined state");
                let message = "Cluster failover failed, check the health of your cluster instances and try again.";
                this.tell(Source::Cluster, "failover", message.to_owned());
            }
            drop(guard);
            outcome
        }))
    }

    /// The wanted instance, or the one with the lowest promotion tier, which is its position.
    fn choose(&self, target: Option<&str>) -> Result<usize, Refused> {
        let state = self.state();
        match target {
            None => (0..self.nodes.len()).find(|position| *position != state.writer && state.is_up(*position)).ok_or(Refused::NoReader),
            Some(name) => match self.position(name) {
                None => Err(Refused::Unknown(name.to_owned())),
                Some(position) if position == state.writer => Err(Refused::IsWriter(name.to_owned())),
                Some(position) if !state.is_up(position) => Err(Refused::Down(name.to_owned())),
                Some(position) => Ok(position),
            },
        }
    }

    async fn fail_over(&self, fault: Fault, target: usize) -> anyhow::Result<Failover> {
        let (timing, from) = {
            let state = self.state();
            (state.timing, state.writer)
        };
        let (old, new) = (self.node(from)?, self.node(target)?);
        let others: Vec<&Node> = self.nodes.iter().filter(|node| node.name != old.name && node.name != new.name).collect();
        self.begin_record(fault, old);

        let still_answers = place(fault, old, new).await?;
        self.update(|state| state.set_up(from, still_answers));
        if matches!(fault, Fault::WriterKilled | Fault::WriterHangs) {
            sleep(timing.detection).await;
        }
        self.update(|state| state.status = Status::FailingOver);
        self.record(|failover| failover.to = Some(new.name.clone()));
        let zones = if self.same_zone(from, target) { "same" } else { "cross" };
        self.tell(Source::Cluster, "failover", format!("Started {zones} AZ failover to DB instance: {}", new.name));

        fence(old, new, &others).await?;
        if fault == Fault::WriterTurnsReader {
            end_writing_sessions(old).await?;
        }
        sleep(timing.promotion).await;
        promote(new, &others).await?;
        self.record(|failover| failover.promoted = Some(Timestamp::now()));
        self.update(|state| state.writer = target);
        self.let_names_follow(target, timing.names);
        first_write(new).await?;
        self.record(|failover| failover.writable = Some(Timestamp::now()));
        self.tell(Source::Cluster, "failover", format!("Completed failover to DB instance: {}", new.name));

        end_old_writer(fault, old, timing.rejoin).await?;
        self.update(|state| state.set_up(from, false));
        rejoin(fault, old, new).await?;
        new.configure(&Role { writer: &new.name, follows: None, synchronous: true, read_only: false })?;
        wait_until_waited_for(new, old).await?;
        self.record(|failover| failover.rejoined = Some(Timestamp::now()));
        self.tell(Source::Instance(old.name.clone()), "availability", "DB instance restarted".to_owned());
        self.update(|state| {
            state.set_up(from, true);
            state.status = Status::Available;
        });
        self.endpoints_settled().await;
        self.state().failovers.last().cloned().context("the failover's record")
    }

    fn same_zone(&self, one: usize, other: usize) -> bool {
        let instances = self.instances(&self.state());
        let zone = |position: usize| instances.get(position).map(|instance| &instance.zone);
        zone(one) == zone(other)
    }

    fn begin_record(&self, fault: Fault, old: &Node) {
        let (from, stopped) = (old.name.clone(), Timestamp::now());
        self.state().failovers.push(Failover { fault, from, to: None, stopped, promoted: None, writable: None, rejoined: None });
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

/// Places the fault, and tells whether the old writer's address still answers.
async fn place(fault: Fault, old: &Node, new: &Node) -> anyhow::Result<bool> {
    match fault {
        Fault::Planned => old.stop().await?,
        Fault::WriterKilled => old.kill().await?,
        Fault::WriterHangs => old.freeze(),
        Fault::WriterTurnsReader => old.configure(&Role { writer: &new.name, follows: None, synchronous: true, read_only: true })?,
    }
    Ok(matches!(fault, Fault::WriterHangs | Fault::WriterTurnsReader))
}

/// Cuts all readers off from the old writer, which may only hang, so that it can acknowledge nothing more; then makes sure that the new
/// writer has all that any of them has.
async fn fence(old: &Node, new: &Node, others: &[&Node]) -> anyhow::Result<()> {
    let mut furthest: Option<(i64, &Node)> = None;
    let readers: Vec<&Node> = others.iter().copied().chain([new]).collect();
    for node in &readers {
        node.configure(&Role { writer: &old.name, follows: None, synchronous: true, read_only: false })?;
    }
    for node in readers {
        wait_until_cut_off(node).await?;
        let position = received(node).await?;
        if furthest.is_none_or(|(most, _)| position >= most) {
            furthest = Some((position, node));
        }
    }
    if let Some((position, node)) = furthest.filter(|(_, node)| node.name != new.name) {
        new.configure(&Role { writer: &old.name, follows: Some(node), synchronous: true, read_only: false })?;
        until(new, format!("SELECT {RECEIVED} >= {position}"), &format!("{} has what {} has", new.name, node.name)).await?;
        new.configure(&Role { writer: &old.name, follows: None, synchronous: true, read_only: false })?;
        wait_until_cut_off(new).await?;
    }
    Ok(())
}

/// Makes `new` the writer and lets the others follow it. With nobody to follow it, commits are acknowledged by the writer alone until the
/// old one has come back.
async fn promote(new: &Node, others: &[&Node]) -> anyhow::Result<()> {
    new.configure(&Role { writer: &new.name, follows: None, synchronous: !others.is_empty(), read_only: false })?;
    let mut connection = new.connect().await?;
    sqlx::raw_sql("SELECT pg_promote(false)").execute(&mut connection).await.context("promote")?;
    let deadline = Instant::now() + PATIENCE;
    // Asked often, as pg_promote itself looks only each 100 ms.
    while sqlx::query_scalar::<_, bool>("SELECT pg_is_in_recovery()").fetch_one(&mut connection).await? {
        if Instant::now() > deadline {
            bail!("{} was promoted and is still a reader: look at its log {}", new.name, new.log().display());
        }
        sleep(Duration::from_millis(2)).await;
    }
    for other in others {
        other.configure(&Role { writer: &new.name, follows: Some(new), synchronous: true, read_only: false })?;
    }
    connection.close().await.ok();
    Ok(())
}

/// Writes until a write is acknowledged. Leaves no trace in any table.
async fn first_write(new: &Node) -> anyhow::Result<()> {
    let write = new.execute("postgres", "SELECT pg_logical_emit_message(true, 'durable-write', 'first write')");
    timeout(PATIENCE, write).await.with_context(|| format!("a first write on {} is not acknowledged", new.name))?
}

/// Ends sessions whose transaction has written, which would otherwise wait for readers for ever.
async fn end_writing_sessions(old: &Node) -> anyhow::Result<()> {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND backend_xid IS NOT NULL";
    old.execute("postgres", end).await.context("end sessions that write")
}

/// Ends what is left of the old writer after a while.
async fn end_old_writer(fault: Fault, old: &Node, after: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + after;
    if fault == Fault::WriterTurnsReader {
        while Instant::now() < end {
            end_writing_sessions(old).await?;
            sleep(Duration::from_millis(50)).await;
        }
        return old.stop().await;
    }
    tokio::time::sleep_until(end).await;
    if fault == Fault::WriterHangs { old.kill().await } else { Ok(()) }
}

/// Brings the old writer back as a reader. After an orderly stop its data are a beginning of the new writer's: it only has to follow.
async fn rejoin(fault: Fault, old: &Node, new: &Node) -> anyhow::Result<()> {
    if fault == Fault::Planned && follow(old, new).await.is_ok() {
        return Ok(());
    }
    old.kill().await?;
    old.copy_from(new).await?;
    follow(old, new).await
}

async fn follow(old: &Node, new: &Node) -> anyhow::Result<()> {
    old.configure(&Role { writer: &new.name, follows: Some(new), synchronous: true, read_only: false })?;
    old.mark_standby()?;
    old.start().await?;
    wait_until_follows(old, new).await
}

/// Waits until `reader` receives from `writer`, and has all that was written until now.
pub(super) async fn wait_until_follows(reader: &Node, writer: &Node) -> anyhow::Result<()> {
    let mut connection = writer.connect().await?;
    let written: String = sqlx::query_scalar("SELECT pg_current_wal_lsn()::text").fetch_one(&mut connection).await?;
    connection.close().await.ok();
    let query = format!(
        "SELECT count(*) > 0 FROM pg_stat_replication WHERE application_name = '{}' AND state = 'streaming' AND replay_lsn >= '{written}'",
        reader.name
    );
    until(writer, query, &format!("{} follows {}", reader.name, writer.name)).await
}

/// Waits until the commits of `writer` are acknowledged only when a reader such as `reader` has them.
async fn wait_until_waited_for(writer: &Node, reader: &Node) -> anyhow::Result<()> {
    let name = &reader.name;
    let query = format!("SELECT count(*) > 0 FROM pg_stat_replication WHERE application_name = '{name}' AND sync_state = 'quorum'");
    until(writer, query, &format!("{} waits for {name}", writer.name)).await
}

async fn wait_until_cut_off(node: &Node) -> anyhow::Result<()> {
    // The setting is asked for as well: it shows that the server has read it.
    let query = "SELECT current_setting('primary_conninfo') = '' AND NOT EXISTS (SELECT FROM pg_stat_wal_receiver)";
    until(node, query.to_owned(), &format!("{} has stopped to receive", node.name)).await
}

/// How far a reader has received the writer's changes, in bytes.
const RECEIVED: &str = "(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0')::bigint";

async fn received(node: &Node) -> anyhow::Result<i64> {
    let mut connection = node.connect().await?;
    let query = AssertSqlSafe(format!("SELECT {RECEIVED}"));
    let position =
        sqlx::query_scalar(query).fetch_one(&mut connection).await.with_context(|| format!("ask {} how far it is", node.name))?;
    connection.close().await.ok();
    Ok(position)
}

/// Asks a server until it says yes.
async fn until(node: &Node, query: String, what: &str) -> anyhow::Result<()> {
    let mut connection = node.connect().await?;
    let deadline = Instant::now() + PATIENCE;
    while !sqlx::query_scalar::<_, bool>(AssertSqlSafe(query.as_str())).fetch_one(&mut connection).await? {
        if Instant::now() > deadline {
            bail!("not within {} s: {what}; the instances' logs say why", PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(5)).await;
    }
    connection.close().await.ok();
    Ok(())
}
