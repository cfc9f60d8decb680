//! `testbed`: brings the local test environment up and down from a shell. What it does is in the library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use durable_write_testbed::{aurora, bench, cluster, demo, environment, image, sqs, tools};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "testbed", about = "A local Kubernetes, a local Aurora and a local SQS, all real parts, on one machine")]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Everything at work: cluster, Aurora, SQS, chart and pipeline; 3,000 messages and a failover. It stays up for a closer look
    Demo(demo::Arguments),
    /// Take the demo down
    Down(demo::Place),
    /// What the demo runs in: a cluster, Aurora and SQS, until a signal
    Environment(environment::Arguments),
    /// Install what is missing on this machine, and build Kubernetes and Helm once into the cache
    Tools(tools::Arguments),
    /// A single-node Kubernetes: up, down, kubectl
    Cluster(cluster::Arguments),
    /// A container image from programs of this machine
    Image(image::Arguments),
    /// A PostgreSQL cluster that behaves like Aurora, with the RDS API in front
    Aurora(aurora::Arguments),
    /// SQS by ElasticMQ
    Sqs(sqs::Arguments),
    /// Measure the worker, beside a rival and in failovers
    Bench(bench::Arguments),
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    // The client's own log repeats every refusal while a cluster starts.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_client=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    rustls::crypto::ring::default_provider().install_default().map_err(|_| anyhow::anyhow!("a rustls provider is already installed"))?;
    match Arguments::parse().part {
        Part::Demo(arguments) => return demo::run(arguments).await,
        Part::Down(place) => demo::down(place).await,
        Part::Environment(arguments) => environment::run(arguments).await,
        Part::Tools(arguments) => tools::run(arguments).await,
        Part::Cluster(arguments) => cluster::run(arguments).await,
        Part::Image(arguments) => image::run(&arguments),
        Part::Aurora(arguments) => aurora::run(arguments).await,
        Part::Sqs(arguments) => sqs::run(arguments).await,
        Part::Bench(arguments) => bench::run(arguments).await,
    }?;
    Ok(ExitCode::SUCCESS)
}
