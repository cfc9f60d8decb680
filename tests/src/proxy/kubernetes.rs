//! The Kubernetes API without TLS, so that the proxy that places faults can stand in front of it.

use std::net::{Ipv4Addr, SocketAddr};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::http::serve;

/// A running proxy; it ends, and its connections are closed, when this is dropped.
#[derive(Debug)]
pub struct PlainKubernetes {
    address: SocketAddr,
    _listener: JoinSet<()>,
}

impl PlainKubernetes {
    /// Listens on this machine and passes every request on as the client's user, who may impersonate others.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(client: Client) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, move |request| pass_on(client.clone(), request)));
        Ok(Self { address, _listener: tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn pass_on(client: Client, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
    let (mut head, body) = request.into_parts();
    head.headers.remove(HOST);
    let body = body.collect().await?.to_bytes();
    Ok(client.send(Request::from_parts(head, Body::from(body))).await?)
}
