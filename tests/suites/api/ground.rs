//! What the tests stand on: one cluster with the chart installed and the operator running in this process, with no more rights than the
//! chart gives it; a namespace per test that takes restricted pods only.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use durable_write_crds::DurableWritePipeline;
use durable_write_operator::{Settings, WorkerEnvironment};
use durable_write_testbed::cluster::Cluster;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::client::{Body, ClientBuilder};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::sync::{OnceCell, oneshot};
use tower::util::MapRequestLayer;

use crate::rds::Rds;

/// Where the operator is installed.
const OPERATOR: &str = "durable-write";

/// A cluster with the operator.
pub(crate) struct Ground {
    pub(crate) cluster: Cluster,
    pub(crate) rds: Rds,
    /// Where the operator serves HTTP.
    pub(crate) operator_address: std::net::SocketAddr,
    writes: Writes,
    operator: Mutex<Option<Operator>>,
}

/// The operator in a thread of its own, as tests end with their runtimes.
struct Operator {
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

/// Paths that the operator wrote to.
type Writes = Arc<Mutex<Vec<String>>>;

/// The ground that all tests share.
pub(crate) async fn ground() -> &'static Ground {
    static GROUND: OnceCell<Ground> = OnceCell::const_new();
    GROUND.get_or_init(Ground::new).await
}

impl Ground {
    pub(crate) async fn new() -> Self {
        let ground = Self::without_operator().await;
        ground.start_operator("localhost/durable-write:test").await;
        ground
    }

    /// A cluster with the chart, in which no operator runs.
    pub(crate) async fn without_operator() -> Self {
        let cluster = Cluster::api_prepared(install).await.unwrap();
        Self { cluster, rds: Rds::start(), operator_address: free_address(), writes: Writes::default(), operator: Mutex::default() }
    }

    /// Starts the operator with that image for workers.
    pub(crate) async fn start_operator(&self, worker_image: &str) {
        let settings = Settings {
            listen: self.operator_address,
            worker_image: worker_image.to_owned(),
            worker_image_pull_policy: "IfNotPresent".to_owned(),
            worker_env: WorkerEnvironment::default(),
            cluster_name: "test".to_owned(),
            drills_enabled: true,
            drills_min_interval: durable_write_crds::Duration::from_millis(0),
            drills_min_readers: 1,
            drills_max_replica_lag: durable_write_crds::Duration::from_millis(1000),
            requested_by_verified: true,
            namespace: OPERATOR.to_owned(),
            identity: "operator-in-test".to_owned(),
        };
        let config = operator_config(&self.cluster).await;
        let operator = Operator::start(config, Arc::clone(&self.writes), self.rds.client(), settings);
        *self.operator.lock().unwrap() = Some(operator);
    }

    /// Stops the operator and waits until it is gone.
    pub(crate) async fn stop_operator(&self) {
        let Operator { stop, thread } = self.operator.lock().unwrap().take().unwrap();
        stop.send(()).unwrap();
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    }

    /// A new namespace, which takes restricted pods only.
    pub(crate) async fn namespace(&self) -> Home {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let client = self.cluster.client().await.unwrap();
        let namespace = json!({"metadata": {"name": name, "labels": restricted()}});
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
        Home { name, client }
    }

    /// What the operator's port answers.
    pub(crate) async fn operator_says(&self, path: &str) -> (u16, String) {
        get(self.operator_address, path).await
    }

    /// What the operator wrote below `namespace` so far.
    pub(crate) fn writes_in(&self, namespace: &str) -> Vec<String> {
        let below = format!("/namespaces/{namespace}/");
        self.writes.lock().unwrap().iter().filter(|path| path.contains(&below)).cloned().collect()
    }

    pub(crate) async fn kubectl(&self, home: &Home, arguments: &[&str]) -> anyhow::Result<String> {
        self.cluster.kubectl([&["--namespace", &home.name], arguments].concat()).await
    }

    pub(crate) async fn apply(&self, home: &Home, manifest: &str) -> anyhow::Result<String> {
        self.cluster.kubectl_with(["--namespace", &home.name, "apply", "-f", "-"], manifest).await
    }
}

