//! `drill run`: creates a drill and waits for its verdict.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use durable_write_crds::{DurableWritePipeline, FailoverDrill};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::PostParams;

use super::new::Wish;
use super::{Screen, exit_code, follow};
use crate::cluster::{Cluster, explain, told};
use crate::report::Format;

/// How much longer than its own limits a drill is waited for.
const SLACK: Duration = Duration::from_secs(120);

/// What to run, and how to wait.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    #[command(flatten)]
    wish: Wish,
    /// Let the API server check the drill without creating it, and say which instance is the likely target
    #[arg(long)]
    dry_run: bool,
    /// Create the drill and do not wait for its end
    #[arg(long, conflicts_with = "dry_run")]
    no_wait: bool,
    /// Write a report of this form at the end
    #[arg(short, long, value_enum, requires = "file", conflicts_with_all = ["dry_run", "no_wait"])]
    output: Option<Format>,
    /// Where the report goes
    #[arg(long, requires = "output")]
    file: Option<PathBuf>,
}

/// Runs a drill, and says with which exit code the process is to end: that of the verdict, or 0 when it does not wait.
///
/// # Errors
/// The drill is refused, or cannot be watched to its end.
pub async fn run(cluster: &Cluster, arguments: &Arguments, now: Timestamp, screen: &mut Screen<'_>) -> anyhow::Result<u8> {
    let user = cluster.user().await?;
    if user.is_none() {
        screen.line("the API server does not say who you are: who asks for the drill is left open")?;
    }
    let wanted = arguments.wish.drill(user.as_deref(), now);
    let parameters = PostParams { dry_run: arguments.dry_run, field_manager: Some("kubectl-dw".to_owned()) };
    let created = cluster.api::<FailoverDrill>().create(&parameters, &wanted).await;
    let drill = created.map_err(|error| explain(error, "create the drill"))?;
    let name = drill.name_any();
    if arguments.dry_run {
        dry_run(cluster, &arguments.wish, &name, screen).await?;
        return Ok(0);
    }
    screen.line(&format!("drill {}/{name} is created", cluster.namespace))?;
    if arguments.no_wait {
        screen.line(&format!("wait for it: kubectl wait --for=condition=Complete drill/{name} -n {}", cluster.namespace))?;
        return Ok(0);
    }
    let ended = tokio::select! {
        ended = follow(cluster, &drill, limit(&drill, now), screen) => ended?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            screen.line(&format!("no longer watching; the drill goes on. Abort it: kubectl dw drill abort {name} -n {}", cluster.namespace))?;
            return Ok(exit_code(None));
        }
    };
    let code = exit_code(ended.status.and_then(|status| status.verdict));
    let (Some(format), Some(file)) = (arguments.output, &arguments.file) else {
        screen.line(&format!("report: kubectl dw drill report {name} -n {} -o html --file {name}.html", cluster.namespace))?;
        return Ok(code);
    };
    match super::report(cluster, &name, format, Some(file), &mut std::io::sink()).await {
        Ok(seal) => {
            screen.line(&format!("report: {}", file.display()))?;
            if seal.is_sound() {
                return Ok(code);
            }
            screen.line(&seal.text())?;
        }
        Err(error) => screen.line(&format!("no report: {}", told(&error)))?,
    }
    // A verdict that is there is not lost for it; but who asked for a report did not get all that was asked for.
    Ok(if code == 0 { exit_code(None) } else { code })
}

async fn dry_run(cluster: &Cluster, wish: &Wish, name: &str, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    screen.line(&format!("the API server accepts drill {}/{name} (dry run: nothing is created)", cluster.namespace))?;
    let pipeline = cluster.api::<DurableWritePipeline>().get_opt(&wish.pipeline).await;
    let likely = match pipeline {
        Ok(Some(pipeline)) => format!("likely target: {}", crate::text::plain(&wish.likely_target(&pipeline))),
        Ok(None) => format!("there is no pipeline {} in namespace {}: the drill would end at once", wish.pipeline, cluster.namespace),
        // Who may run drills need not be allowed to read pipelines.
        Err(kube::Error::Api(status)) if status.code == 403 => "likely target: unknown, as you may not read pipelines here".to_owned(),
        Err(error) => return Err(explain(error, "read the pipeline")),
    };
    screen.line(&likely)?;
    screen
        .line("the preflight (rights, tag, limits, state of the cluster) runs in the operator, when the drill is created")
        .context("print")
}

/// A drill triggers until notAfter and ends within its deadline from then.
fn limit(drill: &FailoverDrill, now: Timestamp) -> Duration {
    let wait = drill.spec.not_after.as_ref().map(|time| time.0.duration_since(now));
    let wait = wait.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or_default();
    wait + drill.spec.deadline.get() + drill.spec.objectives.backlog_drained.get() + SLACK
}
