//! The RDS API in front of the cluster: AWS Query protocol over HTTP, as the unchanged AWS SDK speaks it. Signatures are not looked at.

mod describe;
mod events;
mod request;
mod xml;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::Context;
use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request as HttpRequest, State as Shared};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::request::Request;
use self::xml::Xml;
use super::cluster::Cluster;
use super::failover::{Fault, Refused};

const NAMESPACE: &str = "http://rds.amazonaws.com/doc/2014-10-31/";
/// The account that owns the cluster.
const ACCOUNT: &str = "000000000000";

/// The running API; it ends when dropped.
pub(super) struct Rds {
    port: u16,
    calls: Calls,
    tasks: Vec<JoinHandle<()>>,
}

/// How often each action was called.
type Calls = Arc<Mutex<BTreeMap<String, u64>>>;

/// An answer of the service that is no success.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Failure {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    fn no_cluster(identifier: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "DBClusterNotFoundFault", format!("DBCluster {identifier} not found."))
    }

    fn no_instance(identifier: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "DBInstanceNotFound", format!("DBInstance {identifier} not found."))
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let code = match &refused {
            Refused::InProgress | Refused::NoReader => "InvalidDBClusterStateFault",
            Refused::IsWriter(_) | Refused::Down(_) => "InvalidDBInstanceState",
            Refused::Unknown(name) => return Self::no_instance(name),
        };
        Self::bad_request(code, refused.to_string())
    }
}

impl Rds {
    /// Serves the API of a cluster at all addresses, on a port that is free.
    pub async fn start(cluster: &Arc<Cluster>, listen: &[IpAddr]) -> anyhow::Result<Self> {
        let calls = Calls::default();
        let listeners = bind(listen).await?;
        let port = listeners.first().context("an address to listen on")?.local_addr()?.port();
        let router = Router::new().fallback(answer).with_state((Arc::downgrade(cluster), Arc::clone(&calls)));
        let serve = |listener: TcpListener| {
            let router = router.clone();
            tokio::spawn(async move {
                if let Err(error) = axum::serve(listener, router).await {
                    tracing::error!(%error, "the RDS API has ended");
                }
            })
        };
        let tasks = listeners.into_iter().map(serve).collect();
        Ok(Self { port, calls, tasks })
    }

    /// The port, the same at each address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How often an action was called, whatever the answer.
    pub fn calls(&self, action: &str) -> u64 {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).get(action).copied().unwrap_or(0)
    }
}

impl Drop for Rds {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Listens on the same port at all addresses.
async fn bind(listen: &[IpAddr]) -> io::Result<Vec<TcpListener>> {
    let mut tries = 20;
    loop {
        let mut listeners: Vec<TcpListener> = Vec::new();
        let mut failure = None;
        for address in listen {
            let port = listeners.first().map_or(Ok(0), |first| first.local_addr().map(|address| address.port()))?;
            match TcpListener::bind((*address, port)).await {
                Ok(listener) => listeners.push(listener),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            None => return Ok(listeners),
            // A port that is free at one address may be taken at another.
            Some(_) if tries > 0 => tries -= 1,
            Some(error) => return Err(error),
        }
    }
}

async fn answer(Shared((cluster, calls)): Shared<(Weak<Cluster>, Calls)>, http: HttpRequest) -> Response {
    let Some(cluster) = cluster.upgrade() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let query = http.uri().query().unwrap_or_default().to_owned();
    let body = to_bytes(http.into_body(), 1 << 20).await.unwrap_or_else(|_| Bytes::new());
    let request = Request::parse(query.as_bytes(), &body);
    let action = request.action().to_owned();
    *calls.lock().unwrap_or_else(PoisonError::into_inner).entry(action.clone()).or_default() += 1;

    let mut xml = Xml::default();
    let outcome: Result<(), Failure> = xml.element(&format!("{action}Response xmlns=\"{NAMESPACE}\""), |xml| {
        xml.element(&format!("{action}Result"), |xml| perform(&cluster, &request, xml))?;
        response_metadata(xml);
        Ok(())
    });
    let (status, xml) = match outcome {
        Ok(()) => (StatusCode::OK, xml),
        Err(failure) => (failure.status, error(&failure)),
    };
    (status, [(CONTENT_TYPE, "text/xml")], xml.into_document()).into_response()
}

/// Writes the result of an action.
fn perform(cluster: &Cluster, request: &Request, xml: &mut Xml) -> Result<(), Failure> {
    match request.action() {
        "DescribeDBClusters" => describe::clusters(cluster, request, xml),
        "DescribeDBInstances" => describe::instances(cluster, request, xml),
        "DescribeEvents" => events::describe(cluster, request, xml),
        "FailoverDBCluster" => fail_over(cluster, request, xml),
        action => Err(Failure::bad_request("InvalidAction", format!("Could not find operation {action} for version 2014-10-31"))),
    }
}

fn fail_over(cluster: &Cluster, request: &Request, xml: &mut Xml) -> Result<(), Failure> {
    let identifier = request.required("DBClusterIdentifier")?;
    if !describe::is_cluster(cluster, identifier) {
        return Err(Failure::no_cluster(identifier));
    }
    cluster.begin_failover(Fault::Planned, request.get("TargetDBInstanceIdentifier"))?;
    describe::cluster(cluster, xml);
    Ok(())
}

fn error(failure: &Failure) -> Xml {
    let mut xml = Xml::default();
    xml.children(&format!("ErrorResponse xmlns=\"{NAMESPACE}\""), |xml| {
        xml.children("Error", |xml| {
            xml.text("Type", if failure.status.is_client_error() { "Sender" } else { "Receiver" });
            xml.text("Code", failure.code);
            xml.text("Message", &failure.message);
        });
        xml.text("RequestId", request_id());
    });
    xml
}

fn response_metadata(xml: &mut Xml) {
    xml.children("ResponseMetadata", |xml| xml.text("RequestId", request_id()));
}

fn request_id() -> String {
    let random: [u16; 8] = rand::random();
    let [a, b, c, d, e, f, g, h] = random.map(|part| format!("{part:04x}"));
    format!("{a}{b}-{c}-{d}-{e}-{f}{g}{h}")
}
