//! One who writes all the time at a server itself, and so knows when writes stop and when they come back.
//!
//! One session, one commit after the other with a pause of a millisecond, by the server's socket. What it writes is waited for by readers as
//! any commit is, is refused where transactions are read-only, and leaves no trace in any table. It ends with SQLSTATE 25006 on a reader,
//! and goes on with the same session when that one is promoted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::super::node::Node;

/// A commit wherever a commit is allowed.
const WRITE: &str = "DO $$ BEGIN
  IF current_setting('transaction_read_only')::bool THEN RAISE read_only_sql_transaction; END IF;
  PERFORM pg_logical_emit_message(true, 'durable-write', 'witness');
END $$";
const PAUSE: Duration = Duration::from_millis(1);

/// A moment by the machine's clock and by the monotonic one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub at: Timestamp,
    pub instant: Instant,
}

impl Moment {
    pub fn now() -> Self {
        Self { at: Timestamp::now(), instant: Instant::now() }
    }
}

/// An attempt from its begin to its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    pub begin: Moment,
    pub end: Moment,
}

/// What a witness has seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// The first commit that was acknowledged.
    pub first: Option<Attempt>,
    /// The last one.
    pub last: Option<Attempt>,
    /// The last attempt that failed before the first commit.
    pub refused_before: Option<Attempt>,
    /// The first attempt that failed after the last commit.
    pub refused_after: Option<Attempt>,
}

/// Writes until it is dropped.
pub(super) struct Witness {
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Witness {
    /// Begins to write at a server, which need not run yet.
    pub fn start(node: &Node) -> Self {
        let (seen, changed) = (Arc::<Mutex<Seen>>::default(), Arc::<Notify>::default());
        let task = tokio::spawn(write(node.admin_options(), Arc::clone(&seen), Arc::clone(&changed)));
        Self { seen, changed, task }
    }

    /// What it has seen until now.
    pub fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for its first commit.
    pub async fn first_commit(&self, patience: Duration) -> anyhow::Result<Attempt> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if let Some(first) = self.seen().first {
                    return first;
                }
                changed.await;
            }
        };
        timeout(patience, wait).await.context("no write is acknowledged; the instances' logs say why")
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn write(options: PgConnectOptions, seen: Arc<Mutex<Seen>>, changed: Arc<Notify>) {
    let mut connection = None;
    loop {
        let begin = Moment::now();
        let acknowledged = attempt(&options, &mut connection).await;
        let attempt = Attempt { begin, end: Moment::now() };
        seen.lock().unwrap_or_else(PoisonError::into_inner).add(acknowledged, attempt);
        changed.notify_one();
        sleep(PAUSE).await;
    }
}

async fn attempt(options: &PgConnectOptions, connection: &mut Option<PgConnection>) -> bool {
    if connection.is_none() {
        *connection = PgConnection::connect_with(options).await.ok();
    }
    let Some(open) = connection else { return false };
    match sqlx::raw_sql(WRITE).execute(open).await {
        Ok(_) => true,
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == "25006") => false,
        Err(_) => {
            *connection = None;
            false
        }
    }
}

impl Seen {
    fn add(&mut self, acknowledged: bool, attempt: Attempt) {
        if acknowledged {
            self.first.get_or_insert(attempt);
            self.last = Some(attempt);
            self.refused_after = None;
        } else if self.first.is_none() {
            self.refused_before = Some(attempt);
        } else {
            self.refused_after.get_or_insert(attempt);
        }
    }
}
