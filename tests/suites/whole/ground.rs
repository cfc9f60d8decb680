//! What the tests stand on: one cluster with the chart installed, an Aurora for everybody and small ones for drills, and one SQS that workers
//! reach through a fault proxy.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use anyhow::ensure;
use durable_write_testbed::aurora::{Aurora, AuroraOptions, Behaviour, Region, Timing};
use durable_write_testbed::cluster::Cluster;
use durable_write_testbed::environment::{
    Access, Environment, Image, RELEASE, SHOP, install, open_to, prepare_database, prepare_namespace, start_aurora,
};
use durable_write_testbed::proxy::http::HttpFaultProxy;
use durable_write_testbed::scratch::Scratch;
use durable_write_testbed::wait;
use futures::future::try_join_all;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

use crate::{LANES, PLACES};

/// How long something may take that takes seconds, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(90);

/// The ground, as long as a test has a place on it.
pub struct Ground {
    shared: Arc<Shared>,
    /// Its Aurora: one of those for drills, or everybody's.
    lane: Option<Lane>,
    _places: Option<SemaphorePermit<'static>>,
}

/// What all tests share. It ends with the last test that uses it or waits for it: a static would never be dropped, and its folders and
/// control groups would stay until the next run.
struct Shared {
    // Fields are dropped in order: what runs before its folder.
    parts: Parts,
    runtime: Option<Runtime>,
    _folder: Scratch,
}

struct Parts {
    environment: Environment,
    proxy: HttpFaultProxy,
    _region: Region,
    /// As the environment's, but for the RDS API, which is that of all databases.
    access: Access,
    for_drills: Vec<(Aurora, Access)>,
    image: Image,
}

/// The place of an Aurora for drills, which nobody else has meanwhile.
struct Lane(usize);

impl Lane {
    fn take() -> Self {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let free = taken.iter().position(|taken| !taken).unwrap();
        taken[free] = true;
        Self(free)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        TAKEN.lock().unwrap_or_else(PoisonError::into_inner)[self.0] = false;
    }
}

static TAKEN: std::sync::Mutex<[bool; LANES]> = std::sync::Mutex::new([false; LANES]);

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits for the ground to be this test's alone: a fault hits all pipelines, and what is counted must come from one test.
pub async fn ground() -> Ground {
    take(PLACES, false).await
}

/// Waits for a place beside other tests that place no faults either.
pub async fn common_ground() -> Ground {
    take(1, false).await
}

/// Waits for an Aurora of the test's own, small but else like everybody's. Its faults hit nobody else.
pub async fn drill_ground() -> Ground {
    take(1, true).await
}

/// Waits for the ground to be this test's alone, and for all Auroras for drills: the first holds the place of all.
pub async fn drill_grounds() -> [Ground; LANES] {
    let mut first = Some(take(PLACES, true).await);
    let shared = first.as_ref().unwrap().shared.clone();
    let grounds =
        std::array::from_fn(|_| first.take().unwrap_or_else(|| Ground { shared: shared.clone(), lane: Some(Lane::take()), _places: None }));
    for ground in &grounds {
        ground.heal().await;
    }
    grounds
}

async fn take(places: u32, drills: bool) -> Ground {
    static FREE: Semaphore = Semaphore::const_new(PLACES as usize);
    let shared = shared().await;
    let places = FREE.acquire_many(places).await.unwrap();
    let ground = Ground { shared, lane: drills.then(Lane::take), _places: Some(places) };
    ground.heal().await;
    ground
}

async fn shared() -> Arc<Shared> {
    static SHARED: Mutex<Weak<Shared>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(running) = shared.upgrade() {
        return running;
    }
    // Proxies and servers are tasks: they must not end with the runtime of the test that happens to start them.
    let starting = tokio::task::spawn_blocking(|| {
        let (runtime, folder) = (Runtime::new()?, Scratch::new("whole")?);
        let parts = runtime.block_on(start(folder.path().to_owned()))?;
        anyhow::Ok(Shared { parts, runtime: Some(runtime), _folder: folder })
    });
    let started = Arc::new(starting.await.unwrap().unwrap());
    *shared = Arc::downgrade(&started);
    started
}

