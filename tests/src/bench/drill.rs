//! What a drill costs the pipeline that it measures: the same drain without and with a probe beside it, as the load of a drill before and
//! after its failover.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use sqlx::AssertSqlSafe;
use tokio::time::{Instant, sleep};

use super::consumer::{Consumer, Usage};
use super::ground::{Ground, TABLE};
use super::report::{median, print_table, write_json};
use crate::progress::Step;
use crate::sqs;
use crate::traffic::{Plan, Traffic, verify};

/// A worker that takes longer has stopped to work.
const LIMIT: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Arguments of `testbed bench drill`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The worker, built with the release profile
    #[arg(long, default_value = "target/release/durable-write-worker")]
    worker: PathBuf,
    /// Drains of each kind
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Messages on the queue
    #[arg(long, default_value_t = 30_000)]
    messages: u32,
    /// Where to write all figures
    #[arg(long, default_value = "target/bench-drill.json")]
    json: PathBuf,
}

/// One drain.
#[derive(Debug, Serialize)]
struct Drain {
    messages_per_second: f64,
    worker_cpu_seconds_per_100_000: f64,
    worker_peak_mebibytes: f64,
    /// Of the probe, where there is one.
    probe: Option<Probe>,
}

#[derive(Debug, Serialize)]
struct Probe {
    cpu_seconds_per_second: f64,
    peak_mebibytes: f64,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let ground = Ground::start(&arguments.worker).await?;
    ground.make_tables_of_drills().await?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    // In turn, so that what else the machine does falls on both.
    for number in 1..=arguments.runs {
        for (drilled, drains) in [(false, &mut without), (true, &mut with)] {
            let beside = if drilled { "with a probe beside it" } else { "alone" };
            let step = Step::begin(format!("drain {number} of {}, {beside}", arguments.runs), "10 seconds");
            drains.push(drain(&ground, &format!("drilled-{drilled}-{number}"), arguments.messages, drilled).await?);
            step.done();
        }
    }
    print(&without, &with);
    write_json(&arguments.json, &[&without, &with])
}

/// Fills a new queue and lets the worker empty it; what the probe sends meanwhile does not count.
async fn drain(ground: &Ground, name: &str, messages: u32, drilled: bool) -> anyhow::Result<Drain> {
    let (queue, dead_letters) = sqs::create_queue_with_dead_letters(&ground.client, name, 5).await?;
    ground.execute(&format!("TRUNCATE {TABLE}; CHECKPOINT")).await?;
    let plan = Plan { per_second: None, ..Plan::new(&queue.url, "drill", messages.into()) };
    let sent = Traffic::start(&ground.client, &plan).finish().await?;

    let probe = if drilled { Some(ground.start_probe(&queue)?) } else { None };
    let mut worker = ground.start_worker(&queue, &ground.sqs.endpoint())?;
    written(ground, messages, &mut worker).await?;
    let (seconds, usage) = (worker.runs_for().as_secs_f64(), worker.usage()?);
    let probe = probe.map(|probe| Ok::<_, anyhow::Error>((probe.runs_for().as_secs_f64(), probe.usage()?))).transpose()?;
    drop(worker);

    let dead = sqs::drain_all(&ground.client, &dead_letters.url).await?;
    let report = verify("drill", &sent, &mut ground.admin().await?, TABLE, &dead).await?;
    ensure!(report.is_clean(), "this drain went wrong:\n{report}");
    for queue in [&queue, &dead_letters] {
        sqs::delete_queue(&ground.client, &queue.url).await?;
    }
    let messages = f64::from(messages);
    let of_probe = |(seconds, usage): (f64, Usage)| Probe {
        cpu_seconds_per_second: usage.cpu_seconds / seconds,
        peak_mebibytes: usage.peak_mebibytes,
    };
    Ok(Drain {
        messages_per_second: messages / seconds,
        worker_cpu_seconds_per_100_000: usage.cpu_seconds * 100_000.0 / messages,
        worker_peak_mebibytes: usage.peak_mebibytes,
        probe: probe.map(of_probe),
    })
}

/// Waits until all messages are rows.
async fn written(ground: &Ground, messages: u32, worker: &mut Consumer) -> anyhow::Result<()> {
    let (end, mut database) = (Instant::now() + LIMIT, ground.admin().await?);
    let count = format!("SELECT count(*) FROM {TABLE}");
    while sqlx::query_scalar::<_, i64>(AssertSqlSafe(count.as_str())).fetch_one(&mut database).await? < messages.into() {
        worker.check_running()?;
        ensure!(Instant::now() < end, "not drained within {} s", LIMIT.as_secs());
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn print(without: &[Drain], with: &[Drain]) {
    let figures = |drains: &[Drain]| {
        let of = |figure: fn(&Drain) -> f64| median(drains.iter().map(figure));
        [of(|drain| drain.messages_per_second), of(|drain| drain.worker_cpu_seconds_per_100_000), of(|drain| drain.worker_peak_mebibytes)]
    };
    let row = |name: &str, [rate, cpu, peak]: [f64; 3]| [name.to_owned(), format!("{rate:.0}"), format!("{cpu:.1}"), format!("{peak:.0}")];
    let (alone, drilled) = (figures(without), figures(with));
    let ratios: [f64; 3] = std::array::from_fn(|at| drilled.get(at).zip(alone.get(at)).map_or(f64::NAN, |(with, without)| with / without));
    let ratio = [vec!["ratio".to_owned()], ratios.map(|ratio| format!("{ratio:.2}")).to_vec()].concat();
    let mut rows = vec![row("alone", alone), row("with a drill's probe", drilled)];
    rows.extend(<[String; 4]>::try_from(ratio));
    print_table(["drain, median", "messages/s", "worker: CPU s / 100,000", "worker: peak MiB"], &rows);
    let of_probe = |figure: fn(&Probe) -> f64| median(with.iter().filter_map(|drain| drain.probe.as_ref()).map(figure));
    println!(
        "\nThe probe beside it: {:.2} CPU seconds a second, at most {:.0} MiB",
        of_probe(|probe| probe.cpu_seconds_per_second),
        of_probe(|probe| probe.peak_mebibytes)
    );
}
