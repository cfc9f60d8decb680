//! A local SQS: ElasticMQ, which keeps its queues in memory and takes the unchanged AWS SDK. Where it differs from the documented service is
//! written down in `sqs/CONFORMANCE.md`, each difference pinned by a test.

mod queue;
mod server;

use std::net::{IpAddr, Ipv4Addr};

use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_http_client::Builder;
use clap::Subcommand;
use tokio::signal::unix::{SignalKind, signal};

pub use queue::{Depth, Queue, QueueOptions, create_queue, create_queue_with_dead_letters, delete_queue, depth, drain_all};
pub use server::Sqs;

/// The region of queue ARNs and clients.
pub const REGION: &str = "eu-west-1";

/// Arguments of this part.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start ElasticMQ and run until a signal; queues and messages are gone afterwards
    Up {
        /// Address to listen on; may be repeated
        #[arg(long, default_values_t = [IpAddr::V4(Ipv4Addr::LOCALHOST)])]
        listen: Vec<IpAddr>,
        /// The port on each address; 0 is a free one
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
}

/// Runs the command.
///
/// # Errors
/// The server could not be started.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Command::Up { listen, port } = arguments.command;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let sqs = Sqs::start(&listen, port).await?;
    for address in sqs.addresses() {
        println!("http://{address}");
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// A client of an SQS endpoint without TLS (ElasticMQ, or a fault proxy before it). Each has its own connections, so that it works in the
/// runtime of the test that made it.
#[must_use]
pub fn client(endpoint: &str) -> aws_sdk_sqs::Client {
    let configuration = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static(REGION))
        .credentials_provider(Credentials::new("testbed", "testbed", None, None, "testbed"))
        .endpoint_url(endpoint)
        .http_client(Builder::new().build_http())
        .build();
    aws_sdk_sqs::Client::from_conf(configuration)
}
