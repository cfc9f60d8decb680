//! What the tests stand on: one cluster with the chart installed, one Aurora, and one SQS that workers reach through a fault proxy.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::ensure;
use durable_write_testbed::aurora::{Aurora, Behaviour};
use durable_write_testbed::cluster::Cluster;
use durable_write_testbed::environment::{Access, Environment, Image, RELEASE, SHOP, install, prepare_database, prepare_namespace};
use durable_write_testbed::proxy::http::HttpFaultProxy;
use durable_write_testbed::scratch::Scratch;
use durable_write_testbed::wait;
use sqlx::{ConnectOptions, PgConnection};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

/// How long something may take that takes seconds, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(90);

/// The ground, as long as a test has a place on it.
pub struct Ground {
    shared: Arc<Shared>,
    _places: SemaphorePermit<'static>,
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
    image: Image,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits for the ground to be this test's alone: a fault hits all pipelines, and what is counted must come from one test.
pub async fn ground() -> Ground {
    take(PLACES).await
}

/// Waits for a place beside another test that places no faults either: most of their time is waiting, and more load than that of two is
/// too much for two cores.
pub async fn common_ground() -> Ground {
    take(1).await
}

const PLACES: u32 = 2;

async fn take(places: u32) -> Ground {
    static FREE: Semaphore = Semaphore::const_new(PLACES as usize);
    let shared = shared().await;
    let places = FREE.acquire_many(places).await.unwrap();
    let ground = Ground { shared, _places: places };
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
        let (runtime, folder) = (Runtime::new()?, Scratch::new("end-to-end")?);
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
    let Environment { cluster, access, servers } = &environment;
    let proxy = HttpFaultProxy::start(&[SocketAddr::new(access.address, 0)], servers.sqs.addresses()[0]).await?;
    cluster.load_image(image.archive.as_deref().unwrap()).await?;
    let endpoint = proxy.endpoint();
    tokio::try_join!(install(cluster, &RELEASE, access, &image, &endpoint), prepare_database(access))?;
    Ok(Parts { environment, proxy, image })
}

impl Ground {
    pub fn cluster(&self) -> &Cluster {
        &self.shared.parts.environment.cluster
    }

    pub fn access(&self) -> &Access {
        &self.shared.parts.environment.access
    }

    pub fn aurora(&self) -> &Aurora {
        &self.shared.parts.environment.servers.aurora
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
        self.sqs_proxy().clear();
        self.aurora().rds_proxy().clear();
        self.aurora().set_behaviour(Behaviour::default());
        self.aurora().settled().await;
        for instance in self.aurora().instances() {
            self.aurora().instance_proxy(&instance.name).unwrap().heal().await;
        }
        self.aurora().cluster_proxy().heal().await;
    }
}

/// Waits until there is an answer, and fails the test when there is none soon.
pub async fn until<T>(what: &str, ask: impl AsyncFnMut() -> anyhow::Result<T>) -> T {
    wait::until(what, SOON, ask).await.unwrap_or_else(|error| panic!("{error:#}"))
}
