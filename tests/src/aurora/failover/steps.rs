//! What is done to the servers, one step of a failover each.

use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::{AssertSqlSafe, Connection};
use tokio::time::{Instant, sleep};

use super::super::behaviour::FLAP;
use super::super::node::{Node, Role};
use super::{Fault, PATIENCE};

/// Places the fault, and tells whether the old writer's address still answers.
pub(in super::super) async fn place(fault: Fault, old: &Node, new: &Node) -> anyhow::Result<bool> {
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
pub(in super::super) async fn fence(old: &Node, new: &Node, others: &[&Node]) -> anyhow::Result<()> {
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

/// Makes `new` the writer and lets the others follow it. As in Aurora its commits do not wait until they do: it acknowledges them alone until
/// [`wait_for_readers`]. None is lost by that, as nothing else befalls the writer before a failover has ended.
pub(in super::super) async fn promote(new: &Node, others: &[&Node]) -> anyhow::Result<()> {
    new.configure(&Role { writer: &new.name, follows: None, synchronous: false, read_only: false })?;
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

/// Has the commits of a new writer acknowledged only when a reader has them, as soon as one follows.
pub(in super::super) async fn wait_for_readers(new: &Node, others: &[&Node]) -> anyhow::Result<()> {
    let Some(reader) = others.first() else { return Ok(()) };
    wait_until_follows(reader, new).await?;
    new.configure(&Role { writer: &new.name, follows: None, synchronous: true, read_only: false })?;
    wait_until_waited_for(new, reader).await
}

/// Ends sessions whose transaction has written, which would otherwise wait for readers for ever.
pub(in super::super) async fn end_writing_sessions(old: &Node) -> anyhow::Result<()> {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND backend_xid IS NOT NULL";
    old.execute("postgres", end).await.context("end sessions that write")
}

/// Ends what is left of the old writer after a while.
pub(in super::super) async fn end_old_writer(fault: Fault, old: &Node, after: Duration) -> anyhow::Result<()> {
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

/// Lets a writer that accepts writes now refuse and now accept them for a while; at the end it accepts them.
pub(in super::super) async fn flap(writer: &Node, synchronous: bool, time: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    for read_only in [true, false].into_iter().cycle() {
        if !read_only && Instant::now() >= end {
            break;
        }
        writer.configure(&Role { writer: &writer.name, follows: None, synchronous, read_only })?;
        sleep(FLAP).await;
    }
    writer.configure(&Role { writer: &writer.name, follows: None, synchronous, read_only: false })
}

/// Makes the old writer accept writes again, and its readers follow it.
pub(in super::super) async fn restore(fault: Fault, old: &Node, readers: &[&Node]) -> anyhow::Result<()> {
    if fault == Fault::WriterHangs {
        old.kill().await?;
    }
    for reader in readers {
        reader.configure(&Role { writer: &old.name, follows: Some(old), synchronous: true, read_only: false })?;
    }
    old.configure(&Role { writer: &old.name, follows: None, synchronous: !readers.is_empty(), read_only: false })?;
    if fault == Fault::WriterTurnsReader { Ok(()) } else { old.start().await }
}

/// Brings the old writer back as a reader. After an orderly stop its data are a beginning of the new writer's: it only has to follow.
pub(in super::super) async fn rejoin(fault: Fault, old: &Node, new: &Node) -> anyhow::Result<()> {
    if fault == Fault::Planned && follow(old, new).await.is_ok() {
        return Ok(());
    }
    old.kill().await?;
    old.copy_from(new).await?;
    follow(old, new).await
}

pub(in super::super) async fn follow(old: &Node, new: &Node) -> anyhow::Result<()> {
    old.configure(&Role { writer: &new.name, follows: Some(new), synchronous: true, read_only: false })?;
    old.mark_standby()?;
    old.start().await?;
    wait_until_follows(old, new).await
}

/// Waits until `reader` receives from `writer`, and has all that was written until now.
pub(in super::super) async fn wait_until_follows(reader: &Node, writer: &Node) -> anyhow::Result<()> {
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
pub(in super::super) async fn wait_until_waited_for(writer: &Node, reader: &Node) -> anyhow::Result<()> {
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
