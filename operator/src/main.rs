//! The operator's program: settings from the chart's environment, clients from the usual ones of Kubernetes and AWS.

use anyhow::Context;
use aws_smithy_http_client::{Builder, tls};
use clap::Parser;
use durable_write_operator::Settings;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Turns DurableWritePipelines into workers
#[derive(Parser)]
#[command(name = "durable-write-operator", version)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider().install_default().map_err(|_| anyhow::anyhow!("a rustls provider is already installed"))?;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info,kube=warn".into());
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
    let settings = Arguments::parse().settings;
    let client = kube::Client::try_default().await.context("no Kubernetes to talk to: run in a pod, or set KUBECONFIG")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
    durable_write_operator::run(client, rds().await, settings, shutdown()?).await?;
    tracing::info!("ended");
    Ok(())
}

async fn rds() -> aws_sdk_rds::Client {
    let http = Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build_https();
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest()).http_client(http).load().await;
    aws_sdk_rds::Client::new(&config)
}

/// Ends when Kubernetes or a person asks the program to end.
fn shutdown() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to end; what has begun is finished");
    })
}
