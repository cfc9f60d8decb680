//! What the demo and the end-to-end tests share: a cluster with a node, a local Aurora and a local SQS that its pods reach, the image of the
//! programs as built, the chart installed by Helm, and namespaces with all that a pipeline refers to.

mod access;
mod chart;
mod command;
mod database;
mod namespace;
mod pipeline;
mod programs;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::Context;

pub(crate) use self::access::host_and_port;
pub use self::access::{Access, Role};
pub use self::chart::{RELEASE, Release, install, uninstall};
pub use self::command::{Arguments, run};
pub(crate) use self::command::{access_file, lock_file};
pub use self::database::{SHOP, WORKER, prepare_database, prepare_table};
pub use self::namespace::{CA_CONFIG_MAP, DATABASE_SECRET, prepare_namespace};
pub use self::pipeline::{example, merge, wait_until_ready};
pub use self::programs::Image;

use crate::aurora::{Aurora, AuroraOptions};
use crate::cluster::Cluster;
use crate::progress::Step;
use crate::sqs::Sqs;

/// The services that AWS would give: they run as long as this value, in the runtime that started them.
pub struct Servers {
    /// The database, with the RDS API in front.
    pub aurora: Aurora,
    /// The queues.
    pub sqs: Sqs,
    address: IpAddr,
}

impl Servers {
    /// Starts them, listening for this machine and for the pods that reach it at `address`; usually 4 s.
    ///
    /// # Errors
    /// A part is missing and cannot be installed, or a server does not start.
    pub async fn start(address: IpAddr) -> anyhow::Result<Self> {
        let step = Step::begin("starting Aurora and SQS", "4 seconds");
        let listen = vec![Ipv4Addr::LOCALHOST.into(), address];
        let aurora = start_aurora(address, AuroraOptions::default());
        let (aurora, sqs) = tokio::try_join!(aurora, Sqs::start(&listen, 0))?;
        step.done();
        Ok(Self { aurora, sqs, address })
    }

    /// How they are reached: the same from this machine and from pods.
    ///
    /// # Errors
    /// A server has no port.
    pub fn access(&self) -> anyhow::Result<Access> {
        self.access_with(&self.aurora)
    }

    /// How the queues are reached, and another database.
    ///
    /// # Errors
    /// A server has no port.
    pub fn access_with(&self, aurora: &Aurora) -> anyhow::Result<Access> {
        let sqs = self.sqs.addresses().last().context("SQS listens nowhere")?;
        Ok(Access {
            address: self.address,
            sqs: format!("http://{sqs}"),
            rds: aurora.rds_endpoint(),
            aurora: aurora.identifier().to_owned(),
            endpoint: aurora.cluster_endpoint(),
            username: aurora.username().to_owned(),
            password: aurora.password().to_owned(),
            ca: aurora.ca_pem().to_owned(),
        })
    }
}

/// Starts a database that this machine reaches, and pods at `address`, with the tags of [`open_to`] all namespaces; usually 1 s.
///
/// # Errors
/// Something is missing, or a server does not start.
pub async fn start_aurora(address: IpAddr, options: AuroraOptions) -> anyhow::Result<Aurora> {
    let listen = vec![Ipv4Addr::LOCALHOST.into(), address];
    Aurora::start(AuroraOptions { listen, advertise: address.to_string(), tags: open_to("@all"), ..options }).await
}

/// The tags with which the owner of an Aurora cluster opens it to drills of these namespaces of the cluster.
#[must_use]
pub fn open_to(namespaces: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(format!("durablewrite.dev/drills.{}", chart::CLUSTER), namespaces.to_owned())])
}

/// The checkout that this program was built from.
pub(crate) fn checkout() -> anyhow::Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the testbed lies in a checkout")
}

/// All parts, owned by this process: dropped, everything is gone.
pub struct Environment {
    /// Database and queues.
    pub servers: Servers,
    /// The cluster.
    pub cluster: Cluster,
    /// How database and queues are reached.
    pub access: Access,
}

impl Environment {
    /// Starts all parts, with a fresh cluster in `folder`; usually 20 s.
    ///
    /// # Errors
    /// Not root, a part is missing and cannot be installed, or a part does not start.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let step = Step::begin("starting Kubernetes", "10 to 15 seconds");
        let cluster = Cluster::full(&cluster_folder(folder)).await?;
        step.done();
        let servers = Servers::start(cluster.host_address()).await?;
        Ok(Self { access: servers.access()?, servers, cluster })
    }
}

/// Where the cluster of an environment has its data.
pub(crate) fn cluster_folder(folder: &Path) -> PathBuf {
    folder.join("cluster")
}
