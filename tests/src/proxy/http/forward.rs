//! One request through the proxy: which action it is, and what the fault does to it.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, anyhow};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderName};
use hyper::http::uri::{Authority, Scheme};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::answer::{self, Batch};
use super::{HttpFault, State, lock};

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

type Body = Either<Incoming, Full<Bytes>>;

/// What all connections share.
pub(super) struct Forwarder {
    upstream: Authority,
    client: Client<HttpConnector, Body>,
    state: Arc<Mutex<State>>,
}

/// Accepts connections and answers their requests by `handle` until the task is aborted, which closes them. An error of `handle` closes the
/// connection without an answer: that is how replies and requests get lost.
pub(crate) async fn serve<H, F, B>(listener: TcpListener, handle: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<Response<B>>> + Send + 'static,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await; // out of file descriptors: let some close
            continue;
        };
        stream.set_nodelay(true).ok();
        let service = service_fn(handle.clone());
        connections.spawn(async move {
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

impl Forwarder {
    pub(super) fn new(upstream: SocketAddr, state: Arc<Mutex<State>>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        // Idle connections end before the endpoint would end them: ElasticMQ does after a minute.
        let client = Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(20)).build(connector);
        let upstream = Authority::try_from(upstream.to_string()).unwrap_or(Authority::from_static("localhost"));
        Self { upstream, client, state }
    }

    pub(super) async fn call(self: Arc<Self>, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        let (action, request) = identify(request).await?;
        let fault = lock(&self.state).call(&action);
        match fault {
            None => self.forward(request).await,
            Some(HttpFault::Delayed(time)) => {
                tokio::time::sleep(time).await;
                self.forward(request).await
            }
            Some(HttpFault::RequestLost) => Err(anyhow!("request lost by intent")),
            Some(HttpFault::ReplyLost) => {
                self.forward(request).await?.collect().await.ok();
                Err(anyhow!("reply lost by intent"))
            }
            Some(HttpFault::Hung { forward }) => {
                if forward {
                    self.forward(request).await?.collect().await.ok();
                }
                pending().await
            }
            Some(HttpFault::Error { status, code }) => {
                let answer = if request.headers().contains_key(TARGET) { answer::json_error } else { answer::query_error };
                Ok(answer(status, &code)?.map(Either::Right))
            }
            Some(HttpFault::PartialFailure { positions, code, sender_fault }) => {
                let (mut head, body) = request.into_parts();
                let batch = Batch::split(&collected(body).await?, &positions, &code, sender_fault)?;
                head.headers.remove(CONTENT_LENGTH);
                let done = match batch.forwarded {
                    Some(rest) => {
                        let (head, body) = self.forward(Request::from_parts(head, Either::Right(rest.into()))).await?.into_parts();
                        Response::from_parts(head, collected(body).await?)
                    }
                    None => answer::json_success(),
                };
                Ok(answer::with_failed(done, batch.failed)?.map(Either::Right))
            }
        }
    }

    async fn forward(&self, mut request: Request<Body>) -> anyhow::Result<Response<Body>> {
        let mut uri = request.uri().clone().into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.upstream.clone());
        *request.uri_mut() = Uri::from_parts(uri)?;
        Ok(self.client.request(request).await.context("the endpoint does not answer")?.map(Either::Left))
    }
}

/// The action of a request. Only the Query protocol has it in the body, which is then read. A request of neither protocol is known by its
/// method and path.
async fn identify(request: Request<Incoming>) -> anyhow::Result<(String, Request<Body>)> {
    if let Some(target) = request.headers().get(TARGET) {
        let target = target.to_str()?;
        let action = target.rsplit('.').next().unwrap_or(target).to_owned();
        return Ok((action, request.map(Either::Left)));
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let form = String::from_utf8_lossy(&body);
    let fields = head.uri.query().unwrap_or_default().split('&').chain(form.split('&'));
    let action = fields.into_iter().find_map(|field| field.strip_prefix("Action=")).map(str::to_owned);
    let action = action.unwrap_or_else(|| format!("{} {}", head.method, head.uri.path()));
    Ok((action, Request::from_parts(head, Either::Right(body.into()))))
}

async fn collected(body: Body) -> anyhow::Result<Bytes> {
    let body = body.collect().await.map_err(|error| anyhow!(error))?;
    Ok(body.to_bytes())
}
