//! `testbed cluster`: a cluster with a node, from a shell.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;

use super::Cluster;
use crate::progress::Step;
use crate::tools;

/// Arguments of `testbed cluster`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the cluster keeps its data [default: `cluster` in the cache folder]
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start it, or find it running; it stays until `down`
    Up,
    /// End it; its data stay in the folder for the next start
    Down,
    /// Say whether it runs, and how to reach it
    Status,
    /// Run kubectl on it
    #[command(disable_help_flag = true)]
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run helm on it
    #[command(disable_help_flag = true)]
    Helm {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Give it the images of an OCI archive
    Load { archive: PathBuf },
    /// Let pods resolve a name to these addresses, to none if there are none
    Name { name: String, addresses: Vec<IpAddr> },
}

/// Runs the command.
///
/// # Errors
/// The command failed.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let folder = match arguments.folder {
        Some(folder) => folder,
        None => tools::cache()?.join("cluster"),
    };
    match arguments.action {
        Action::Up => {
            let step = Step::begin("starting Kubernetes", "5 to 15 seconds");
            let cluster = Cluster::up(&folder).await?;
            step.done();
            print_status(&cluster).await
        }
        Action::Down => {
            let step = Step::begin("taking Kubernetes down", "2 seconds");
            Cluster::down(&folder)?;
            step.done();
            println!("The data are kept for the next start; to drop them: rm -r {}", folder.display());
            Ok(())
        }
        Action::Status => print_status(&Cluster::find(&folder).await?).await,
        Action::Kubectl { arguments } => {
            let cluster = Cluster::find(&folder).await?;
            become_command(cluster.kubectl_command(arguments))
        }
        Action::Helm { arguments } => {
            let cluster = Cluster::find(&folder).await?;
            become_command(cluster.helm_command(arguments))
        }
        Action::Load { archive } => Cluster::find(&folder).await?.load_image(&archive).await,
        Action::Name { name, addresses } => Cluster::find(&folder).await?.set_host_name(&name, &addresses),
    }
}

async fn print_status(cluster: &Cluster) -> anyhow::Result<()> {
    println!("{}", cluster.kubectl(["get", "nodes"]).await?.trim_end());
    println!("pods reach this machine at {}", cluster.host_address());
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("kubectl is {}", cluster.programs.kube.with_file_name("kubectl").display());
    Ok(())
}

/// Replaces this process, so that terminals and signals reach the program.
fn become_command(command: tokio::process::Command) -> anyhow::Result<()> {
    let mut command = command.into_std();
    Err(command.exec()).with_context(|| format!("run {}", command.get_program().display()))
}
