//! Plays kubelet and workers: pods of a namespace run and are ready at once, and their `/state` says what a test sets.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::routing::get;
use durable_write_crds::conditions::reasons;
use durable_write_crds::layout::HTTP_PORT;
use durable_write_crds::wire::{Counters, DatabaseState, QueueState, Report, WorkerState};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::ground::Home;

/// Pods that run, as long as this lives.
pub(crate) struct Workers {
    state: Arc<Mutex<WorkerState>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Workers {
    /// Plays kubelet for all pods of `home`; all of them are one worker that is well.
    pub(crate) async fn play(home: &Home) -> Self {
        let state = Arc::new(Mutex::new(well()));
        let (address, listener) = listen().await;
        let said = Arc::clone(&state);
        let router = axum::Router::new().route("/state", get(async move || Json(said.lock().unwrap().clone())));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let pods = home.api::<Pod>();
        let kubelet = tokio::spawn(async move {
            loop {
                for pod in pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
                    if pod.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Running") {
                        run(&pods, &pod.name_any(), address).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { state, tasks: [server, kubelet] }
    }

    /// Changes what the workers say.
    pub(crate) fn say(&self, change: impl FnOnce(&mut WorkerState)) {
        change(&mut self.state.lock().unwrap());
    }
}

/// Makes a pod run and ready. It may be gone meanwhile.
async fn run(pods: &kube::Api<Pod>, name: &str, address: IpAddr) {
    let condition = |type_: &str| json!({"type": type_, "status": "True", "lastTransitionTime": Timestamp::now()});
    let status = json!({
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [condition("Ready"), condition("ContainersReady")],
    });
    pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(json!({"status": status}))).await.ok();
}

/// A loopback address of our own: every worker listens on the same port.
async fn listen() -> (IpAddr, TcpListener) {
    loop {
        let [a, b]: [u8; 2] = rand::random();
        let address = IpAddr::V4(Ipv4Addr::new(127, 77, a, b.max(1)));
        if let Ok(listener) = TcpListener::bind((address, HTTP_PORT)).await {
            return (address, listener);
        }
    }
}

/// A report that all is as it should be.
fn good(status: bool) -> Report {
    Report { status: Some(status), reason: reasons::OK.to_owned(), message: "fine".to_owned(), since: Timestamp::now() }
}

/// A report that is bad for that reason.
pub(crate) fn bad(status: bool, reason: &str) -> Report {
    Report { status: Some(status), reason: reason.to_owned(), message: "mend it".to_owned(), since: Timestamp::now() }
}

/// A worker that is well.
pub(crate) fn well() -> WorkerState {
    WorkerState {
        version: "test".to_owned(),
        at: Timestamp::now(),
        flowing: good(true),
        queue_ready: good(true),
        database_ready: good(true),
        stalled: good(false),
        checked: true,
        queue: QueueState {
            visible: Some(0),
            in_flight: Some(0),
            dead_lettered: Some(0),
            retention_seconds: Some(345_600),
            oldest_seen: None,
        },
        database: DatabaseState { writer: Some("db-1:5432".to_owned()) },
        counters: Counters::default(),
    }
}
