//! `durable-write-worker`: moves the messages of one queue into one table.

use std::net::SocketAddr;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use durable_write_crds::layout;
use durable_write_worker::database::access::Access;
use durable_write_worker::database::writer::Postgres;
use durable_write_worker::decode::Decoder;
use durable_write_worker::engine::{Engine, Settings};
use durable_write_worker::manifest::Files;
use durable_write_worker::queue::sqs::Sqs;
use durable_write_worker::{aws, check, http, probe, run, schema};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Moves each message of an SQS queue into exactly one row of a PostgreSQL table, or into the dead-letter queue with the reason.
///
/// AWS settings are taken from the usual environment: AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_SQS and their friends.
#[derive(Parser)]
#[command(name = "durable-write-worker", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a pipeline until SIGTERM; then what is held is finished or given back
    Run(Run),
    /// Check everything that a manifest names, and print the IAM policy that its workers need; nothing is received, sent or written
    Check(check::Arguments),
    /// Observe a failover drill: write through a pipeline and past it, and say what became of each write
    #[command(hide = true)]
    Probe(probe::Arguments),
    /// Print, or apply, the SQL that the table and the workers' user need
    Schema(schema::Arguments),
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    files: Files,
    /// Where to serve /livez, /readyz, /metrics and /state
    #[arg(long, default_value_t = SocketAddr::from(([0, 0, 0, 0], layout::HTTP_PORT)))]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<std::process::ExitCode> {
    rustls::crypto::ring::default_provider().install_default().map_err(|_| anyhow::anyhow!("a TLS provider is already installed"))?;
    // With huge pages the allocator keeps a third more resident than the memory budget knows of. Where the kernel has none, none are used.
    nix::sys::prctl::set_thp_disable(true).ok();
    match Arguments::parse().command {
        Command::Run(arguments) => {
            log();
            run_pipeline(arguments).await.map(|()| std::process::ExitCode::SUCCESS)
        }
        Command::Probe(arguments) => {
            log();
            probe::run(arguments, stop(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)).await
        }
        Command::Check(arguments) => check::run(&arguments).await,
        Command::Schema(arguments) => schema::run(&arguments).await,
    }
}

fn log() {
    let filter = EnvFilter::try_from_env("RUST_LOG").unwrap_or_else(|_| EnvFilter::new("info,sqlx=off"));
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
}

async fn run_pipeline(arguments: Run) -> anyhow::Result<()> {
    let pipeline = arguments.files.load()?;
    let name = pipeline.metadata.name.unwrap_or_default();
    let spec = pipeline.spec;
    let (stop_on_terminate, stop_on_interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (send, state) = watch::channel(None);
    let listener = TcpListener::bind(arguments.listen).await.with_context(|| format!("listen on {}", arguments.listen))?;
    tokio::spawn(http::serve(listener, state));
    tracing::info!(pipeline = name, version = env!("CARGO_PKG_VERSION"), "starting");
    let configuration = aws::configuration().await?;
    let queue = Sqs::new(&configuration, spec.queue.clone());
    let engine = Engine::new(Settings::new(&spec), Decoder::new(&spec), Instant::now());
    let access = Access::new(&name, &spec.database, &arguments.files.mounts(), &configuration);
    let sink = Postgres::new(spec, access);
    run::run(engine, queue, sink, send, stop(stop_on_terminate, stop_on_interrupt)).await;
    Ok(())
}

async fn stop(mut terminate: tokio::signal::unix::Signal, mut interrupt: tokio::signal::unix::Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
