//! One RDS API in front of several clusters, as an account has one in a region. What names a cluster goes to that cluster's own API, which has
//! its own faults and counts; what asks for all is answered by all.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Aurora;
use crate::proxy::http::serve;

/// The fields of requests that name a cluster. An instance is asked for by a filter that names its cluster, or with all others.
const NAMES: [&str; 4] = ["DBClusterIdentifier", "SourceIdentifier", "ResourceName", "Filters.Filter.1.Values.Value.1"];
/// The elements of answers that list what was asked for.
const LISTS: [&str; 3] = ["DBClusters", "DBInstances", "Events"];

/// A running API; it ends when dropped.
#[derive(Debug)]
pub struct Region {
    addresses: Vec<SocketAddr>,
    _listeners: JoinSet<()>,
}

struct Router {
    /// Each cluster's identifier and where its own API is.
    clusters: Vec<(String, Authority)>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Region {
    /// Serves the APIs of these clusters at each address, on ports that are free.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub async fn start(listen: &[IpAddr], clusters: &[&Aurora]) -> anyhow::Result<Self> {
        let own = |aurora: &&Aurora| {
            let address = aurora.rds_proxy().addresses().first().context("an RDS API listens")?;
            anyhow::Ok((aurora.identifier().to_owned(), Authority::try_from(address.to_string())?))
        };
        let clusters = clusters.iter().map(own).collect::<anyhow::Result<_>>()?;
        let router = Arc::new(Router { clusters, client: Client::builder(TokioExecutor::new()).build_http() });
        let mut region = Self { addresses: Vec::new(), _listeners: JoinSet::new() };
        for address in listen {
            let listener = TcpListener::bind((*address, 0)).await.with_context(|| format!("listen on {address}"))?;
            region.addresses.push(listener.local_addr()?);
            let router = router.clone();
            region._listeners.spawn(serve(listener, move |request| router.clone().answer(request)));
        }
        Ok(region)
    }

    /// The URL of its last address, for `AWS_ENDPOINT_URL_RDS`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.addresses.last().map(|address| format!("http://{address}")).unwrap_or_default()
    }
}

impl Router {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        if let Some((_, own)) = self.clusters.iter().find(|(identifier, _)| names(&body, identifier)) {
            return self.pass_on(&head, &body, own).await;
        }
        let mut all: Option<Response<Full<Bytes>>> = None;
        for (_, own) in &self.clusters {
            let next = self.pass_on(&head, &body, own).await?;
            all = Some(match all {
                Some(before) if before.status().is_success() => joined(before, next).await?,
                Some(before) => before,
                None => next,
            });
        }
        all.context("a region without clusters")
    }

    async fn pass_on(&self, head: &Parts, body: &Bytes, own: &Authority) -> anyhow::Result<Response<Full<Bytes>>> {
        let path = head.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(own.clone()).path_and_query(path).build()?;
        let mut request = Request::builder().method(head.method.clone()).uri(uri).body(Full::new(body.clone()))?;
        *request.headers_mut() = head.headers.clone();
        let (head, body) = self.client.request(request).await.context("the cluster's API does not answer")?.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes().into()))
    }
}

/// Whether a request is about this cluster alone.
fn names(body: &[u8], identifier: &str) -> bool {
    let is = |value: &str| value.rsplit(':').next().is_some_and(|name| name.eq_ignore_ascii_case(identifier));
    form_urlencoded::parse(body).any(|(field, value)| NAMES.contains(&field.as_ref()) && is(&value))
}

/// The answer with the items of another behind its own.
async fn joined(first: Response<Full<Bytes>>, second: Response<Full<Bytes>>) -> anyhow::Result<Response<Full<Bytes>>> {
    let (mut head, body) = first.into_parts();
    let first = String::from_utf8(body.collect().await?.to_bytes().to_vec())?;
    let second = String::from_utf8(second.into_body().collect().await?.to_bytes().to_vec())?;
    let list = LISTS.iter().find(|list| first.contains(&format!("</{list}>"))).context("an answer without a list")?;
    let (begin, end) = (format!("<{list}>"), format!("</{list}>"));
    let items = second.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end)).map(|(items, _)| items).unwrap_or_default();
    head.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(head, first.replacen(&end, &format!("{items}{end}"), 1).into()))
}
