//! The probe's port: `/livez`, `/readyz` (200 while the baseline is steady) and `/state`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use durable_write_crds::probe::ProbeState;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What is shown.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) state: ProbeState,
    pub(super) ready: bool,
}

type Current = watch::Receiver<Shown>;

/// Serves the port until the process ends.
///
/// # Errors
/// The listener failed.
pub(super) async fn serve(listener: TcpListener, shown: Current) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .route("/state", get(|State(shown): State<Current>| async move { Json(shown.borrow().state.clone()) }))
        .with_state(shown);
    axum::serve(listener, routes).await
}

async fn readyz(State(shown): State<Current>) -> impl IntoResponse {
    let shown = shown.borrow();
    if shown.ready { (StatusCode::OK, "steady".to_owned()) } else { (StatusCode::SERVICE_UNAVAILABLE, shown.state.message.clone()) }
}
