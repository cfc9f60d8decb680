//! `make demo` and `make down`: the whole product on one machine. Messages are sent at a steady rate while a drill fails the
//! writer over, and what became of them is counted.

mod drive;
mod report;
mod supervisor;
mod surroundings;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::cluster::Cluster;
use crate::environment::{Access, Image, RELEASE, cluster_folder, example, install, prepare_database, prepare_namespace, wait_until_ready};
use crate::progress::Step;
use crate::tools;

use self::drive::{NAMESPACE, PIPELINE};

/// Pods start in seconds, on a busy machine.
const READY: Duration = Duration::from_secs(120);

/// Arguments of `testbed demo`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// How many messages are sent
    #[arg(long, default_value_t = 3000)]
    messages: u64,
    /// How many messages are sent a second
    #[arg(long, default_value_t = 50.0)]
    per_second: f64,
    /// The image, when KUBECONFIG leads to a cluster of yours that can pull it; by default it is built, and a cluster too
    #[arg(long, requires = "address")]
    image: Option<String>,
    /// The address of this machine that pods of your cluster reach
    #[arg(long, requires = "image")]
    address: Option<IpAddr>,
}

/// Arguments of `testbed down`.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// Where the demo keeps its data [default: `demo` in the cache folder]
    #[arg(long, env = "DURABLE_WRITE_DEMO")]
    folder: Option<PathBuf>,
}

impl Place {
    fn folder(&self) -> anyhow::Result<PathBuf> {
        match &self.folder {
            Some(folder) => Ok(std::path::absolute(folder)?),
            None => Ok(tools::cache()?.join("demo")),
        }
    }
}

/// Runs the demo; what it needs is brought up, or found running, and stays.
///
/// # Errors
/// A part does not work; not when messages were lost or duplicated, which the exit code tells.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let folder = arguments.place.folder()?;
    let (image, access) = tokio::try_join!(image(arguments.image.clone()), supervisor::up(&folder, arguments.address))?;
    let cluster = match arguments.address {
        None => Cluster::find(&cluster_folder(&folder)).await?,
        Some(address) => Cluster::of_others(&kubeconfig()?, address, &folder).await?,
    };
    tokio::try_join!(
        install_product(&cluster, &access, &image),
        prepare_database(&access),
        drive::prepare_queues(&access),
        prepare_namespace(&cluster, &access, NAMESPACE),
    )?;
    let step = Step::begin("applying crds/examples/orders.yaml and waiting until it can write", "5 seconds");
    let manifest = example()?.to_string();
    cluster.kubectl_with(["apply", "--namespace", NAMESPACE, "-f", "-"], &manifest).await?;
    wait_until_ready(&cluster, NAMESPACE, PIPELINE, READY).await?;
    step.done();

    let outcome = drive::drive(&cluster, &access, &folder, arguments.messages, arguments.per_second).await?;
    let environment = surroundings::write(&folder, &cluster, &access).await?;
    report::print(&cluster, &outcome, &environment).await?;
    Ok(if outcome.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Takes the demo down: nothing of it runs or is mounted afterwards.
///
/// # Errors
/// Something cannot be ended or removed.
pub async fn down(place: Place) -> anyhow::Result<()> {
    let step = Step::begin("taking the demo down", "3 seconds");
    supervisor::down(&place.folder()?).await?;
    step.done();
    Ok(())
}

async fn image(reference: Option<String>) -> anyhow::Result<Image> {
    match reference {
        Some(reference) => Image::named(&reference),
        None => tokio::task::spawn_blocking(Image::build).await?,
    }
}

fn kubeconfig() -> anyhow::Result<PathBuf> {
    match std::env::var_os("KUBECONFIG") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => bail!("an image and an address of yours need a cluster of yours: set KUBECONFIG to the file that leads to it"),
    }
}

async fn install_product(cluster: &Cluster, access: &Access, image: &Image) -> anyhow::Result<()> {
    if let Some(archive) = &image.archive {
        cluster.load_image(archive).await.context("give the image to the node")?;
    }
    let step = Step::begin(format!("installing the chart with {}", image.reference()), "5 seconds");
    install(cluster, &RELEASE, access, image, &access.sqs).await?;
    step.done();
    Ok(())
}
