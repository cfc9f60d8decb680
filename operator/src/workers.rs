//! Asks worker pods, and the probes of drills, what they see, at `/state`. The answers come from pods of tenants, so nothing in them is
//! trusted: no redirects, little time, little size. They feed a status or a
//! drill's chart, and nothing else.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use durable_write_crds::layout::HTTP_PORT;
use durable_write_crds::probe::ProbeState;
use durable_write_crds::wire::WorkerState;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How long a worker may take to answer.
const DEADLINE: Duration = Duration::from_secs(1);
/// The most bytes of an answer.
const SIZE_LIMIT: usize = 64 << 10;
/// How many workers are asked at the same time, over all pipelines.
const CONCURRENCY: usize = 64;
/// How long the last answer of a pod that Kubernetes calls ready stands in for a missed one: two polls may fail.
const STAND_IN: Duration = Duration::from_secs(25);

/// A worker pod to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Worker {
    pub(crate) uid: String,
    pub(crate) address: IpAddr,
    /// Kubernetes calls the pod ready.
    pub(crate) ready: bool,
}

/// What came of asking a worker pod.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Kubernetes calls the pod ready.
    pub(crate) ready: bool,
    pub(crate) state: Result<WorkerState, NoAnswer>,
}

/// Why a worker pod gave no usable answer. The text has no address in it, so that it stays the same from poll to poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("no answer within a second")]
    Silent,
    #[error("the connection was refused or lost")]
    Disconnected,
    #[error("the answer was not a worker's state")]
    Unreadable,
}

/// Asks workers, and remembers their last answers for a short while.
pub(crate) struct Poller {
    client: Client<HttpConnector, Empty<Bytes>>,
    permits: Semaphore,
    last: Mutex<HashMap<String, (Instant, WorkerState)>>,
}

impl Poller {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(DEADLINE));
        // Pods come and go with their addresses: a kept connection could lead to a stranger.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { client, permits: Semaphore::new(CONCURRENCY), last: Mutex::default() }
    }

    /// Asks all `workers` and gives their answers in the same order.
    pub(crate) async fn ask(&self, workers: &[Worker]) -> Vec<Answer> {
        let states: Vec<_> = workers.iter().map(|worker| self.ask_one(worker)).collect::<FuturesOrdered<_>>().collect().await;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|_, (at, _)| at.elapsed() < STAND_IN);
        let answer = |(worker, state): (&Worker, Result<WorkerState, NoAnswer>)| {
            let state = match state {
                Ok(state) => {
                    last.insert(worker.uid.clone(), (Instant::now(), state.clone()));
                    Ok(state)
                }
                Err(reason) => last.get(&worker.uid).filter(|_| worker.ready).map(|(_, state)| state.clone()).ok_or(reason),
            };
            Answer { ready: worker.ready, state }
        };
        workers.iter().zip(states).map(answer).collect()
    }

    async fn ask_one(&self, worker: &Worker) -> Result<WorkerState, NoAnswer> {
        let _permit = self.permits.acquire().await.map_err(|_| NoAnswer::Silent)?;
        tokio::time::timeout(DEADLINE, self.get_state(worker.address)).await.unwrap_or(Err(NoAnswer::Silent))
    }

    /// Asks the probe of a drill.
    pub(crate) async fn ask_probe(&self, address: IpAddr) -> Result<ProbeState, NoAnswer> {
        tokio::time::timeout(DEADLINE, self.get_state(address)).await.unwrap_or(Err(NoAnswer::Silent))
    }

    async fn get_state<T: DeserializeOwned>(&self, address: IpAddr) -> Result<T, NoAnswer> {
        let uri = format!("http://{}/state", SocketAddr::new(address, HTTP_PORT)).parse().map_err(|_| NoAnswer::Unreadable)?;
        let response = self.client.get(uri).await.map_err(|_| NoAnswer::Disconnected)?;
        if response.status() != StatusCode::OK {
            return Err(NoAnswer::Unreadable);
        }
        let body = Limited::new(response.into_body(), SIZE_LIMIT).collect().await.map_err(|_| NoAnswer::Unreadable)?;
        serde_json::from_slice(&body.to_bytes()).map_err(|_| NoAnswer::Unreadable)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::response::Redirect;
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;
    use crate::pipeline::fixtures::well;

    /// Serves on a loopback address of its own, as every worker listens on the same port.
    async fn serve(router: Router) -> Worker {
        loop {
            let [a, b]: [u8; 2] = rand::random();
            let address = IpAddr::from([127, 78, a, b.max(1)]);
            if let Ok(listener) = TcpListener::bind((address, HTTP_PORT)).await {
                tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
                return Worker { uid: address.to_string(), address, ready: true };
            }
        }
    }

    async fn ask(router: Router) -> Result<WorkerState, NoAnswer> {
        let worker = serve(router).await;
        Poller::new().ask(&[worker]).await.remove(0).state
    }

    #[tokio::test]
    async fn an_answer_is_read() {
        let state = ask(Router::new().route("/state", get(async || axum::Json(well())))).await;
        assert_eq!(state, Ok(well()));
    }

    #[tokio::test]
    async fn no_redirect_is_followed() {
        let elsewhere = serve(Router::new().route("/state", get(async || axum::Json(well())))).await;
        let target = format!("http://{}:{HTTP_PORT}/state", elsewhere.address);
        let state = ask(Router::new().route("/state", get(async move || Redirect::temporary(&target)))).await;
        assert_eq!(state, Err(NoAnswer::Unreadable));
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_not_read() {
        let mut long = well();
        long.flowing.message = "x".repeat(SIZE_LIMIT);
        assert_eq!(ask(Router::new().route("/state", get(async move || axum::Json(long)))).await, Err(NoAnswer::Unreadable));
    }

    #[tokio::test]
    async fn a_worker_that_hangs_is_left_after_a_second() {
        let began = Instant::now();
        let state = ask(Router::new().route("/state", get(async || std::future::pending::<()>().await))).await;
        assert_eq!(state, Err(NoAnswer::Silent));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn the_last_answer_of_a_ready_pod_stands_in_for_a_missed_one() {
        let (broken, mut worker) = (
            Worker { uid: "u".to_owned(), address: IpAddr::from([127, 78, 0, 0]), ready: true },
            serve(Router::new().route("/state", get(async || axum::Json(well())))).await,
        );
        worker.uid.clone_from(&broken.uid);
        let poller = Poller::new();
        assert!(poller.ask(std::slice::from_ref(&broken)).await.remove(0).state.is_err(), "there is nothing to stand in yet");
        assert!(poller.ask(&[worker]).await.remove(0).state.is_ok());
        assert!(poller.ask(std::slice::from_ref(&broken)).await.remove(0).state.is_ok());
        assert!(poller.ask(&[Worker { ready: false, ..broken }]).await.remove(0).state.is_err(), "Kubernetes says that it is not ready");
    }
}
