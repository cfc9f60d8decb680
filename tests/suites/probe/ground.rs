//! A probe as a process, on a pipeline that drills may use.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use durable_write_crds::probe::{PLAN_VARIABLE, ProbeOutcome, ProbePlan, ProbeResult, ProbeState, RESULT_BYTES};
use durable_write_testbed::aurora::Failover;
use durable_write_testbed::process::Process;
use durable_write_testbed::worker::{self, Worker};
use durable_write_worker::schema;
use http_body_util::{BodyExt, Empty};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use nix::sys::signal::Signal;
use tokio::sync::{Mutex, MutexGuard};

use crate::pipelines::{Cluster, Pipeline, SOON, until};

/// How long a probe may take after the failover.
pub const END: Duration = Duration::from_secs(120);

/// A test's turn. A probe measures time: beside others, it would measure how busy this machine is.
pub async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// A pipeline of orders with the tables of drills.
pub async fn pipeline(cluster: &Arc<Cluster>, queue: &str) -> Pipeline {
    let pipeline = Pipeline::of_orders(cluster.clone(), queue).await;
    let mut admin = pipeline.admin().await;
    schema::apply_drills(&mut admin, &pipeline.name).await.unwrap();
    pipeline
}

/// Starts a worker and waits until it is ready to write.
pub async fn flowing(pipeline: &Pipeline) -> Worker {
    let mut worker = pipeline.start();
    worker.wait_for("it is ready to write", SOON, |state| state.flowing.status == Some(true)).await.unwrap();
    worker
}

/// A plan of a new drill, from the writer of now to the second instance.
pub fn plan(cluster: &Cluster) -> ProbePlan {
    let text = format!("{:032x}", rand::random::<u128>());
    let uid = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-");
    let instances = cluster.instances();
    let name = |writer| instances.iter().find(|instance| instance.writer == writer).unwrap().name.clone();
    let seconds = |seconds: u64| durable_write_crds::Duration::from_millis(1000 * seconds);
    ProbePlan {
        drill_name: format!("test/default/{}", &uid[..8]),
        drill: uid,
        resource_id: cluster.resource_id().to_owned(),
        writer: name(true),
        target: name(false),
        max_replica_lag: seconds(5),
        messages_per_second: 50,
        direct_write_interval: durable_write_crds::Duration::from_millis(100),
        direct_path: Default::default(),
        warm_up: seconds(2),
        cool_down: seconds(2),
        backlog_drained: seconds(60),
        deadline: seconds(150),
    }
}

/// A running probe; it is killed when dropped.
pub struct Probe {
    process: Process,
    address: SocketAddr,
    result: PathBuf,
    log: PathBuf,
}

impl Probe {
    /// Starts a probe with the files that the pipeline's workers have.
    pub fn start(pipeline: &Pipeline, plan: &ProbePlan) -> Self {
        pipeline.mounts.write_manifest(&pipeline.manifest.to_string()).unwrap();
        let (folder, address) = (pipeline.mounts.path(), worker::free_address().unwrap());
        let result = folder.join(format!("result-{}", plan.drill));
        let log = folder.join(format!("probe-{}.log", plan.drill));
        let mut command = worker::command(&pipeline.sqs_endpoint).unwrap();
        command.arg("probe").arg("--mounts").arg(folder).arg("--result").arg(&result).arg("--listen").arg(address.to_string());
        command.env(PLAN_VARIABLE, serde_json::to_string(plan).unwrap());
        Self { process: Process::start_command("the probe", command, &log).unwrap(), address, result, log }
    }

    async fn get(&self, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let answer = client.get(format!("http://{}{path}", self.address).parse()?).await?;
        Ok((answer.status(), answer.into_body().collect().await?.to_bytes()))
    }

    pub async fn state(&self) -> anyhow::Result<ProbeState> {
        Ok(serde_json::from_slice(&self.get("/state").await?.1)?)
    }

    /// Waits until the baseline is steady.
    pub async fn ready(&mut self) {
        let is_ready = async || {
            if !self.process.is_running() {
                panic!("the probe ended: {}\n{}", self.said(), std::fs::read_to_string(&self.log).unwrap());
            }
            self.get("/readyz").await.is_ok_and(|(status, _)| status == StatusCode::OK)
        };
        until("the baseline is steady", SOON, is_ready).await;
    }

    /// Waits until it is at this stage.
    pub async fn until_stage(&self, stage: &str) {
        until(stage, SOON, async || self.state().await.is_ok_and(|state| state.stage == stage)).await;
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.result).unwrap_or_else(|error| format!("no result: {error}"))
    }

    /// Waits for its end, and for what it has measured.
    pub async fn result(mut self, within: Duration) -> ProbeResult {
        until("the probe has ended", within, async || !self.process.is_running()).await;
        let status = self.process.wait().unwrap();
        let log = std::fs::read_to_string(&self.log).unwrap();
        assert!(status.success(), "{status}: {log}");
        let text = self.said();
        assert!(text.len() <= RESULT_BYTES, "{} bytes", text.len());
        serde_json::from_str(&text).with_context(|| format!("{text}\n{log}")).unwrap()
    }

    /// Waits until it has left what it has measured, and kills it while it still has the cluster to give free.
    pub async fn killed_with_a_result(mut self, within: Duration) -> ProbeResult {
        let left = || serde_json::from_str(&self.said()).ok();
        until("the probe has left its result", within, async || left().is_some()).await;
        let result = left().unwrap();
        assert!(self.process.is_running(), "the result was left only at the end");
        result
    }

    /// Ends it as Kubernetes does, and says how long that took.
    pub async fn terminate(mut self) -> (Duration, bool) {
        let started = std::time::Instant::now();
        self.process.signal(Signal::SIGTERM);
        until("the probe has ended", SOON, async || !self.process.is_running()).await;
        (started.elapsed(), self.result.exists())
    }
}

/// Nothing was lost, doubled or invented.
pub fn assert_whole(result: &ProbeResult) {
    assert_eq!(result.outcome, ProbeOutcome::Completed, "{result:#?}");
    for channel in [&result.queue_channel, &result.direct_channel] {
        assert!(channel.acknowledged > 0 && channel.committed >= channel.acknowledged, "{result:#?}");
        assert_eq!((channel.lost, channel.duplicated, channel.unexpected, channel.late), (0, 0, 0, 0), "{result:#?}");
    }
    assert_eq!(result.most_dead_lettered(), Some(0));
}

/// Fails unless the true length of the outage, as the cluster's own witness saw it, is within the bounds of the result.
pub fn assert_contains_truth(result: &ProbeResult, failover: &Failover) {
    let (gap, truth) = (result.gap.as_ref().unwrap(), failover.truth.unwrap());
    let (lower, upper) = (gap.lower_milliseconds as f64, gap.upper_milliseconds.unwrap() as f64);
    let (least, most) = (milliseconds(truth.gap.saturating_sub(truth.uncertainty)), milliseconds(truth.gap));
    assert!(lower <= most && least <= upper, "{least} to {most} ms is not within {gap:?}");
}

pub fn milliseconds(length: Duration) -> f64 {
    1000.0 * length.as_secs_f64()
}
