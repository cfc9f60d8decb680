//! The RDS API in front of the cluster: AWS Query protocol over HTTP, as the unchanged AWS SDK speaks it. Signatures are not looked at.

mod describe;
mod events;
mod request;
mod tags;
mod xml;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};

use axum::body::{Bytes, to_bytes};
use axum::extract::{Request as HttpRequest, State as Shared};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::request::Request;
use self::xml::Xml;
use super::cluster::Cluster;
use super::failover::{FailoverCalls, Refused};
use crate::proxy::http::HttpFaultProxy;

const NAMESPACE: &str = "http://rds.amazonaws.com/doc/2014-10-31/";
/// The account that owns the cluster.
const ACCOUNT: &str = "000000000000";
/// Where the record is read.
pub(super) const RECORD: &str = "/testbed/record";

/// The running API; it ends when dropped.
pub(super) struct Rds {
    proxy: Arc<HttpFaultProxy>,
    task: JoinHandle<()>,
}

/// What the answers are made from.
type Parts = (Weak<Cluster>, Weak<HttpFaultProxy>);

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
            Refused::InProgress | Refused::NoReader | Refused::Unavailable(_) => "InvalidDBClusterStateFault",
            Refused::IsWriter(_) | Refused::Down(_) => "InvalidDBInstanceState",
            Refused::Unknown(name) => return Self::no_instance(name),
        };
        Self::bad_request(code, refused.to_string())
    }
}

impl Rds {
    /// Serves the API of a cluster at all addresses, on a port that is free. All calls pass a proxy that counts them and places faults.
    pub async fn start(cluster: &Arc<Cluster>, listen: &[IpAddr]) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let proxy = Arc::new(start_proxy(listen, listener.local_addr()?).await?);
        let shared = (Arc::downgrade(cluster), Arc::downgrade(&proxy));
        let router = Router::new().route(RECORD, get(record)).fallback(answer).with_state(shared);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the RDS API has ended");
            }
        });
        Ok(Self { proxy, task })
    }

    /// What is in front of it.
    pub fn proxy(&self) -> &HttpFaultProxy {
        &self.proxy
    }

    /// The port, the same at each address.
    pub fn port(&self) -> u16 {
        self.proxy.addresses().first().map_or(0, SocketAddr::port)
    }

    /// The calls of `FailoverDBCluster`.
    pub fn failover_calls(&self, cluster: &Cluster) -> FailoverCalls {
        failover_calls(cluster, &self.proxy)
    }
}

impl Drop for Rds {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens on the same port at all addresses.
async fn start_proxy(listen: &[IpAddr], upstream: SocketAddr) -> anyhow::Result<HttpFaultProxy> {
    let addresses: Vec<_> = listen.iter().map(|address| SocketAddr::new(*address, 0)).collect();
    let mut tries = 20;
    loop {
        match HttpFaultProxy::start(&addresses, upstream).await {
            // A port that is free at one address may be taken at another.
            Err(_) if tries > 0 => tries -= 1,
            started => return started,
        }
    }
}

fn failover_calls(cluster: &Cluster, proxy: &HttpFaultProxy) -> FailoverCalls {
    let took_effect = cluster.state().failovers.iter().filter(|failover| failover.called).count();
    FailoverCalls { received: proxy.calls("FailoverDBCluster").received, took_effect: took_effect.try_into().unwrap_or(u64::MAX) }
}

/// What has happened, for tests in another process; no part of AWS's API.
async fn record(Shared((cluster, proxy)): Shared<Parts>) -> Response {
    let (Some(cluster), Some(proxy)) = (cluster.upgrade(), proxy.upgrade()) else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let calls = failover_calls(&cluster, &proxy);
    let state = cluster.state();
    Json(json!({
        "failoverCalls": calls,
        "failovers": state.failovers,
        "instances": cluster.instances(&state),
    }))
    .into_response()
}

async fn answer(Shared((cluster, _)): Shared<Parts>, http: HttpRequest) -> Response {
    let Some(cluster) = cluster.upgrade() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let query = http.uri().query().unwrap_or_default().to_owned();
    let body = to_bytes(http.into_body(), 1 << 20).await.unwrap_or_else(|_| Bytes::new());
    let request = Request::parse(query.as_bytes(), &body);
    let action = request.action();

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
        "ListTagsForResource" => tags::list(cluster, request, xml),
        "AddTagsToResource" => tags::add(cluster, request),
        "RemoveTagsFromResource" => tags::remove(cluster, request),
        "FailoverDBCluster" => fail_over(cluster, request, xml),
        action => Err(Failure::bad_request("InvalidAction", format!("Could not find operation {action} for version 2014-10-31"))),
    }
}

fn fail_over(cluster: &Cluster, request: &Request, xml: &mut Xml) -> Result<(), Failure> {
    let identifier = request.required("DBClusterIdentifier")?;
    if !describe::is_cluster(cluster, identifier) {
        return Err(Failure::no_cluster(identifier));
    }
    cluster.call_failover(request.get("TargetDBInstanceIdentifier"))?;
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
