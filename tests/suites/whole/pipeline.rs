//! A pipeline of a test's own: with queues and a table of its own, a load, and the judgement of what came of it.

use std::time::Duration;

use anyhow::ensure;
use durable_write_crds::DurableWritePipeline;
use durable_write_testbed::environment::{example, merge, prepare_table, wait_until_ready};
use durable_write_testbed::sqs::{self, Depth, Queue};
use durable_write_testbed::traffic::{Plan, Record, Traffic, verify};
use durable_write_testbed::wait;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection};

use crate::ground::{Ground, SOON, until};

/// How long a lost receive and then a killed worker may keep messages away: the workers' visibility twice, and a little.
const REDELIVERED: Duration = Duration::from_secs(180);

/// A pipeline.
pub struct Pipeline<'g> {
    pub ground: &'g Ground,
    pub namespace: String,
    pub name: String,
    pub queue: Queue,
    pub dead_letters: Queue,
    /// As in SQL.
    table: String,
    manifest: Value,
    client: kube::Client,
}

impl<'g> Pipeline<'g> {
    /// The example, unchanged, in a namespace that is there.
    pub async fn of_the_example(ground: &'g Ground, namespace: &str) -> Self {
        Self::new(ground, namespace, example().unwrap(), 5).await
    }

    /// One like the example. It has the name of its queue and moves a message to the dead letters after `receives`.
    pub async fn like_the_example(ground: &'g Ground, namespace: &str, queue: &str, receives: u32) -> Self {
        let name = queue.replace(".fifo", "-fifo");
        let mut manifest = example().unwrap();
        merge(&mut manifest, &json!({"metadata": {"name": name}, "spec": {"queue": {"name": queue}}}));
        merge(&mut manifest, &json!({"spec": {"target": {"table": {"name": name.replace('-', "_")}}}}));
        // Without a request a pod gets next to no processor on a machine that is busy.
        merge(&mut manifest, &json!({"spec": {"workers": {"resources": {"requests": {"cpu": "50m"}}}}}));
        merge(&mut manifest, &json!({"spec": {"database": {"aurora": {"clusterIdentifier": ground.access().aurora}}}}));
        Self::new(ground, namespace, manifest, receives).await
    }

    /// One to be drilled: ready, in a namespace of its own.
    pub async fn to_drill(ground: &'g Ground, namespace: &str) -> Self {
        ground.namespace(namespace).await;
        let pipeline = Self::like_the_example(ground, namespace, &format!("{namespace}.fifo"), 5).await;
        pipeline.start().await;
        pipeline
    }

    /// Makes queues and table; the pipeline itself is for the test to apply.
    async fn new(ground: &'g Ground, namespace: &str, manifest: Value, receives: u32) -> Self {
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let (name, queue, table) = (text("/metadata/name"), text("/spec/queue/name"), text("/spec/target/table/name"));
        prepare_table(ground.access(), &table).await.unwrap();
        let (queue, dead_letters) = sqs::create_queue_with_dead_letters(&ground.access().sqs(), &queue, receives).await.unwrap();
        let (table, client) = (format!("shop.{table}"), ground.cluster().client().await.unwrap());
        Self { ground, namespace: namespace.to_owned(), name, queue, dead_letters, table, manifest, client }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.ground.kubectl(&[&["--namespace", &self.namespace], arguments].concat()).await
    }

    /// Applies the pipeline and waits, as people do, until it can write.
    pub async fn start(&self) {
        let apply = ["apply", "--namespace", &self.namespace, "-f", "-"];
        self.ground.cluster().kubectl_with(apply, &self.manifest.to_string()).await.unwrap();
        wait_until_ready(self.ground.cluster(), &self.namespace, &self.name, SOON).await.unwrap();
    }

    /// Changes the spec.
    pub async fn patch(&self, spec: Value) {
        let patch = json!({"spec": spec}).to_string();
        self.kubectl(&["patch", "dwp", &self.name, "--type=merge", "--patch", &patch]).await;
    }

    pub async fn scale(&self, replicas: i32) {
        self.kubectl(&["scale", "dwp", &self.name, &format!("--replicas={replicas}")]).await;
    }

    /// Waits as `kubectl wait` does: `for_` is `condition=Ready`, for example.
    pub async fn wait(&self, for_: &str) {
        let (object, timeout) = (format!("dwp/{}", self.name), format!("--timeout={}s", SOON.as_secs()));
        self.kubectl(&["wait", &object, &format!("--for={for_}"), &timeout]).await;
    }

