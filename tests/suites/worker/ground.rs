//! What the tests of the worker share: a database cluster, a queue server, and for each test a pipeline with a database, a user and queues
//! of its own.

use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_sdk_sqs::types::{Message, MessageAttributeValue, SendMessageBatchRequestEntry};
use durable_write_crds::wire::{Topology, TopologyInstance, WorkerState};
use durable_write_testbed::aurora::{Aurora, AuroraOptions, Timing};
use durable_write_testbed::sqs::{self, Queue, Sqs};
use durable_write_testbed::worker::{Mounts, Worker};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, FromRow, PgConnection};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

/// How long a worker may take for what it does at once on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(90);
/// How long a lost receive may keep messages away: the worker's visibility, and a little.
pub const REDELIVERED: Duration = Duration::from_secs(100);

/// A database cluster, and what its endpoints run on when the test that started it is not the only one to use it.
pub struct Cluster {
    aurora: Aurora,
    runtime: Option<Runtime>,
}

impl Deref for Cluster {
    type Target = Aurora;

    fn deref(&self) -> &Aurora {
        &self.aurora
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The cluster that tests share; it ends with the last that uses it. Nobody may place a fault in it.
pub async fn shared_cluster() -> Arc<Cluster> {
    static SHARED: tokio::sync::Mutex<Weak<Cluster>> = tokio::sync::Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(cluster) = shared.upgrade() {
        return cluster;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let aurora = runtime.spawn(Aurora::start(AuroraOptions::default())).await.unwrap().unwrap();
    let cluster = Arc::new(Cluster { aurora, runtime: Some(runtime) });
    *shared = Arc::downgrade(&cluster);
    cluster
}

/// A cluster of one test's own, in which faults can be placed.
pub async fn own_cluster(timing: Timing) -> Arc<Cluster> {
    let aurora = Aurora::start(AuroraOptions { timing, ..AuroraOptions::default() }).await.unwrap();
    Arc::new(Cluster { aurora, runtime: None })
}

/// A table of orders with the order in which rows were inserted.
pub const ORDERS: &str = "CREATE TABLE orders (id text PRIMARY KEY, team text, number bigint, place bigint GENERATED ALWAYS AS IDENTITY)";

/// The columns of [`ORDERS`].
pub fn order_columns() -> Value {
    json!([
        {"name": "id", "from": {"body": "/id"}},
        {"name": "team", "from": {"body": "/team"}},
        {"name": "number", "from": {"body": "/number"}},
    ])
}

/// A message to send.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    pub body: String,
    /// On a FIFO queue: its group.
    pub group: Option<String>,
    pub attributes: Vec<(String, MessageAttributeValue)>,
}

impl Outgoing {
    pub fn new(body: impl Into<String>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }
}

/// The orders `range` of a team, in their order; the team is the group on a FIFO queue.
pub fn orders(team: &str, range: std::ops::Range<u32>, fifo: bool) -> Vec<Outgoing> {
    let order = |number| Outgoing {
        body: json!({"id": format!("{team}-{number}"), "team": team, "number": number}).to_string(),
        group: fifo.then(|| team.to_owned()),
        attributes: Vec::new(),
    };
    range.map(order).collect()
}

/// A pipeline with a database, a user, queues and mounts of its own.
pub struct Pipeline {
    pub name: String,
    /// The database that holds the table.
    pub database: String,
    pub cluster: Arc<Cluster>,
    pub client: aws_sdk_sqs::Client,
    /// Where its workers reach the queues.
    pub sqs_endpoint: String,
    pub queue: Queue,
    pub dead_letters: Queue,
    pub mounts: Mounts,
    pub manifest: Value,
}

impl Pipeline {
    /// A pipeline from a queue (FIFO, when the name ends in `.fifo`) into the table `orders` of [`ORDERS`].
    pub async fn of_orders(cluster: Arc<Cluster>, queue: &str) -> Self {
        Self::new(cluster, queue, ORDERS, order_columns(), &["id"]).await
    }

    /// A pipeline into the table `orders` that `table` creates.
    pub async fn new(cluster: Arc<Cluster>, queue: &str, table: &str, columns: Value, key: &[&str]) -> Self {
        let sqs = Sqs::shared().await.unwrap();
        let client = sqs.client();
        let (queue, dead_letters) = sqs::create_queue_with_dead_letters(&client, queue, 5).await.unwrap();
        let name = queue.name.replace('.', "-");
        let manifest = json!({
            "apiVersion": "durablewrite.dev/v1alpha1",
            "kind": "DurableWritePipeline",
            "metadata": {"name": name},
            "spec": {
                "queue": {"name": queue.name},
                "database": {
                    "aurora": {"clusterIdentifier": cluster.identifier()},
                    "name": name,
                    "credentials": {"secretRef": {"name": "database"}},
                    "tls": {"ca": {"configMapKeyRef": {"name": "authority", "key": "ca.crt"}}},
                },
                "target": {"table": {"name": "orders"}, "columns": columns},
                "idempotency": {"targetKey": {"columns": key}},
            },
        });
        let pipeline = Self {
            database: name.clone(),
            name,
            cluster,
            client,
            sqs_endpoint: sqs.endpoint(),
            queue,
            dead_letters,
            mounts: Mounts::new().unwrap(),
            manifest,
        };
        pipeline.create_database(table).await;
        pipeline.mounts.write_topology(&pipeline.topology()).unwrap();
        pipeline.mounts.write_config_map("authority", "ca.crt", pipeline.cluster.ca_pem()).unwrap();
        pipeline.set_password("correct");
        pipeline
    }

    async fn create_database(&self, table: &str) {
        let name = &self.name;
        let mut admin = self.cluster.admin_options().unwrap().disable_statement_logging().connect().await.unwrap();
        for statement in [format!(r#"CREATE ROLE "{name}" LOGIN PASSWORD 'correct'"#), format!(r#"CREATE DATABASE "{name}""#)] {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
        }
        admin.close().await.unwrap();
        self.sql(&format!(r#"ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT ON TABLES TO "{name}""#)).await;
        self.sql(&format!(r#"ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO "{name}""#)).await;
        self.sql(table).await;
    }

    /// Where the servers are, as the operator would say.
    pub fn topology(&self) -> Topology {
        let instances = self.cluster.instances().into_iter();
        Topology {
            writer: self.cluster.cluster_endpoint(),
            instances: instances.map(|instance| TopologyInstance { name: instance.name, endpoint: instance.endpoint }).collect(),
            resource_id: None,
        }
    }

    /// Writes the credentials Secret. The user's password is `correct`.
    pub fn set_password(&self, password: &str) {
        self.mounts.write_secret("database", "username", &self.name).unwrap();
        self.mounts.write_secret("database", "password", password).unwrap();
    }

    /// From now on the user logs in by IAM, and has no password. Who may be that user is the cluster's to say.
    pub async fn log_in_by_iam(&mut self) {
        let name = self.name.clone();
        self.sql(&format!(r#"ALTER ROLE "{name}" PASSWORD NULL; GRANT rds_iam TO "{name}""#)).await;
        self.set("/database/credentials", json!({"iam": {"username": name}}));
        std::fs::remove_dir_all(self.mounts.path().join("secrets")).unwrap();
    }

    /// Changes one field of the manifest's spec, by its JSON Pointer.
    pub fn set(&mut self, pointer: &str, value: Value) {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        self.manifest["spec"].pointer_mut(parent).unwrap()[name] = value;
    }

    /// Starts a worker.
    pub fn start(&self) -> Worker {
        self.mounts.write_manifest(&self.manifest.to_string()).unwrap();
        Worker::start(&self.mounts, &self.sqs_endpoint).unwrap()
    }

    fn admin_options(&self) -> PgConnectOptions {
        self.cluster.admin_options().unwrap().database(&self.database).disable_statement_logging()
    }

    /// A connection of the superuser to the pipeline's database on the writer.
    pub async fn admin(&self) -> PgConnection {
        self.admin_options().connect().await.unwrap()
    }

    /// Runs a script as superuser.
    pub async fn sql(&self, script: &str) {
        let mut admin = self.admin().await;
        sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut admin).await.unwrap();
        admin.close().await.unwrap();
    }

    /// The rows of a query, asked as superuser.
    pub async fn rows<T>(&self, query: &str) -> Vec<T>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut admin = self.admin().await;
        let rows = sqlx::query_as(AssertSqlSafe(query)).fetch_all(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        rows
    }

    /// How many orders are in the table.
    pub async fn count(&self) -> usize {
        let rows: Vec<(i64,)> = self.rows("SELECT count(*) FROM orders").await;
        rows[0].0.try_into().unwrap()
    }

    /// Sends messages; those of a FIFO queue one batch after the other.
    pub async fn send(&self, messages: &[Outgoing]) {
        let fifo = self.queue.name.ends_with(".fifo");
        let most = messages.iter().map(|message| message.body.len()).max().unwrap_or(0);
        let batch = (200_000 / most.max(1)).clamp(1, 10);
        let sends = messages.chunks(batch).map(|batch| self.send_batch(batch));
        futures::stream::iter(sends).buffer_unordered(if fifo { 1 } else { 8 }).try_collect::<()>().await.unwrap();
    }

    async fn send_batch(&self, messages: &[Outgoing]) -> anyhow::Result<()> {
        let mut call = self.client.send_message_batch().queue_url(&self.queue.url);
        for (index, message) in messages.iter().enumerate() {
            let mut entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(&message.body);
            for (name, value) in &message.attributes {
                entry = entry.message_attributes(name, value.clone());
            }
            if let Some(group) = &message.group {
                entry = entry.message_group_id(group).message_deduplication_id(format!("{:032x}", rand::random::<u128>()));
            }
            call = call.entries(entry.build()?);
        }
        let answer = call.send().await?;
        anyhow::ensure!(answer.failed.is_empty(), "a send failed: {:?}", answer.failed);
        Ok(())
    }

    /// How many messages are left in the queue.
    pub async fn left(&self) -> u64 {
        sqs::depth(&self.client, &self.queue.url).await.unwrap().total()
    }

    /// Waits until the worker has emptied the queue.
    pub async fn emptied(&self, worker: &mut Worker, within: Duration) -> WorkerState {
        until("the queue is empty", within, async || self.left().await == 0).await;
        let since = Timestamp::now();
        worker.wait_for("nothing is held", SOON, |state| state.at > since && state.counters.held == 0).await.unwrap()
    }

    /// All dead letters, taken out of their queue.
    pub async fn take_dead_letters(&self) -> Vec<Message> {
        sqs::drain_all(&self.client, &self.dead_letters.url).await.unwrap()
    }

    /// The rows are exactly these orders, and no dead letter is there.
    pub async fn assert_exactly(&self, sent: &[Outgoing]) {
        let mut rows: Vec<String> = self.rows("SELECT id FROM orders").await.into_iter().map(|(id,)| id).collect();
        let mut wanted: Vec<String> = sent.iter().map(|message| id(&message.body)).collect();
        rows.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(rows.len(), wanted.len(), "rows and messages sent");
        assert!(rows == wanted, "other rows than were sent");
        assert_eq!(sqs::depth(&self.client, &self.dead_letters.url).await.unwrap().total(), 0, "dead letters");
    }

    /// The rows of each team were inserted in the order of their numbers, if the queue keeps one.
    pub async fn assert_in_order(&self) {
        if !self.queue.name.ends_with(".fifo") {
            return;
        }
        let disorder = "SELECT id, number, before FROM (
            SELECT id, number, lag(number) OVER (PARTITION BY team ORDER BY place) AS before FROM orders) AS rows WHERE number <= before";
        let disorder: Vec<(String, i64, i64)> = self.rows(disorder).await;
        assert!(disorder.is_empty(), "inserted after a later one of its group: {disorder:?}");
    }
}

fn id(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    body["id"].as_str().unwrap().to_owned()
}

/// Waits until something holds.
pub async fn until(what: &str, within: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + within;
    while !holds().await {
        assert!(Instant::now() < end, "not within {} s: {what}", within.as_secs());
        sleep(Duration::from_millis(50)).await;
    }
}
