//! What a test may do to a running cluster beside failovers: what it is told, what it counts, and faults of readers and of the API.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;

use super::Aurora;
use super::behaviour::Behaviour;
use super::cluster::{Cluster, Source};
use super::event::EventId;
use super::failover::{FailoverCalls, follow, wait_until_waited_for};
use super::node::{Node, Role};
use crate::proxy::http::HttpFaultProxy;

impl Aurora {
    /// Sets what the next failovers do.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.cluster.state().behaviour = behaviour;
    }

    /// Sets the cluster's tags, in the stead of all that it has.
    pub fn set_tags(&self, tags: BTreeMap<String, String>) {
        self.cluster.state().tags = tags;
    }

    /// Has the cluster told to be in a status such as `modifying`, in which no failover begins; `None` is its own again.
    pub fn set_cluster_status(&self, status: Option<&str>) {
        self.cluster.state().cluster_status = status.map(str::to_owned);
    }

    /// Has an instance told to be in a status such as `storage-full`, in which it is not promoted; `None` is its own again.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn set_instance_status(&self, instance: &str, status: Option<&str>) -> anyhow::Result<()> {
        let position = self.cluster.position(instance).with_context(|| format!("no instance {instance}"))?;
        self.cluster.set_instance_status(position, status);
        Ok(())
    }

    /// Lets a reader be behind the writer: what is read there is older by `lag`, and `aurora_replica_status()` tells at least this lag
    /// everywhere. Commits do not wait for it, and a promotion does not either. Zero ends it.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn set_replica_lag(&self, reader: &str, lag: Duration) -> anyhow::Result<()> {
        let position = self.cluster.position(reader).with_context(|| format!("no instance {reader}"))?;
        self.cluster.set_replica_lag(position, lag)
    }

    /// Stops a reader, which is then told to be `rebooting` until [`Aurora::bring_up`]. When it was the last one, commits are acknowledged
    /// without any; usually 0.3 s. Waits for a failover to end.
    ///
    /// # Errors
    /// This is no reader, or the server does not stop.
    pub async fn take_down(&self, reader: &str) -> anyhow::Result<()> {
        let _guard = self.cluster.operation.lock().await;
        let position = self.cluster.position(reader).with_context(|| format!("no instance {reader}"))?;
        self.cluster.take_down(position).await
    }

    /// Brings a reader back that was taken down; usually 1 s. Waits for a failover to end.
    ///
    /// # Errors
    /// It is up, or the server does not start.
    pub async fn bring_up(&self, reader: &str) -> anyhow::Result<()> {
        let _guard = self.cluster.operation.lock().await;
        let position = self.cluster.position(reader).with_context(|| format!("no instance {reader}"))?;
        self.cluster.bring_up(position).await
    }

    /// Tells an event of the cluster about a failover of which nothing else is true, as of somebody else's or of another time.
    pub fn plant_event(&self, event: EventId, instance: &str, at: Timestamp) {
        self.cluster.tell(Source::Cluster, "failover", event.message(instance), at, Duration::ZERO);
    }

    /// The proxy in front of the RDS API, to place faults by action: a refused call, a lost request, a lost answer, a hung one.
    #[must_use]
    pub fn rds_proxy(&self) -> &HttpFaultProxy {
        self.rds.proxy()
    }

    /// How often `FailoverDBCluster` was called, and how often that began a failover.
    #[must_use]
    pub fn failover_calls(&self) -> FailoverCalls {
        self.rds.failover_calls(&self.cluster)
    }

    /// Where another process reads this record by HTTP GET, as JSON: `failoverCalls`, `failovers` with what is true of each, `instances`.
    #[must_use]
    pub fn record_endpoint(&self) -> String {
        format!("{}{}", self.rds_endpoint(), super::rds::RECORD)
    }
}

impl Cluster {
    fn set_instance_status(&self, position: usize, status: Option<&str>) {
        let mut state = self.state();
        match status {
            Some(status) => state.instance_statuses.insert(position, status.to_owned()),
            None => state.instance_statuses.remove(&position),
        };
    }

    fn set_replica_lag(&self, position: usize, lag: Duration) -> anyhow::Result<()> {
        let told = {
            let mut state = self.state();
            state.lags.insert(position, lag);
            state.lags.clone()
        };
        let tell = |(position, lag): (&usize, &Duration)| Some(format!("{}={}", self.nodes.get(*position)?.name, lag.as_millis()));
        let text = told.iter().filter_map(tell).collect::<Vec<_>>().join(",");
        for (position, node) in self.nodes.iter().enumerate() {
            node.set_lag(told.get(&position).copied().unwrap_or_default(), &text)?;
        }
        Ok(())
    }

    async fn take_down(&self, position: usize) -> anyhow::Result<()> {
        let (node, (writer, left)) = (self.node(position)?, self.writer_and_readers_but(position)?);
        ensure!(writer.name != node.name, "{} is the writer", node.name);
        if left.is_empty() {
            writer.configure(&Role { writer: &writer.name, follows: None, synchronous: false, read_only: false })?;
        }
        self.update(|state| state.set_up(position, false));
        self.set_instance_status(position, Some("rebooting"));
        self.endpoints_settled().await;
        node.stop().await
    }

    async fn bring_up(&self, position: usize) -> anyhow::Result<()> {
        let (node, (writer, _)) = (self.node(position)?, self.writer_and_readers_but(position)?);
        ensure!(!self.state().is_up(position), "{} is up", node.name);
        node.copy_from(writer).await?;
        follow(node, writer).await?;
        writer.configure(&Role { writer: &writer.name, follows: None, synchronous: true, read_only: false })?;
        wait_until_waited_for(writer, node).await?;
        self.set_instance_status(position, None);
        self.update(|state| state.set_up(position, true));
        self.endpoints_settled().await;
        Ok(())
    }

    /// The writer, and the readers that are up beside one instance.
    fn writer_and_readers_but(&self, one: usize) -> anyhow::Result<(&Node, Vec<&Node>)> {
        let writer = self.state().writer;
        Ok((self.node(writer)?, self.readers_beside(one)))
    }
}
