//! `kubectl dw`: runs drills, shows them, and writes their reports.

use std::io::{self, IsTerminal, Write, stdout};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{CommandFactory, Parser};
use durable_write_crds::{DurableWritePipeline, FailoverDrill};
use durable_write_worker::{check, schema};
use jiff::Timestamp;
use kube::api::ListParams;
use kubectl_dw::arguments::{Arguments, Command, Drill};
use kubectl_dw::cluster::{Cluster, explain, told};
use kubectl_dw::drill::{self, Screen, list};
use kubectl_dw::{pipeline, traffic};

/// Everything that did not work.
const FAILED: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(code) => code,
        Err(error) => {
            // Who reads no further, as `head`, wants to hear nothing either.
            if !error.chain().any(is_broken_pipe) {
                eprintln!("error: {}", told(&error));
            }
            ExitCode::from(FAILED)
        }
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    rustls::crypto::ring::default_provider().install_default().map_err(|_| anyhow!("a TLS provider is already installed"))?;
    let access = arguments.access;
    match arguments.command {
        Command::Drill(command) => drills(&access.connect().await?, command).await,
        Command::Status { pipeline } => status(&access.connect().await?, &pipeline).await,
        Command::Traffic(arguments) => {
            let terminal = stdout().is_terminal();
            let mut out = stdout();
            traffic::run(&access.connect().await?, &arguments, Timestamp::now(), &mut Screen::new(&mut out, terminal)).await
        }
        Command::Schema(arguments) => schema::run(&arguments).await,
        Command::Check(arguments) => check::run(&arguments).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command().bin_name("kubectl-dw"), "kubectl-dw", &mut script);
            stdout().write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn drills(cluster: &Cluster, command: Drill) -> anyhow::Result<ExitCode> {
    let (terminal, mut out) = (stdout().is_terminal(), stdout());
    match command {
        Drill::Run(arguments) => {
            let code = drill::run::run(cluster, &arguments, Timestamp::now(), &mut Screen::new(&mut out, terminal)).await?;
            return Ok(ExitCode::from(code));
        }
        Drill::List { all_namespaces } => list::list(cluster, all_namespaces, Timestamp::now(), &mut out).await?,
        Drill::Show { name } => drill::show(cluster, &name, &mut out).await?,
        Drill::Abort { name } => drill::abort(cluster, &name, &mut out).await?,
        Drill::Report(wanted) => {
            let seal = drill::report(cluster, &wanted.name, wanted.output, wanted.file.as_deref(), &mut out).await?;
            // Not part of the report: it may be piped.
            eprintln!("{}", seal.text());
            return Ok(if seal.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) });
        }
        Drill::Compare { one, other } => drill::compare(cluster, [&one, &other], &mut out).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn status(cluster: &Cluster, name: &str) -> anyhow::Result<ExitCode> {
    let found = cluster.api::<DurableWritePipeline>().get(name).await.map_err(|error| explain(error, "read the pipeline"))?;
    let drills = cluster.api::<FailoverDrill>().list(&ListParams::default()).await;
    let drills = drills.map_err(|error| explain(error, "list drills"))?.items;
    stdout().write_all(pipeline::status(&found, &drills, Timestamp::now()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
