//! What all measurements stand on: a database cluster with its readers, a queue server, and the files of a pipeline.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use durable_write_crds::layout;
use durable_write_crds::wire::{Topology, TopologyInstance};
use durable_write_worker::schema;
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use tokio::time::{Instant, sleep};

use super::{consumer::Consumer, rival};
use crate::aurora::{Aurora, AuroraOptions};
use crate::sqs::{self, Queue, Sqs};
use crate::worker::Mounts;

/// The table that is written.
pub(super) const TABLE: &str = "shop.orders";
const SCHEMA: &str = include_str!("../../sql/orders.sql");
const USER: &str = "worker";
const PASSWORD: &str = "of the benchmark";
/// Within this an empty queue is seen as such: often enough for drains of seconds, too seldom to cost the server much.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A database with the table, a queue server, and a folder for consumers.
pub(super) struct Ground {
    pub aurora: Aurora,
    pub sqs: Sqs,
    pub client: aws_sdk_sqs::Client,
    worker: PathBuf,
    /// What the worker's pod would have mounted, and the consumers' logs.
    mounts: Mounts,
}

impl Ground {
    /// Starts all, for the worker at this path. Usually 5 s.
    pub(super) async fn start(worker: &Path) -> anyhow::Result<Self> {
        let worker = fs::canonicalize(worker)
            .with_context(|| format!("no {}: build it with `cargo build --release -p durable-write-worker`", worker.display()))?;
        let aurora = Aurora::start(AuroraOptions::default()).await?;
        let sqs = Sqs::start(&[Ipv4Addr::LOCALHOST.into()], 0).await?;
        let ground = Self { client: sqs.client(), aurora, sqs, worker, mounts: Mounts::new()? };
        ground.execute(SCHEMA).await?;
        let role = format!(
            "CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'; GRANT USAGE ON SCHEMA shop TO {USER}; GRANT SELECT, INSERT ON {TABLE} TO {USER}"
        );
        ground.execute(&role).await?;
        ground.mounts.write_secret("database", "username", USER)?;
        ground.mounts.write_secret("database", "password", PASSWORD)?;
        ground.mounts.write_config_map("authority", "ca.crt", ground.aurora.ca_pem())?;
        ground.mounts.write_topology(&ground.topology())?;
        Ok(ground)
    }

    fn topology(&self) -> Topology {
        let instances = self.aurora.instances().into_iter();
        Topology {
            writer: self.aurora.cluster_endpoint(),
            instances: instances.map(|instance| TopologyInstance { name: instance.name, endpoint: instance.endpoint }).collect(),
            resource_id: None,
        }
    }

    /// A connection of the superuser to the writer.
    pub(super) async fn admin(&self) -> anyhow::Result<PgConnection> {
        Ok(self.aurora.admin_options()?.database("postgres").disable_statement_logging().connect().await?)
    }

