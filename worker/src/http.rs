//! The worker's port: `/livez`, `/readyz`, `/metrics` and `/state`. Nothing that it shows holds a message body or a secret.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use durable_write_crds::wire::WorkerState;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::metrics;

/// A loop that has not gone round for so long is dead.
const STUCK: Duration = Duration::from_secs(30);

type Current = watch::Receiver<Option<WorkerState>>;

/// Serves the port until the process ends.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, state: Current) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/state", get(current))
        .with_state(state);
    axum::serve(listener, routes).await
}

/// Alive while the loop goes round: neither queue nor database matters.
async fn livez(State(state): State<Current>) -> impl IntoResponse {
    let stuck = state.borrow().as_ref().is_some_and(|state| Timestamp::now().duration_since(state.at).unsigned_abs() > STUCK);
    if stuck { (StatusCode::INTERNAL_SERVER_ERROR, "the loop is stuck") } else { (StatusCode::OK, "ok") }
}

/// Ready once the loop runs: an outage of queue or database must not take the pod out.
async fn readyz(State(state): State<Current>) -> impl IntoResponse {
    if state.borrow().is_some() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "starting") }
}

async fn metrics(State(state): State<Current>) -> impl IntoResponse {
    let text = state.borrow().as_ref().map(metrics::render).unwrap_or_default();
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
}

async fn current(State(state): State<Current>) -> Result<Json<WorkerState>, StatusCode> {
    state.borrow().clone().map(Json).ok_or(StatusCode::SERVICE_UNAVAILABLE)
}
