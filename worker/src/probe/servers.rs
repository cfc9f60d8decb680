//! The servers of the database, as the probe reaches them.

use std::sync::Arc;
use std::time::Duration;

use durable_write_crds::conditions::reasons;
use durable_write_crds::drill::DirectPath;
use durable_write_crds::probe::ATTEMPT_MILLISECONDS;
use sqlx::PgConnection;
use tokio::time::timeout;

use crate::database::access::{Access, Connector};
use crate::database::tls::Endpoint;
use crate::problem::Problem;

/// A server, and how to connect to it.
#[derive(Clone)]
pub(super) struct Server {
    /// The instance's identifier; empty for the cluster endpoint.
    pub(super) name: Arc<str>,
    endpoint: Endpoint,
    connector: Arc<Connector>,
}

impl Server {
    /// Opens a new connection.
    pub(super) async fn connect(&self) -> Result<PgConnection, Problem> {
        let limit = Duration::from_millis(ATTEMPT_MILLISECONDS);
        self.connector.open(&self.endpoint, limit).await.map_err(|error| error.problem)
    }
}

/// All servers, as they are known now.
#[derive(Clone)]
pub(super) struct Servers {
    /// Those that direct writes go to.
    pub(super) direct: Arc<[Server]>,
    /// Each instance by itself.
    pub(super) instances: Arc<[Server]>,
}

impl Servers {
    /// Reads topology, credentials and authorities.
    ///
    /// # Errors
    /// One of them is missing.
    pub(super) fn read(access: &Access, path: DirectPath) -> Result<Self, Problem> {
        let connector = Arc::new(access.connector()?);
        let known = access.servers()?;
        let server = |name: String, endpoint: Endpoint| Server { name: name.into(), endpoint, connector: connector.clone() };
        let instances: Arc<[Server]> = known.instances.into_iter().map(|instance| server(instance.name, instance.endpoint)).collect();
        let direct = match path {
            DirectPath::Instances => instances.clone(),
            DirectPath::ClusterEndpoint => [server(String::new(), known.writer)].into(),
        };
        Ok(Self { direct, instances })
    }

    /// Connects to the writer: the instance that takes writes, `known` asked first.
    ///
    /// # Errors
    /// None takes writes.
    pub(super) async fn writer(&self, known: Option<&str>) -> Result<PgConnection, Problem> {
        let mut problem = Problem::new(reasons::DATABASE_OUTAGE, "database", "no instance takes writes");
        let (first, others): (Vec<&Server>, Vec<&Server>) = self.instances.iter().partition(|server| known == Some(&*server.name));
        for server in first.into_iter().chain(others) {
            match timeout(Duration::from_millis(ATTEMPT_MILLISECONDS), super::standing::ask(server)).await {
                Ok(Ok(Some(connection))) => return Ok(connection),
                Ok(Err(error)) => problem = error,
                _ => {}
            }
        }
        Err(problem)
    }
}