/// Installs the chart as Helm does by default.
async fn install(cluster: &Cluster) -> anyhow::Result<()> {
    let chart = repository("charts/durable-write");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR, "labels": restricted()}});
    cluster.kubectl_with(["apply", "-f", "-"], &namespace.to_string()).await?;
    cluster.helm(["install", OPERATOR, chart.to_str().unwrap(), "--namespace", OPERATOR]).await?;
    cluster.kubectl(["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await?;
    Ok(())
}

impl Operator {
    fn start(config: Config, writes: Writes, rds: aws_sdk_rds::Client, settings: Settings) -> Self {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let shutdown = async {
                stopped.await.ok();
            };
            // The client has tasks of its own, which must live as long as the operator.
            runtime.block_on(async {
                let client = noting_client(config, writes);
                durable_write_operator::run(client, rds, settings, shutdown).await.unwrap();
            });
        });
        Self { stop, thread }
    }
}

/// A namespace of one test.
pub(crate) struct Home {
    pub(crate) name: String,
    pub(crate) client: Client,
}

impl Home {
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    pub(crate) async fn pipeline(&self, name: &str) -> DurableWritePipeline {
        self.api::<DurableWritePipeline>().get(name).await.unwrap()
    }

    /// Waits until a pipeline that is made now is younger than this one: which of two is older is known to the second.
    pub(crate) async fn is_older_than_now(&self, pipeline: &str) {
        eventually("a second to pass", async || {
            let created = self.pipeline(pipeline).await.metadata.creation_timestamp.unwrap().0;
            if Timestamp::now().duration_since(created).as_secs() >= 2 { Ok(()) } else { Err(created.to_string()) }
        })
        .await;
    }

    /// Waits until the condition of the pipeline has that status and reason.
    pub(crate) async fn condition(&self, pipeline: &str, type_: &str, status: &str, reason: &str) {
        eventually(&format!("{pipeline} to say {type_}={status}/{reason}"), async || {
            let status_now = self.pipeline(pipeline).await.status.unwrap_or_default();
            let found = status_now.conditions.iter().find(|condition| condition.type_ == type_);
            match found {
                Some(found) if found.status == status && found.reason == reason => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

/// Asks again and again until the answer is yes, for at most 40 s: a pipeline is looked at every 10 s.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(last) if Instant::now() > end => panic!("waited in vain for {what}; last: {last}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// The HTTP status and the text that a port answers.
pub(crate) async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<http_body_util::Empty<hyper::body::Bytes>>();
    let response = client.get(format!("http://{address}{path}").parse().unwrap()).await.unwrap();
    let status = response.status();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    (status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
}

/// The smallest pipeline, of that name and on that queue.
pub(crate) fn smallest(name: &str, queue: &str) -> String {
    manifest(name, queue, "postgres: {writer: 'db:5432', instances: ['db-1:5432', 'db-2:5432']}")
}

/// The smallest pipeline on that kind of database.
pub(crate) fn manifest(name: &str, queue: &str, database: &str) -> String {
    format!(
        "
apiVersion: durablewrite.dev/v1alpha1
kind: DurableWritePipeline
metadata: {{name: {name}}}
spec:
  queue: {{name: {queue}}}
  database: {{{database}, name: shop, credentials: {{secretRef: {{name: orders-db}}}}}}
  target:
    table: {{name: orders}}
    columns: [{{name: id, from: {{body: /id}}}}, {{name: payload, from: {{body: ''}}}}]
  idempotency: {{targetKey: {{columns: [id]}}}}
"
    )
}

/// A path below the repository's root.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn restricted() -> HashMap<&'static str, &'static str> {
    HashMap::from([("pod-security.kubernetes.io/enforce", "restricted")])
}

/// The operator is the chart's ServiceAccount to the API server.
pub(crate) async fn operator_config(cluster: &Cluster) -> Config {
    let mut config = cluster.config().await.unwrap();
    let user = format!("system:serviceaccount:{OPERATOR}:{OPERATOR}");
    config.headers.push((HeaderName::from_static("impersonate-user"), HeaderValue::from_str(&user).unwrap()));
    config
}

/// A client whose writes are noted.
fn noting_client(config: Config, writes: Writes) -> Client {
    let note = MapRequestLayer::new(move |request: Request<Body>| {
        if request.method() != Method::GET {
            writes.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
        }
        request
    });
    ClientBuilder::try_from(config).unwrap().with_layer(&note).build()
}

fn free_address() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
