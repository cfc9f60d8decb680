//! The servers, their endpoints, and who has which role.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::task::AbortHandle;

use super::Instance;
use super::behaviour::Behaviour;
use super::failover::{Failover, Timing};
use super::iam::Logins;
use super::node::Node;
use crate::proxy::tcp::TcpFaultProxy;

/// The AWS region in which the cluster pretends to be.
pub(super) const REGION: &str = "eu-west-1";

/// All that the parts of the local Aurora share.
pub(super) struct Cluster {
    pub identifier: String,
    pub resource_id: String,
    pub version: String,
    pub advertise: String,
    pub reader_address: IpAddr,
    /// How many availability zones the instances lie in.
    pub zones: usize,
    pub created: Timestamp,
    pub nodes: Vec<Node>,
    /// One for each node, in the same order.
    pub instance_proxies: Vec<TcpFaultProxy>,
    pub cluster_proxy: TcpFaultProxy,
    pub reader_proxy: TcpFaultProxy,
    /// Held while roles change.
    pub operation: Arc<tokio::sync::Mutex<()>>,
    pub state: Mutex<State>,
    pub logins: Mutex<Logins>,
    pub tasks: Mutex<Vec<AbortHandle>>,
    pub this: Weak<Cluster>,
}

/// What changes. Nodes are meant by their position.
pub(super) struct State {
    /// Who accepts writes, or did last.
    pub writer: usize,
    /// Who the cluster endpoint takes for the writer, which lags behind.
    pub resolved_writer: usize,
    /// Whether a node's address answers.
    pub up: Vec<bool>,
    pub status: Status,
    /// A status of the cluster that a test wants told.
    pub cluster_status: Option<String>,
    /// Statuses of instances that are not what the cluster's would make them.
    pub instance_statuses: BTreeMap<usize, String>,
    pub lags: BTreeMap<usize, Duration>,
    pub tags: BTreeMap<String, String>,
    pub timing: Timing,
    pub behaviour: Behaviour,
    pub failovers: Vec<Failover>,
    pub events: Vec<Event>,
}

/// What the RDS API tells of the past.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub at: Timestamp,
    /// From when on it is told.
    pub shown: Timestamp,
    pub source: Source,
    pub category: &'static str,
    pub message: String,
}

/// What an event is about.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Cluster,
    Instance(String),
}

/// The cluster's status as the RDS API tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Available,
    FailingOver,
}

impl Cluster {
    /// The state; a lock that is never held across a wait.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who may log in by IAM; a lock that is never held across a wait.
    pub fn logins(&self) -> MutexGuard<'_, Logins> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `host:port` of the cluster endpoint.
    pub fn cluster_endpoint(&self) -> String {
        format!("{}:{}", self.advertise, self.cluster_proxy.address().port())
    }

    /// `host:port` of the reader endpoint.
    pub fn reader_endpoint(&self) -> String {
        format!("{}:{}", self.reader_address, self.reader_proxy.address().port())
    }

    /// Changes the state and makes the endpoints follow.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        let address = |position: usize| self.nodes.get(position).filter(|_| state.is_up(position)).map(|node| node.address);
        for (position, proxy) in self.instance_proxies.iter().enumerate() {
            proxy.set_targets(address(position).into_iter().collect());
        }
        let writer: Vec<_> = address(state.resolved_writer).into_iter().collect();
        let readers: Vec<_> = (0..self.nodes.len()).filter(|position| *position != state.resolved_writer).filter_map(address).collect();
        self.reader_proxy.set_targets(if readers.is_empty() { writer.clone() } else { readers });
        self.cluster_proxy.set_targets(writer);
        result
    }

    /// Waits until the endpoints accept or refuse connections as they should.
    pub async fn endpoints_settled(&self) {
        for proxy in self.instance_proxies.iter().chain([&self.cluster_proxy, &self.reader_proxy]) {
            proxy.settled().await;
        }
    }

    /// A node by its position.
    pub fn node(&self, position: usize) -> anyhow::Result<&Node> {
        self.nodes.get(position).with_context(|| format!("no instance at position {position}"))
    }

    /// The position of an instance; names are compared as RDS does, without regard to case.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name.eq_ignore_ascii_case(name))
    }

    /// All instances as clients see them.
    pub fn instances(&self, state: &State) -> Vec<Instance> {
        (0..self.nodes.len()).filter_map(|position| self.instance(state, position)).collect()
    }

    fn instance(&self, state: &State, position: usize) -> Option<Instance> {
        let (node, port) = (self.nodes.get(position)?, self.instance_proxies.get(position)?.address().port());
        let zone = ["a", "b", "c"].get(position.checked_rem(self.zones)?)?;
        Some(Instance {
            name: node.name.clone(),
            resource_id: node.resource_id.clone(),
            endpoint: format!("{}:{port}", self.advertise),
            port,
            writer: position == state.writer,
            zone: format!("{REGION}{zone}"),
            promotion_tier: position,
            up: state.is_up(position),
            status: state.instance_status(position).to_owned(),
        })
    }

    /// Runs something that belongs to the cluster and ends with it.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
        let handle = tokio::spawn(task);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(handle.abort_handle());
        handle
    }

    /// Ends all tasks and kills all servers.
    pub fn close(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(AbortHandle::abort);
        self.nodes.iter().for_each(Node::close);
    }
}

impl State {
    /// Whether a node's address answers.
    pub fn is_up(&self, position: usize) -> bool {
        self.up.get(position).copied().unwrap_or(false)
    }

    /// The status of an instance as the RDS API tells it.
    fn instance_status(&self, position: usize) -> &str {
        // Before the failover begins nobody has noticed that the instance is down.
        let down = !self.is_up(position) && self.status == Status::FailingOver;
        self.instance_statuses.get(&position).map_or(if down { "rebooting" } else { "available" }, String::as_str)
    }

    /// The status of the cluster as the RDS API tells it.
    pub fn cluster_status(&self) -> &str {
        let own = if self.status == Status::Available { "available" } else { "failing-over" };
        self.cluster_status.as_deref().unwrap_or(own)
    }

    /// Says whether a node's address answers.
    pub fn set_up(&mut self, position: usize, up: bool) {
        if let Some(entry) = self.up.get_mut(position) {
            *entry = up;
        }
    }
}
