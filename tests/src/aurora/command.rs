//! `testbed aurora up`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use super::{Aurora, AuroraOptions};

/// Arguments of `testbed aurora`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run a cluster until a signal ends it; prints its endpoints as JSON (usually after 2 s)
    Up(Up),
}

#[derive(Debug, Args)]
struct Up {
    /// The cluster's identifier
    #[arg(long, default_value = "orders")]
    identifier: String,
    /// How many instances, the writer included
    #[arg(long, default_value_t = 3)]
    instances: usize,
    /// An address to listen on; can be repeated
    #[arg(long, default_value = "127.0.0.1")]
    listen: Vec<IpAddr>,
    /// The address or name that clients are told
    #[arg(long, default_value = "127.0.0.1")]
    advertise: String,
    /// A tag of the cluster, as key=value; can be repeated
    #[arg(long, value_parser = tag)]
    tag: Vec<(String, String)>,
}

/// Runs the command.
///
/// # Errors
/// The cluster does not start.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Action::Up(up) = arguments.action;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let aurora = Aurora::start(AuroraOptions {
        cluster_identifier: up.identifier,
        instances: up.instances,
        listen: up.listen,
        advertise: up.advertise,
        tags: BTreeMap::from_iter(up.tag),
        ..AuroraOptions::default()
    })
    .await?;
    println!("{:#}", describe(&aurora));
    tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
    Ok(())
}

fn describe(aurora: &Aurora) -> serde_json::Value {
    serde_json::json!({
        "clusterIdentifier": aurora.identifier(),
        "clusterEndpoint": aurora.cluster_endpoint(),
        "readerEndpoint": aurora.reader_endpoint(),
        "rdsEndpoint": aurora.rds_endpoint(),
        "recordEndpoint": aurora.record_endpoint(),
        "resourceId": aurora.resource_id(),
        "instances": aurora.instances(),
        "username": aurora.username(),
        "password": aurora.password(),
        "certificateAuthority": aurora.folder().join("ca.pem"),
        "folder": aurora.folder(),
    })
}

fn tag(text: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = text.split_once('=').context("a tag is written key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}
