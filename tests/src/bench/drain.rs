//! Drains: from the start of the consumer's process until the queue is empty.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use super::ground::{Ground, TABLE};
use super::report::{median, print_table, write_json};
use super::rival;
use crate::progress::Step;
use crate::proxy::http::HttpFaultProxy;
use crate::sqs;
use crate::traffic::{Plan, Traffic, verify};

/// A consumer that takes longer has stopped to work.
const LIMIT: Duration = Duration::from_secs(300);
const GROUPS: u64 = 200;

/// Arguments of `testbed bench drain`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The worker, built with the release profile
    #[arg(long, default_value = "target/release/durable-write-worker")]
    worker: PathBuf,
    /// Runs of each consumer on each queue; one more, whose time is not taken, counts calls
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Messages on the standard queue
    #[arg(long, default_value_t = 30_000)]
    standard: u32,
    /// Messages on the FIFO queue, in 200 groups
    #[arg(long, default_value_t = 10_000)]
    fifo: u32,
    /// Measure the worker alone
    #[arg(long)]
    without_rival: bool,
    /// Where to write all figures
    #[arg(long, default_value = "target/bench-drain.json")]
    json: PathBuf,
}

/// One drain.
#[derive(Debug, Serialize)]
struct Drain {
    seconds: f64,
    messages_per_second: f64,
    cpu_seconds_per_100_000: f64,
    peak_mebibytes: f64,
}

/// All drains of one consumer on one kind of queue.
#[derive(Debug, Serialize)]
struct Series<'r> {
    #[serde(flatten)]
    load: Load,
    consumer: &'static str,
    /// The rival's program; none is the worker.
    #[serde(skip)]
    rival: Option<&'r Path>,
    runs: Vec<Drain>,
    calls_per_message: f64,
    calls: BTreeMap<String, u64>,
}

/// What is in the queue.
#[derive(Debug, Clone, Copy, Serialize)]
struct Load {
    #[serde(rename = "queue")]
    kind: &'static str,
    #[serde(skip)]
    suffix: &'static str,
    messages: u32,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let rival = if arguments.without_rival { None } else { Some(tokio::task::spawn_blocking(rival::install).await??) };
    let ground = Ground::start(&arguments.worker).await?;
    let mut all = Vec::new();
    for load in [
        Load { kind: "standard", suffix: "", messages: arguments.standard },
        Load { kind: "FIFO, 200 groups", suffix: ".fifo", messages: arguments.fifo },
    ] {
        let mut pair = vec![Series::new(load, "worker", None)];
        pair.extend(rival.as_deref().map(|program| Series::new(load, "sqs-consumer + pg", Some(program))));
        // In turn, so that what else the machine does falls on both.
        for number in 0..=arguments.runs {
            for series in &mut pair {
                let what = format!("{} queue: {}, run {} of {}", load.kind, series.consumer, number + 1, arguments.runs + 1);
                let step = Step::begin(what, "15 seconds");
                if number == 0 {
                    series.count_calls(&ground).await?;
                } else {
                    series.runs.push(drain(&ground, load, number, series.rival, &ground.sqs.endpoint()).await?);
                }
                step.done();
            }
        }
        all.push(pair);
    }
    print(&all);
    write_json(&arguments.json, &all.iter().flatten().collect::<Vec<_>>())
}

/// Fills a new queue and lets a consumer empty it: the rival's program, or else the worker.
async fn drain(ground: &Ground, load: Load, number: u32, rival: Option<&Path>, endpoint: &str) -> anyhow::Result<Drain> {
    let name = format!("drain-{}-{number}{}", if rival.is_some() { "rival" } else { "worker" }, load.suffix);
    let (queue, dead_letters) = sqs::create_queue_with_dead_letters(&ground.client, &name, 5).await?;
    ground.execute(&format!("TRUNCATE {TABLE}; CHECKPOINT")).await?;
    let plan = Plan { per_second: None, groups: GROUPS, ..Plan::new(&queue.url, "drain", load.messages.into()) };
    let sent = Traffic::start(&ground.client, &plan).finish().await?;

    let mut consumer = match rival {
        Some(program) => ground.start_rival(program, &queue, endpoint)?,
        None => ground.start_worker(&queue, endpoint)?,
    };
    ground.emptied(&queue, &mut consumer, LIMIT).await?;
    let (seconds, usage) = (consumer.runs_for().as_secs_f64(), consumer.usage()?);
    drop(consumer);

    let dead = sqs::drain_all(&ground.client, &dead_letters.url).await?;
    let report = verify("drain", &sent, &mut ground.admin().await?, TABLE, &dead).await?;
    ensure!(report.is_clean(), "this drain went wrong:\n{report}");
    for queue in [&queue, &dead_letters] {
        sqs::delete_queue(&ground.client, &queue.url).await?;
    }
    let messages = f64::from(load.messages);
    Ok(Drain {
        seconds,
        messages_per_second: messages / seconds,
        cpu_seconds_per_100_000: usage.cpu_seconds * 100_000.0 / messages,
        peak_mebibytes: usage.peak_mebibytes,
    })
}

impl<'r> Series<'r> {
    fn new(load: Load, consumer: &'static str, rival: Option<&'r Path>) -> Self {
        Self { load, consumer, rival, runs: Vec::new(), calls_per_message: f64::NAN, calls: BTreeMap::new() }
    }

    /// One drain through a proxy that counts; it costs time, so that of this drain only the calls are taken.
    async fn count_calls(&mut self, ground: &Ground) -> anyhow::Result<()> {
        let upstream = ground.sqs.addresses().first().copied().context("the queue server has an address")?;
        let proxy = HttpFaultProxy::start(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))], upstream).await?;
        drain(ground, self.load, 0, self.rival, &proxy.endpoint()).await?;
        self.calls = proxy.all_calls().into_iter().map(|(action, calls)| (action, calls.received)).collect();
        let calls = u32::try_from(self.calls.values().sum::<u64>())?;
        self.calls_per_message = f64::from(calls) / f64::from(self.load.messages);
        Ok(())
    }

    /// Medians: messages per second, CPU seconds, MiB, calls.
    fn figures(&self) -> [f64; 4] {
        let median = |figure: fn(&Drain) -> f64| median(self.runs.iter().map(figure));
        [
            median(|run| run.messages_per_second),
            median(|run| run.cpu_seconds_per_100_000),
            median(|run| run.peak_mebibytes),
            self.calls_per_message,
        ]
    }
}

fn print(all: &[Vec<Series<'_>>]) {
    let mut rows = Vec::new();
    for pair in all {
        for series in pair {
            let [rate, cpu, peak, calls] = series.figures();
            let queue = format!("{}, {}", series.load.kind, series.load.messages);
            rows.push([
                queue,
                series.consumer.to_owned(),
                format!("{rate:.0}"),
                format!("{cpu:.1}"),
                format!("{peak:.0}"),
                format!("{calls:.4}"),
            ]);
        }
        if let [worker, rival] = pair.as_slice() {
            let ratios = worker.figures().into_iter().zip(rival.figures()).map(|(worker, rival)| format!("{:.2}", worker / rival));
            let mut row = [String::new(), "ratio".to_owned()].into_iter().chain(ratios);
            rows.push(std::array::from_fn(|_| row.next().unwrap_or_default()));
        }
    }
    print_table(["queue", "consumer", "messages/s", "CPU s / 100,000", "peak MiB", "SQS calls / message"], &rows);
}