    /// Runs a script as superuser.
    pub(super) async fn execute(&self, script: &str) -> anyhow::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut self.admin().await?).await?;
        Ok(())
    }

    /// Starts the worker on a queue.
    pub(super) fn start_worker(&self, queue: &Queue, sqs_endpoint: &str) -> anyhow::Result<Consumer> {
        self.mounts.write_manifest(&self.manifest(queue).to_string())?;
        let mounts = self.mounts.path();
        let mut command = Command::new(&self.worker);
        command.arg("run").arg(mounts.join(layout::MANIFEST)).arg("--mounts").arg(mounts).args(["--listen", "127.0.0.1:0"]);
        command.envs(aws(sqs_endpoint)).env("AWS_EC2_METADATA_DISABLED", "true");
        Consumer::start("the worker", command, &mounts.join("worker.log"))
    }

    /// Makes the tables that probes write.
    pub(super) async fn make_tables_of_drills(&self) -> anyhow::Result<()> {
        schema::apply_drills(&mut self.admin().await?, USER).await
    }

    /// Starts a drill's probe on a queue. It measures nothing: with a backlog its baseline is never steady.
    pub(super) fn start_probe(&self, queue: &Queue) -> anyhow::Result<Consumer> {
        self.mounts.write_manifest(&self.manifest(queue).to_string())?;
        let (mounts, instances) = (self.mounts.path(), self.aurora.instances());
        let name = |writer| instances.iter().find(|instance| instance.writer == writer).map(|instance| instance.name.clone());
        let plan = json!({
            "drill": uid(), "drillName": "bench", "resourceId": queue.name, "writer": name(true), "target": name(false),
            "maxReplicaLag": "1s", "messagesPerSecond": 50, "directWriteInterval": "100ms", "directPath": "Instances",
            "warmUp": "20s", "coolDown": "30s", "backlogDrained": "5m", "deadline": "15m",
        });
        let mut command = Command::new(&self.worker);
        command.arg("probe").arg("--mounts").arg(mounts).arg("--plan").arg(plan.to_string()).args(["--listen", "127.0.0.1:0"]);
        command.arg("--result").arg(mounts.join("result")).envs(aws(&self.sqs.endpoint())).env("AWS_EC2_METADATA_DISABLED", "true");
        Consumer::start("the probe", command, &mounts.join("probe.log"))
    }

    /// Starts the rival on a queue.
    pub(super) fn start_rival(&self, program: &Path, queue: &Queue, sqs_endpoint: &str) -> anyhow::Result<Consumer> {
        let endpoint = self.aurora.cluster_endpoint();
        let (host, port) = endpoint.rsplit_once(':').context("an endpoint is host:port")?;
        let mut command = rival::command(program);
        command
            .envs([("PGHOST", host), ("PGPORT", port), ("PGUSER", USER), ("PGPASSWORD", PASSWORD), ("PGDATABASE", "postgres")])
            .env("DATABASE_CA", self.aurora.folder().join("ca.pem"))
            .envs(aws(sqs_endpoint))
            .envs([("QUEUE_NAME", queue.name.as_str()), ("NODE_ENV", "production")]);
        Consumer::start("the rival", command, &self.mounts.path().join("rival.log"))
    }

    fn manifest(&self, queue: &Queue) -> serde_json::Value {
        json!({
            "apiVersion": "durablewrite.dev/v1alpha1",
            "kind": "DurableWritePipeline",
            "metadata": {"name": "bench"},
            "spec": {
                "queue": {"name": queue.name},
                "database": {
                    "aurora": {"clusterIdentifier": self.aurora.identifier()},
                    "name": "postgres",
                    "credentials": {"secretRef": {"name": "database"}},
                    "tls": {"ca": {"configMapKeyRef": {"name": "authority", "key": "ca.crt"}}},
                },
                "target": {
                    "table": {"schema": "shop", "name": "orders"},
                    "columns": [
                        {"name": "id", "from": {"body": "/id"}},
                        {"name": "customer", "from": {"body": "/group"}},
                        {"name": "amount", "from": {"body": "/amount"}},
                        {"name": "payload", "from": {"body": ""}},
                    ],
                },
                "idempotency": {"targetKey": {"columns": ["id"]}},
            },
        })
    }

    /// Waits until the queue is empty, messages in flight included.
    pub(super) async fn emptied(&self, queue: &Queue, consumer: &mut Consumer, limit: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + limit;
        loop {
            let depth = sqs::depth(&self.client, &queue.url).await?;
            if depth.total() == 0 {
                return Ok(());
            }
            consumer.check_running()?;
            if Instant::now() > end {
                bail!("not drained within {} s, left are {depth:?}; logs are in {}", limit.as_secs(), self.mounts.path().display());
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// A uid as Kubernetes gives it.
fn uid() -> String {
    let digits = format!("{:032x}", rand::random::<u128>());
    [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)].map(|(from, to)| digits.get(from..to).unwrap_or_default()).join("-")
}

/// The AWS settings of a consumer.
fn aws(sqs_endpoint: &str) -> [(&'static str, &str); 4] {
    [
        ("AWS_ENDPOINT_URL_SQS", sqs_endpoint),
        ("AWS_REGION", sqs::REGION),
        ("AWS_ACCESS_KEY_ID", "testbed"),
        ("AWS_SECRET_ACCESS_KEY", "testbed"),
    ]
}
