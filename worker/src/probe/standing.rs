//! Who takes writes now: asked of readers on connections that stand since the baseline, of all others on new ones. An outage then costs nobody
//! a storm of new connections, which on a busy machine end long after what they were to measure.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use durable_write_crds::probe::ATTEMPT_MILLISECONDS;
use futures::future::join_all;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::clock::{At, Clock};
use super::servers::Server;
use crate::database::failure::failure;
use crate::problem::Problem;

/// A connection that another write has been asking on for so long is passed by: it may hang.
const IN_USE: Duration = Duration::from_millis(300);

const WRITABLE: &str = "SELECT NOT (pg_is_in_recovery() OR current_setting('transaction_read_only')::bool)";

/// What a server said.
pub(super) struct Answer {
    pub(super) server: Arc<str>,
    /// When that which it answers to was sent.
    pub(super) asked: At,
    pub(super) answered: At,
    /// A new connection, if it takes writes.
    pub(super) said: Result<Option<PgConnection>, Problem>,
}

/// A connection to a reader. Who asks on it takes it out, so that it is gone when that is broken off.
type Slot = Arc<tokio::sync::Mutex<Option<PgConnection>>>;

/// The connections that stand, by the servers' names.
#[derive(Clone, Default)]
pub(super) struct Standing(Arc<Mutex<HashMap<Arc<str>, Slot>>>);

impl Standing {
    fn slot(&self, server: &Server) -> Slot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(server.name.clone()).or_default().clone()
    }

    /// Asks a server whether it takes writes. One that said no keeps its connection; one that says yes, or nothing good, is asked on a new one.
    pub(super) async fn ask(&self, clock: Clock, server: &Server) -> Answer {
        let slot = self.slot(server);
        let mut asked = clock.now();
        let said = match ask_standing(clock, &mut asked, &slot).await {
            true => Ok(None),
            false => ask_anew(clock, &mut asked, server, &slot).await,
        };
        Answer { server: server.name.clone(), asked, answered: clock.now(), said }
    }

    /// Has a connection to each of these servers that is a reader.
    pub(super) async fn keep(&self, clock: Clock, servers: Vec<Server>) {
        let limit = Duration::from_millis(ATTEMPT_MILLISECONDS);
        join_all(servers.iter().map(|server| timeout(limit, self.ask(clock, server)))).await;
    }
}

/// True when there is a connection, and the server says on it that it is a reader.
async fn ask_standing(clock: Clock, asked: &mut At, slot: &Slot) -> bool {
    let Ok(mut slot) = timeout(IN_USE, slot.lock()).await else { return false };
    let Some(mut reader) = slot.take() else { return false };
    *asked = clock.now();
    let reads = matches!(is_writable(&mut reader).await, Ok(false));
    *slot = Some(reader).filter(|_| reads);
    reads
}

async fn ask_anew(clock: Clock, asked: &mut At, server: &Server, slot: &Slot) -> Result<Option<PgConnection>, Problem> {
    *asked = clock.now();
    let mut connection = server.connect().await?;
    *asked = clock.now();
    if is_writable(&mut connection).await? {
        return Ok(Some(connection));
    }
    // The cluster endpoint may lead elsewhere next time.
    if !server.name.is_empty()
        && let Ok(mut slot) = slot.try_lock()
    {
        slot.get_or_insert(connection);
    }
    Ok(None)
}

async fn is_writable(connection: &mut PgConnection) -> Result<bool, Problem> {
    let answer = sqlx::query_scalar(WRITABLE).persistent(false).fetch_one(connection).await;
    answer.map_err(|error| failure(&error).problem)
}

/// Connects, and keeps the connection if the server takes writes.
pub(super) async fn ask(server: &Server) -> Result<Option<PgConnection>, Problem> {
    let mut connection = server.connect().await?;
    match is_writable(&mut connection).await? {
        true => Ok(Some(connection)),
        false => {
            connection.close().await.ok();
            Ok(None)
        }
    }
}
