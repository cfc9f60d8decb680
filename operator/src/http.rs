//! The operator's HTTP port: `/livez` (the process serves), `/readyz` (the watches have listed what is there), `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What is served.
pub(crate) trait Served: Send + Sync + 'static {
    /// True once the watches have listed what is there.
    fn ready(&self) -> bool;
    /// All metrics as text.
    fn metrics(&self) -> String;
}

/// Listens on `address` and serves until `shutdown`; the task ends when the last answer is out.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) async fn serve(
    address: SocketAddr,
    served: Arc<impl Served>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}: choose another with --listen"))?;
    let metrics = Arc::clone(&served);
    let readyz = async move || {
        if served.ready() {
            (StatusCode::OK, "ok")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "the watches have not listed what is there yet")
        }
    };
    let metrics = async move || ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.metrics());
    let router = Router::new().route("/livez", get(async || "ok")).route("/readyz", get(readyz)).route("/metrics", get(metrics));
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(shutdown).await {
            tracing::error!(%error, "the HTTP server failed");
        }
    }))
}
