//! Failovers under load: how long after the new writer accepts writes the worker's first row is on it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use serde::Serialize;
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use super::consumer::Consumer;
use super::ground::{Ground, TABLE};
use super::report::{median, print_table, worst, write_json};
use crate::aurora::{Failover, Fault, Timing};
use crate::progress::Step;
use crate::sqs;
use crate::traffic::{Plan, Traffic, verify};

const FAULTS: [Fault; 3] = [Fault::WriterKilled, Fault::WriterHangs, Fault::Planned];
/// An outage of some seconds, as of Aurora. Where it is over in a moment, one would measure how soon the worker notices a hang.
const TIMING: Timing =
    Timing { detection: Duration::from_secs(1), promotion: Duration::from_secs(2), rejoin: Duration::ZERO, names: Duration::from_secs(1) };
/// Rows flow for so long before the next failover.
const STEADY: Duration = Duration::from_secs(2);
/// A worker that has not found the writer by then does not.
const LIMIT: Duration = Duration::from_secs(60);
/// More messages than are ever sent: the sending is stopped.
const ENDLESS: u64 = 10_000_000;

/// Arguments of `testbed bench failover`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The worker, built with the release profile
    #[arg(long, default_value = "target/release/durable-write-worker")]
    worker: PathBuf,
    /// How often the writer fails over: killed, hung and planned in turn
    #[arg(long, default_value_t = 20)]
    failovers: usize,
    /// Messages per second
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Where to write all figures
    #[arg(long, default_value = "target/bench-failover.json")]
    json: PathBuf,
}

/// One failover.
#[derive(Debug, Serialize)]
struct Figures {
    fault: String,
    /// From the promotion to the worker's first row on the new writer.
    after_promotion_ms: f64,
    /// From the first acknowledged write of anybody on the new writer to the worker's first row.
    after_first_write_ms: f64,
    /// From the worker's last row on the old writer to its first on the new one.
    gap_ms: f64,
    /// From the fault to the promotion: the part that is the database's.
    database_ms: f64,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let ground = Ground::start(&arguments.worker).await?;
    ground.aurora.set_timing(TIMING);
    let (queue, dead_letters) = sqs::create_queue_with_dead_letters(&ground.client, "failover", 3).await?;
    let plan = Plan { per_second: Some(arguments.rate), ..Plan::new(&queue.url, "failover", ENDLESS) };
    let mut worker = ground.start_worker(&queue, &ground.sqs.endpoint())?;
    let traffic = Traffic::start(&ground.client, &plan);
    let mut failovers = Vec::new();
    for number in 0..arguments.failovers {
        steady(&ground, &mut worker).await?;
        let fault = FAULTS.get(number % FAULTS.len()).copied().unwrap_or(Fault::Planned);
        let step = Step::begin(format!("failover {} of {}: {fault:?}", number + 1, arguments.failovers), "5 seconds");
        failovers.push(ground.aurora.fault(fault).await?);
        step.done();
    }
    steady(&ground, &mut worker).await?;
    traffic.stop();
    let sent = traffic.finish().await?;
    ground.emptied(&queue, &mut worker, LIMIT).await?;
    let usage = worker.usage()?;
    let mut database = ground.admin().await?;
    let dead = sqs::drain_all(&ground.client, &dead_letters.url).await?;
    let report = verify("failover", &sent, &mut database, TABLE, &dead).await?;
    let mut all = Vec::new();
    for failover in &failovers {
        all.push(figures(failover, &mut database).await?);
    }
    print(&all);
    println!("\n{report}\npeak memory of the worker {:.0} MiB", usage.peak_mebibytes);
    write_json(&arguments.json, &all)?;
    ensure!(report.is_clean(), "messages were lost, doubled or dead-lettered: see above");
    Ok(())
}

/// Waits until the worker has written to the current writer for a while.
async fn steady(ground: &Ground, worker: &mut Consumer) -> anyhow::Result<()> {
    let end = Instant::now() + LIMIT;
    let mut database = ground.admin().await?;
    let since = Timestamp::now() + STEADY;
    let flowing = "SELECT max(written_at) > to_timestamp($1) FROM shop.orders WHERE written_by = current_setting('cluster_name')";
    while sqlx::query_scalar::<_, Option<bool>>(flowing).bind(seconds(since)).fetch_one(&mut database).await? != Some(true) {
        worker.check_running()?;
        if Instant::now() > end {
            bail!("the worker has written nothing on the current writer for {} s", LIMIT.as_secs());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Compares what the database cluster knows of a failover with the worker's rows. All clocks are this machine's.
async fn figures(failover: &Failover, database: &mut PgConnection) -> anyhow::Result<Figures> {
    let to = failover.to.as_deref().context("a failover leads somewhere")?;
    let query = "
        SELECT extract(epoch FROM first)::float8,
          (SELECT extract(epoch FROM max(written_at))::float8 FROM shop.orders WHERE written_by = $1 AND written_at < first)
        FROM (SELECT min(written_at) AS first FROM shop.orders WHERE written_by = $2 AND written_at > to_timestamp($3)) AS rows";
    let (first, last): (Option<f64>, Option<f64>) =
        sqlx::query_as(query).bind(&failover.from).bind(to).bind(seconds(failover.stopped)).fetch_one(database).await?;
    let (first, last) = (first.context("no row on the new writer")?, last.context("no row on the old writer")?);
    let promoted = seconds(failover.promoted.context("a failover promotes")?);
    let writable = seconds(failover.writable.context("a failover ends")?);
    Ok(Figures {
        fault: format!("{:?}", failover.fault),
        after_promotion_ms: (first - promoted) * 1000.0,
        after_first_write_ms: (first - writable) * 1000.0,
        gap_ms: (first - last) * 1000.0,
        database_ms: (promoted - seconds(failover.stopped)) * 1000.0,
    })
}

fn seconds(at: Timestamp) -> f64 {
    at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64()
}

fn print(all: &[Figures]) {
    let kinds = FAULTS.map(|fault| format!("{fault:?}"));
    let of = |name: &str, wanted: Option<&String>| {
        let some: Vec<&Figures> = all.iter().filter(|figures| wanted.is_none_or(|wanted| figures.fault == *wanted)).collect();
        let both = |figure: fn(&Figures) -> f64| {
            let values = || some.iter().map(|figures| figure(figures));
            format!("{:.0} / {:.0}", median(values()), worst(values()))
        };
        [
            name.to_owned(),
            some.len().to_string(),
            both(|figures| figures.after_promotion_ms),
            both(|figures| figures.after_first_write_ms),
            both(|figures| figures.gap_ms),
            both(|figures| figures.database_ms),
        ]
    };
    let rows: Vec<_> = kinds.iter().map(|kind| of(kind, Some(kind))).chain([of("all", None)]).collect();
    let heads = [
        "median / worst, ms",
        "n",
        "first row after the promotion",
        "first row after anybody's first write",
        "write gap",
        "fault to promotion",
    ];
    print_table(heads, &rows);
}
