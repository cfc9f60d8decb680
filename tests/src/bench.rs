//! `testbed bench`: what the worker costs and how fast it is, beside a rival in the same run, and what it adds to a failover. Emulator,
//! database and consumer share the machine: set ratios and CPU seconds against other runs, never rates.

mod consumer;
mod drain;
mod drill;
mod failover;
mod ground;
mod report;
mod rival;

use clap::Subcommand;

/// Arguments of `testbed bench`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Empty full queues, by the worker and by a rival in turn
    Drain(drain::Arguments),
    /// Fail the writer over and over, under load
    Failover(failover::Arguments),
    /// Empty full queues without and with the probe of a drill beside it
    Drill(drill::Arguments),
}

/// Measures, and prints a table.
///
/// # Errors
/// A part does not start, a consumer does not do its work, or a message is lost or doubled.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.what {
        What::Drain(arguments) => drain::run(arguments).await,
        What::Failover(arguments) => failover::run(arguments).await,
        What::Drill(arguments) => drill::run(arguments).await,
    }
}
