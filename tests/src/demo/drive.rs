//! The minute of the demo: traffic, a drill in its midst, and the judgement.

use std::collections::BTreeMap;
use std::time::Duration;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, bail};
use sqlx::Connection;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::environment::{Access, Role, SHOP};
use crate::history::Report;
use crate::progress::Step;
use crate::sqs;
use crate::traffic::{Plan, Traffic, verify, write_gap};

pub(super) const NAMESPACE: &str = "shop";
pub(super) const PIPELINE: &str = "orders";
pub(super) const QUEUE: &str = "orders.fifo";
pub(super) const DEAD_LETTERS: &str = "orders-dlq.fifo";
pub(super) const TABLE: &str = "shop.orders";
const MAX_RECEIVES: u32 = 5;
/// A backlog of the whole demo is written in seconds.
const DRAIN: Duration = Duration::from_secs(120);

/// What was seen.
pub(super) struct Outcome {
    pub report: Report,
    pub per_second: f64,
    pub write_gap: Option<Duration>,
    pub before: Vec<Role>,
    pub after: Vec<Role>,
    /// Rows of this run by the instance that wrote them.
    pub rows_by: BTreeMap<String, i64>,
    /// How the drill ended: 0 is Pass.
    pub drill: ExitStatus,
    /// The report of the drill, in HTML.
    pub drill_report: PathBuf,
}

impl Outcome {
    /// True when the drill passed, nothing of the demo's own was lost, duplicated, dead-lettered or written out of order, and the writer has
    /// changed.
    pub fn is_good(&self) -> bool {
        let writer = |roles: &[Role]| roles.iter().find(|role| role.writer).map(|role| role.instance.clone());
        self.drill.success()
            && self.report.is_clean()
            && self.report.committed == self.report.sent
            && writer(&self.before) != writer(&self.after)
    }
}

/// Makes the queue and its dead-letter queue unless they are there.
pub(super) async fn prepare_queues(access: &Access) -> anyhow::Result<()> {
    sqs::create_queue_with_dead_letters(&access.sqs(), QUEUE, MAX_RECEIVES).await?;
    Ok(())
}

/// Sends, runs a drill meanwhile, waits until the queue is empty, and judges.
pub(super) async fn drive(cluster: &Cluster, access: &Access, folder: &Path, messages: u64, per_second: f64) -> anyhow::Result<Outcome> {
    let sqs = access.sqs();
    let queue = find_queue(access, QUEUE).await?;
    // Of this run only: the table may hold rows of earlier ones.
    let run = format!("demo-{}", jiff::Timestamp::now().as_second());
    let before = access.roles().await?;

    let step = Step::begin(format!("sending {messages} messages"), &format!("{:.0} seconds", seconds(messages) / per_second));
    let plan = Plan { per_second: Some(per_second), ..Plan::new(&queue, &run, messages) };
    let traffic = Traffic::start(&sqs, &plan);
    let drill_report = folder.join("drill.html");
    let drill = drill(cluster, &drill_report).await;
    let sent = traffic.finish().await?;
    let drill = drill?;
    step.done();

    let step = Step::begin("waiting until the queue is empty", "1 second");
    let end = Instant::now() + DRAIN;
    while sqs::depth(&sqs, &queue).await?.total() > 0 {
        if Instant::now() > end {
            bail!("{QUEUE} is not empty after {} s: kubectl -n {NAMESPACE} describe durablewritepipelines says why", DRAIN.as_secs());
        }
        sleep(Duration::from_millis(200)).await;
    }
    step.done();

    let dead_letters = sqs::drain_all(&sqs, &find_queue(access, DEAD_LETTERS).await?).await?;
    let mut database = access.connect(SHOP).await?;
    let report = verify(&run, &sent, &mut database, TABLE, &dead_letters).await?;
    let write_gap = write_gap(&run, &mut database, TABLE).await?;
    let rows_by = "SELECT written_by, count(*) FROM shop.orders WHERE starts_with(id, $1) GROUP BY 1";
    let rows_by: Vec<(String, i64)> = sqlx::query_as(rows_by).bind(format!("{run}-")).fetch_all(&mut database).await?;
    database.close().await.ok();
    let after = access.roles().await?;
    Ok(Outcome { report, per_second, write_gap, before, after, rows_by: rows_by.into_iter().collect(), drill, drill_report })
}

/// Runs a drill as a person does: the plugin prints its course and its verdict.
async fn drill(cluster: &Cluster, report: &Path) -> anyhow::Result<ExitStatus> {
    let mut command = Command::new(plugin()?);
    command.args(["drill", "run", PIPELINE, "--namespace", NAMESPACE, "--reason", "Demonstration"]);
    command.args(["--warm-up", "10s", "--cool-down", "10s", "--output", "html", "--file"]).arg(report);
    command.env("KUBECONFIG", cluster.kubeconfig()).env("NO_PROXY", "*").kill_on_drop(true);
    command.status().await.context("run kubectl dw")
}

/// The plugin `kubectl dw`, which is built with this program.
pub(super) fn plugin() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe().context("where this program is")?.with_file_name("kubectl-dw"))
}

async fn find_queue(access: &Access, name: &str) -> anyhow::Result<String> {
    let found = access.sqs().get_queue_url().queue_name(name).send().await.with_context(|| format!("find queue {name}"))?;
    found.queue_url.with_context(|| format!("queue {name} has no URL"))
}

fn seconds(messages: u64) -> f64 {
    f64::from(u32::try_from(messages).unwrap_or(u32::MAX))
}
