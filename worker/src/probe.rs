//! `probe`: writes through a pipeline and past it while its Aurora cluster fails over, and says what became of each write. It decides nothing
//! about the drill: it needs no caller, finds the outage by itself and leaves its result as the pod's termination message.
//!
//! What it saw is kept apart from how it was seen: the ledger, the gap, the course and the clock decide and know no I/O; servers, direct
//! writes, standing connections, tables and the port do it.

mod clock;
mod conduct;
mod count;
mod course;
mod direct;
mod gap;
mod ledger;
mod look;
mod port;
mod result;
mod servers;
mod standing;
mod tables;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use durable_write_crds::conditions::reasons;
use durable_write_crds::layout;
use durable_write_crds::probe::{PLAN_VARIABLE, ProbePlan, ProbeState, RESULT_FILE};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::database::access::Access;
use crate::manifest::{self, Mounts};
use crate::problem::Problem;
use crate::queue::sqs::Sqs;
pub(crate) use tables::check_tables;

use clock::Clock;
use conduct::Ground;
use port::Shown;

/// How a probe is started.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The folder with pipeline/, topology/, secrets/ and configmaps/, as the pods have it
    #[arg(long, default_value = layout::MOUNTS)]
    mounts: PathBuf,
    /// What to do, in JSON
    #[arg(long, env = PLAN_VARIABLE, value_parser = plan, hide_env_values = true)]
    plan: ProbePlan,
    /// Where to leave the result
    #[arg(long, default_value = RESULT_FILE, hide = true)]
    result: PathBuf,
    /// Where to serve /livez, /readyz and /state
    #[arg(long, default_value_t = SocketAddr::from(([0, 0, 0, 0], layout::HTTP_PORT)))]
    listen: SocketAddr,
}

fn plan(text: &str) -> Result<ProbePlan, serde_json::Error> {
    serde_json::from_str(text)
}

/// Measures until the end, or until `stop` ends; then there is no result.
///
/// # Errors
/// The port is taken, or the result cannot be written.
pub async fn run(arguments: Arguments, stop: impl Future<Output = ()>) -> anyhow::Result<ExitCode> {
    let clock = Clock::start();
    let listener = TcpListener::bind(arguments.listen).await.with_context(|| format!("listen on {}", arguments.listen))?;
    let checking = ProbeState { seconds: Vec::new(), stage: "Checking".to_owned(), message: "looking at queue and database".to_owned() };
    let (shown, seen) = watch::channel(Shown { state: checking, ready: false });
    tokio::spawn(port::serve(listener, seen));
    let plan = arguments.plan.clone();
    tracing::info!(drill = plan.drill, version = env!("CARGO_PKG_VERSION"), "starting");
    let ground = match ground(&arguments, clock, shown).await {
        Ok(ground) => ground,
        Err(problem) => {
            result::leave(result::refused(result::empty(&plan.drill, clock), &problem), &arguments.result)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    tokio::select! {
        () = stop => {
            tracing::info!("stopped: nothing more is written, and there is no result");
            ground.close().await;
            Ok(ExitCode::FAILURE)
        }
        measured = ground.measure() => {
            tracing::info!(outcome = ?measured.outcome, reason = measured.reason, message = measured.message, "ended");
            let left = result::leave(measured, &arguments.result);
            // Only now, as it may take long: whatever ends the probe meanwhile, the result is there.
            ground.close().await;
            left.map(|()| ExitCode::SUCCESS)
        }
    }
}

async fn ground(arguments: &Arguments, clock: Clock, shown: watch::Sender<Shown>) -> Result<Ground, Problem> {
    let invalid = |error: &dyn std::fmt::Display| Problem::new(reasons::INVALID_SPEC, "", error.to_string());
    let pipeline = manifest::load(&arguments.mounts.join(Path::new(layout::MANIFEST))).map_err(|error| invalid(&error))?;
    if pipeline.spec.database.aurora.is_none() {
        return Err(Problem::new(reasons::NOT_AURORA, "database", "drills need a pipeline with database.aurora"));
    }
    let configuration = crate::aws::configuration().await.map_err(|error| invalid(&error))?;
    let name = pipeline.metadata.name.unwrap_or_default();
    Ok(Ground {
        plan: arguments.plan.clone(),
        clock,
        access: Access::new(&name, &pipeline.spec.database, &Mounts::new(&arguments.mounts, None), &configuration),
        queue: Arc::new(Sqs::new(&configuration, pipeline.spec.queue)),
        shown,
    })
}