async fn start(folder: PathBuf) -> anyhow::Result<Parts> {
    let image = async { tokio::task::spawn_blocking(Image::build).await? };
    let (image, environment) = tokio::try_join!(image, Environment::start(&folder))?;
    let Environment { cluster, servers, .. } = &environment;
    let address = environment.access.address;
    let for_drills = (0..LANES).map(|number| {
        // One zone: these failovers are told by RDS-EVENT-0072, everybody's by 0073.
        let identifier = format!("drills-{}", number + 1);
        start_aurora(address, AuroraOptions { cluster_identifier: identifier, instances: 2, zones: 1, ..AuroraOptions::default() })
    });
    let for_drills = try_join_all(for_drills).await?;
    let region = Region::start(&[address], &[&servers.aurora].into_iter().chain(&for_drills).collect::<Vec<_>>()).await?;
    let of_all = |access: Access| Access { rds: region.endpoint(), ..access };
    let access = of_all(servers.access()?);
    let reach = |aurora: Aurora| {
        let access = of_all(servers.access_with(&aurora)?);
        anyhow::Ok((aurora, access))
    };
    let for_drills = for_drills.into_iter().map(reach).collect::<anyhow::Result<Vec<_>>>()?;
    let proxy = HttpFaultProxy::start(&[SocketAddr::new(address, 0)], servers.sqs.addresses()[0]).await?;
    let databases = async {
        prepare_database(&access).await?;
        try_join_all(for_drills.iter().map(|(_, access)| prepare_database(access))).await
    };
    let chart = async {
        cluster.load_image(image.archive.as_deref().unwrap()).await?;
        install(cluster, &RELEASE, &access, &image, &proxy.endpoint()).await
    };
    tokio::try_join!(chart, databases)?;
    Ok(Parts { environment, proxy, _region: region, access, for_drills, image })
}

impl Ground {
    pub fn cluster(&self) -> &Cluster {
        &self.shared.parts.environment.cluster
    }

    pub fn access(&self) -> &Access {
        self.for_drills().map_or(&self.shared.parts.access, |(_, access)| access)
    }

    pub fn aurora(&self) -> &Aurora {
        self.for_drills().map_or(&self.shared.parts.environment.servers.aurora, |(aurora, _)| aurora)
    }

    fn for_drills(&self) -> Option<&(Aurora, Access)> {
        self.lane.as_ref().map(|Lane(number)| &self.shared.parts.for_drills[*number])
    }

    /// Between workers and SQS; what a test itself calls does not pass it.
    pub fn sqs_proxy(&self) -> &HttpFaultProxy {
        &self.shared.parts.proxy
    }

    pub fn image(&self) -> &Image {
        &self.shared.parts.image
    }

    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster().kubectl(arguments).await.unwrap()
    }

    /// A connection of the superuser to the writer itself, past all proxies.
    pub async fn database(&self) -> anyhow::Result<PgConnection> {
        Ok(self.aurora().admin_options()?.database(SHOP).disable_statement_logging().connect().await?)
    }

    /// Makes a namespace with what pipelines refer to.
    pub async fn namespace(&self, name: &str) {
        prepare_namespace(self.cluster(), self.access(), name).await.unwrap();
    }

    /// Deletes a namespace that nothing is expected of any more: nobody waits for its pods, which need not end in order.
    pub async fn leave(&self, namespace: &str) {
        self.kubectl(&["delete", "namespace", namespace, "--wait=false"]).await;
        self.kubectl(&["delete", "pods", "--all", "--namespace", namespace, "--grace-period=0", "--force"]).await;
    }

    /// Waits until nothing is left of the namespaces that other tests have deleted.
    pub async fn all_have_left(&self) {
        until("deleted namespaces to go", async || {
            let phases = self.cluster().kubectl(["get", "namespaces", "--output=jsonpath={.items[*].status.phase}"]).await?;
            ensure!(!phases.contains("Terminating"), "{phases}");
            Ok(())
        })
        .await;
    }

    /// Ends the faults that a test has left, as it does when it fails.
    async fn heal(&self) {
        if self.lane.is_none() {
            self.sqs_proxy().clear();
        }
        let aurora = self.aurora();
        aurora.rds_proxy().clear();
        aurora.set_behaviour(Behaviour::default());
        aurora.set_timing(Timing::default());
        aurora.set_tags(open_to("@all"));
        aurora.settled().await;
        for instance in aurora.instances() {
            aurora.instance_proxy(&instance.name).unwrap().heal().await;
        }
        aurora.cluster_proxy().heal().await;
        if self.lane.is_some() {
            self.close_drills().await;
        }
    }

    /// Closes the claims of probes that were killed.
    pub async fn close_drills(&self) {
        let mut database = self.database().await.unwrap();
        sqlx::query("UPDATE durable_write.drill SET closed = now() WHERE closed IS NULL").execute(&mut database).await.unwrap();
        database.close().await.unwrap();
    }
}

/// Waits until there is an answer, and fails the test when there is none soon.
pub async fn until<T>(what: &str, ask: impl AsyncFnMut() -> anyhow::Result<T>) -> T {
    wait::until(what, SOON, ask).await.unwrap_or_else(|error| panic!("{error:#}"))
}
