//! Documents that parts of the system exchange: what a worker says of itself at `/state`, and the topology that the operator gives it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a worker says of itself at `/state`. It holds no message body and no secret.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WorkerState {
    /// The worker's version.
    pub version: String,
    /// When this was written.
    pub at: Timestamp,
    /// Whether messages can be written now.
    pub flowing: Report,
    /// Whether queue and dead-letter queue can be used.
    pub queue_ready: Report,
    /// Whether database and table can be used.
    pub database_ready: Report,
    /// Whether somebody must act.
    pub stalled: Report,
    /// True from the moment when queue and table have both been checked once and found good.
    pub checked: bool,
    /// The queue.
    pub queue: QueueState,
    /// The database.
    pub database: DatabaseState,
    /// What was counted since the start.
    pub counters: Counters,
}

/// One condition, as a worker sees it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// True, false, or not known yet.
    pub status: Option<bool>,
    /// One of [`crate::conditions::reasons`].
    pub reason: String,
    /// What it is and what to do.
    pub message: String,
    /// When `status` last changed.
    pub since: Timestamp,
}

/// The queue, as a worker sees it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct QueueState {
    /// Messages that wait to be received.
    pub visible: Option<i64>,
    /// Messages received and not yet deleted.
    pub in_flight: Option<i64>,
    /// Messages in the dead-letter queue.
    pub dead_lettered: Option<i64>,
    /// How long the queue keeps a message, in seconds.
    pub retention_seconds: Option<i64>,
    /// When the oldest message was sent that may still be in the queue: of those held now, or else of those received last.
    pub oldest_seen: Option<Timestamp>,
}

/// The database, as a worker sees it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseState {
    /// The instance that accepts this worker's writes.
    pub writer: Option<String>,
}

/// What a worker counted since its start.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Messages received.
    pub received: u64,
    /// Rows written.
    pub written: u64,
    /// Messages whose row was there already.
    pub duplicates: u64,
    /// Messages deleted from the queue.
    pub acknowledged: u64,
    /// Messages sent to the dead-letter queue.
    pub dead_lettered: u64,
    /// Messages given back to the queue unwritten.
    pub released: u64,
    /// Messages held now.
    pub held: u64,
    /// Times that the writer was lost.
    pub outages: u64,
}

/// Where the database's servers are: the form of `--topology` and of the topology ConfigMap.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    /// The endpoint that follows the writer, as `host:port`.
    pub writer: String,
    /// Every instance.
    pub instances: Vec<TopologyInstance>,
    /// The Aurora cluster's resource identifier (`cluster-…`), which policies for logins by IAM name; only there where logins are by IAM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
}

/// One instance of the database.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TopologyInstance {
    /// The instance's identifier, as `aurora_db_instance_identifier()` gives it.
    pub name: String,
    /// Its own endpoint, as `host:port`.
    pub endpoint: String,
}