    /// Waits until the status says that rows can be written now. It is made from what workers said up to 10 s ago.
    pub async fn flows(&self) {
        until(&format!("{} to be Ready, Flowing and at rest", self.name), async || {
            let conditions = self.object().await.status.unwrap_or_default().conditions;
            let is_true = |type_| conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True");
            let at_rest = conditions.iter().any(|condition| condition.type_ == "Reconciling" && condition.status == "False");
            ensure!(is_true("Ready") && is_true("Flowing") && at_rest, "{conditions:?}");
            Ok(())
        })
        .await;
    }

    pub async fn object(&self) -> DurableWritePipeline {
        self.api().get(&self.name).await.unwrap()
    }

    /// Waits until the status says that the spec as it is now is carried out, by that many workers.
    pub async fn settled(&self, workers: i32) {
        until(&format!("{} to have settled with {workers} workers", self.name), async || {
            let object = self.object().await;
            let status = object.status.unwrap_or_default();
            let reconciling = status.conditions.iter().find(|condition| condition.type_ == "Reconciling");
            let done = reconciling.is_some_and(|condition| condition.status == "False");
            let ready = status.workers.as_ref().map_or(0, |workers| workers.ready);
            ensure!(status.observed_generation == object.metadata.generation && done, "{:?}", status.conditions);
            ensure!((status.replicas, ready) == (workers, workers), "{} workers, {ready} of them ready", status.replicas);
            Ok(())
        })
        .await;
    }

    pub async fn deployment(&self) -> Deployment {
        self.api().get(&format!("{}-worker", self.name)).await.unwrap()
    }

    /// The workers' pod template, and how often it was changed.
    pub async fn template(&self) -> (Value, String) {
        let deployment = self.deployment().await;
        let revision = deployment.metadata.annotations.unwrap()["deployment.kubernetes.io/revision"].clone();
        (serde_json::to_value(deployment.spec.unwrap().template).unwrap(), revision)
    }

    /// Sends messages of 100 groups, so many a second or as fast as it can.
    pub fn send(&self, run: &str, messages: u64, per_second: Option<f64>) -> Traffic {
        Traffic::start(&self.ground.access().sqs(), &Plan { per_second, groups: 100, ..Plan::new(&self.queue.url, run, messages) })
    }

    /// Sends until it is told to stop.
    pub fn load(&self, run: &str, per_second: f64) -> Traffic {
        self.send(run, 1_000_000, Some(per_second))
    }

    pub async fn depth(&self) -> Depth {
        sqs::depth(&self.ground.access().sqs(), &self.queue.url).await.unwrap()
    }

    /// How many rows the table has.
    pub async fn rows(&self) -> anyhow::Result<u64> {
        let mut database = self.ground.database().await?;
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {}", self.table))).fetch_one(&mut database).await?;
        database.close().await?;
        Ok(count.try_into()?)
    }

    /// Waits until rows are written from now on.
    pub async fn writes(&self, after: &str) {
        let before = until("the rows to be counted", async || self.rows().await).await;
        until(&format!("{} to write after {after}", self.name), async || {
            ensure!(self.rows().await? > before, "still {before} rows");
            Ok(())
        })
        .await;
    }

    /// Waits until more messages wait than a pipeline that writes would leave.
    pub async fn backs_up(&self) {
        until(&format!("the queue of {} to fill", self.name), async || {
            let depth = self.depth().await;
            ensure!(depth.total() > 100, "{depth:?}");
            Ok(())
        })
        .await;
    }

    /// Waits until the queue is empty: each message that was sent is then one row, those of a group in their order, and none was given up.
    pub async fn has_moved(&self, run: &str, sent: &[Record]) {
        let empty = async || {
            let depth = self.depth().await;
            ensure!(depth.total() == 0, "{depth:?}");
            Ok(())
        };
        wait::until(&format!("the queue of {} to be empty", self.name), REDELIVERED, empty)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        let dead_letters = sqs::drain_all(&self.ground.access().sqs(), &self.dead_letters.url).await.unwrap();
        let mut database = self.ground.database().await.unwrap();
        let report = verify(run, sent, &mut database, &self.table, &dead_letters).await.unwrap();
        database.close().await.unwrap();
        let dead = dead_letters.first();
        assert!(report.is_clean() && report.committed == sent.len(), "{}:\n{report}the first dead letter: {dead:?}", self.name);
    }
}

/// Ends a load and waits for what it sent.
pub async fn stop(load: Traffic) -> Vec<Record> {
    load.stop();
    load.finish().await.unwrap()
}
