//! The local Aurora: real `PostgreSQL` servers, a writer and readers with synchronous replication, at endpoints that follow their roles as
//! Aurora's do, with faults that can be placed and failovers that lose no acknowledged commit.

mod behaviour;
mod certificates;
mod cluster;
mod command;
mod control;
mod event;
mod failover;
mod ground;
mod iam;
mod node;
mod rds;
mod region;
mod template;
mod user;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use jiff::Timestamp;
use rand::RngExt;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::net::TcpListener;

pub use self::behaviour::{Behaviour, FLAP, Outcome};
pub use self::command::{Arguments, run};
pub use self::event::{EventId, Telling};
pub use self::failover::{Failover, FailoverCalls, Fault, Refused, Timing, Truth};
pub use self::iam::AwsIdentity;
pub use self::region::Region;

use self::certificates::Certificates;
use self::cluster::Cluster;
use self::ground::{Network, assemble, prepare, write_settings};
use self::node::Node;
use self::rds::Rds;
use crate::proxy::tcp::TcpFaultProxy;
use crate::scratch::Scratch;

/// The superuser.
const USERNAME: &str = "postgres";
const UPPER_CASE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What a local Aurora cluster is like.
#[derive(Debug, Clone)]
pub struct AuroraOptions {
    /// The cluster's identifier; instances are called by it and a number: `orders-1`. Letters, digits and hyphens.
    pub cluster_identifier: String,
    /// How many instances, the writer included. With fewer than three, commits are not synchronous while one is down.
    pub instances: usize,
    /// The addresses of this machine at which all endpoints listen.
    pub listen: Vec<IpAddr>,
    /// The address or name by which clients are told to connect; the certificate is good for it, for all listen addresses and `localhost`.
    pub advertise: String,
    /// The cluster's tags.
    pub tags: BTreeMap<String, String>,
    /// In how many availability zones the instances lie, in turn: 1 to 3. A failover within one zone has another event.
    pub zones: usize,
    /// How long parts of a failover take.
    pub timing: Timing,
}

impl Default for AuroraOptions {
    fn default() -> Self {
        Self {
            cluster_identifier: "orders".to_owned(),
            instances: 3,
            listen: vec![Ipv4Addr::LOCALHOST.into()],
            advertise: Ipv4Addr::LOCALHOST.to_string(),
            tags: BTreeMap::new(),
            zones: 3,
            timing: Timing::default(),
        }
    }
}

/// An instance as clients see it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Instance {
    /// Its identifier.
    pub name: String,
    /// Its resource identifier: `db-` and upper-case letters.
    pub resource_id: String,
    /// `host:port` of its endpoint.
    pub endpoint: String,
    /// The port of its endpoint.
    pub port: u16,
    /// Whether it is the writer.
    pub writer: bool,
    /// Its availability zone.
    pub zone: String,
    /// Its promotion tier: the lowest is promoted first.
    pub promotion_tier: usize,
    /// Whether its endpoint answers.
    pub up: bool,
    /// Its status as the RDS API tells it.
    pub status: String,
}

/// A running cluster; it ends when dropped, and when this program ends in any way.
pub struct Aurora {
    cluster: Arc<Cluster>,
    rds: Rds,
    certificates: Certificates,
    password: String,
    // Last, so that the servers are gone when their files are removed.
    folder: Scratch,
}

impl Drop for Aurora {
    fn drop(&mut self) {
        self.cluster.close();
    }
}

impl Aurora {
    /// Starts a cluster; usually 1 s, and 3 s more the first time on a machine. Needs root, and `PostgreSQL` 15 of Debian.
    ///
    /// # Errors
    /// Something is missing, or a server does not start.
    pub async fn start(options: AuroraOptions) -> anyhow::Result<Self> {
        check(&options)?;
        let (user, version, template, folder) = tokio::task::spawn_blocking(prepare).await??;
        let names: Vec<String> = (1..=options.instances).map(|number| format!("{}-{number}", options.cluster_identifier)).collect();
        let network = Network::find(options.instances)?;
        let nodes = names.iter().zip(&network.servers);
        let nodes = nodes
            .map(|(name, address)| Node::new(folder.path(), name.clone(), &names, *address, user))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut hosts: Vec<String> = options.listen.iter().map(ToString::to_string).collect();
        hosts.extend(["localhost".to_owned(), options.advertise.clone(), network.reader.to_string()]);
        let certificates = Certificates::create(folder.path(), hosts, user)?;
        let verifier = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen for tokens to verify")?;
        write_settings(folder.path(), &nodes, &certificates, verifier.local_addr()?.port(), user)?;
        let data: Vec<_> = nodes.iter().map(|node| (node.data(), node.log())).collect();
        let copied = tokio::task::spawn_blocking(move || data.iter().try_for_each(|(data, log)| template::copy(&template, data, log)));
        copied.await??;

        let password = random(24, b"abcdefghijkmnpqrstuvwxyz23456789");
        ground::start_servers(&nodes, &password).await?;
        let listen = options.listen.clone();
        let cluster = assemble(options, version, nodes, network.reader).await?;
        iam::serve(&cluster, verifier);
        let rds = Rds::start(&cluster, &listen).await?;
        Ok(Self { cluster, rds, certificates, password, folder })
    }

    /// The cluster's identifier.
    #[must_use]
    pub fn identifier(&self) -> &str {
        &self.cluster.identifier
    }

    /// All instances, in the order of their promotion tiers.
    #[must_use]
    pub fn instances(&self) -> Vec<Instance> {
        self.cluster.instances(&self.cluster.state())
    }

    /// The instance that is the writer, or was last.
    ///
    /// # Errors
    /// Never, as a cluster has a writer.
    pub fn writer(&self) -> anyhow::Result<Instance> {
        self.instances().into_iter().find(|instance| instance.writer).context("a cluster has a writer")
    }

    /// `host:port` of the cluster endpoint, which leads to the writer.
    #[must_use]
    pub fn cluster_endpoint(&self) -> String {
        self.cluster.cluster_endpoint()
    }

    /// `host:port` of the reader endpoint, which leads to the readers in turn. As in Aurora it has the port of the cluster endpoint, and
    /// therefore an address of its own, which only this machine can reach.
    #[must_use]
    pub fn reader_endpoint(&self) -> String {
        self.cluster.reader_endpoint()
    }

    /// The URL of the RDS API, for `AWS_ENDPOINT_URL_RDS`. Any credentials will do.
    #[must_use]
    pub fn rds_endpoint(&self) -> String {
        format!("http://{}:{}", self.cluster.advertise, self.rds.port())
    }

    /// How often an action of the RDS API such as `FailoverDBCluster` was called, whatever the answer.
    #[must_use]
    pub fn rds_calls(&self, action: &str) -> u64 {
        self.rds.proxy().calls(action).received
    }

    /// The cluster's resource identifier: `cluster-` and upper-case letters.
    #[must_use]
    pub fn resource_id(&self) -> &str {
        &self.cluster.resource_id
    }

    /// The certificate authority of all endpoints.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.certificates.authority_pem
    }

    /// The superuser's name.
    #[must_use]
    pub fn username(&self) -> &'static str {
        USERNAME
    }

    /// The superuser's password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Gives an AWS identity the right `rds-db:connect` as a user, who must have the role `rds_iam`.
    pub fn allow_login(&self, identity: &AwsIdentity, username: &str) {
        self.cluster.logins().allowed.push((identity.clone(), username.to_owned()));
    }

    /// Which tokens were refused so far, and why: `<instance>/<user>: …`.
    #[must_use]
    pub fn refused_logins(&self) -> Vec<String> {
        self.cluster.logins().refused.clone()
    }

    /// How the superuser connects as a client does: to one of the endpoints (`host:port`), with TLS, verifying everything.
    ///
    /// # Errors
    /// This is no `host:port`.
    pub fn client_options(&self, endpoint: &str) -> anyhow::Result<PgConnectOptions> {
        let (host, port) = endpoint.rsplit_once(':').with_context(|| format!("{endpoint} is no host:port"))?;
        Ok(PgConnectOptions::new_without_pgpass()
            .host(host)
            .port(port.parse().with_context(|| format!("{endpoint} is no host:port"))?)
            .username(self.username())
            .password(&self.password)
            .database("postgres")
            .ssl_mode(PgSslMode::VerifyFull)
            .ssl_root_cert_from_pem(self.ca_pem().as_bytes().to_vec()))
    }

    /// How the superuser connects to the current writer: to the server itself, by a socket, not through any endpoint.
    ///
    /// # Errors
    /// Never, as a cluster has a writer.
    pub fn admin_options(&self) -> anyhow::Result<PgConnectOptions> {
        let writer = self.cluster.state().writer;
        Ok(self.cluster.node(writer)?.admin_options())
    }

    /// How the superuser connects to an instance itself, not through its endpoint.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn instance_admin_options(&self, instance: &str) -> anyhow::Result<PgConnectOptions> {
        let position = self.cluster.position(instance).with_context(|| format!("no instance {instance}"))?;
        Ok(self.cluster.node(position)?.admin_options())
    }

    /// Fails over as `FailoverDBCluster` does, to the given instance or to the one with the lowest promotion tier, and waits until the old
    /// writer is back as a reader (usually 1 to 3 s). It goes on when this is no longer waited for.
    ///
    /// # Errors
    /// A [`Refused`] when it does not begin; or a server does not do what it should.
    pub async fn fail_over(&self, target: Option<&str>) -> anyhow::Result<Failover> {
        self.cluster.begin_failover(Fault::Planned, target)?.await?
    }

    /// Places a fault and waits until another instance is promoted and the old writer is back as a reader (usually 2 to 4 s). It goes on
    /// when this is no longer waited for.
    ///
    /// # Errors
    /// As [`Aurora::fail_over`].
    pub async fn fault(&self, fault: Fault) -> anyhow::Result<Failover> {
        self.cluster.begin_failover(fault, None)?.await?
    }

    /// Waits until no failover is in progress.
    pub async fn settled(&self) {
        drop(self.cluster.operation.lock().await);
    }

    /// Sets how long parts of the next failovers take.
    pub fn set_timing(&self, timing: Timing) {
        self.cluster.state().timing = timing;
    }

    /// The proxy that is an instance's endpoint, to place faults of the network; its targets are the cluster's to set.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn instance_proxy(&self, instance: &str) -> anyhow::Result<&TcpFaultProxy> {
        let position = self.cluster.position(instance).with_context(|| format!("no instance {instance}"))?;
        self.cluster.instance_proxies.get(position).context("an endpoint of each instance")
    }

    /// The proxy that is the cluster endpoint, as [`Aurora::instance_proxy`].
    #[must_use]
    pub fn cluster_proxy(&self) -> &TcpFaultProxy {
        &self.cluster.cluster_proxy
    }

    /// What happened in all failovers so far, the last of which may be in progress.
    #[must_use]
    pub fn timeline(&self) -> Vec<Failover> {
        self.cluster.state().failovers.clone()
    }

    /// The folder of all files: `<instance>/postgres.log` is an instance's log, `ca.pem` the certificate authority.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn check(options: &AuroraOptions) -> anyhow::Result<()> {
    let identifier = &options.cluster_identifier;
    if identifier.is_empty() || !identifier.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        bail!("{identifier:?} is no cluster identifier: use lower-case letters, digits and hyphens");
    }
    if !(1..=16).contains(&options.instances) {
        bail!("an Aurora cluster has 1 to 16 instances, not {}", options.instances);
    }
    Ok(())
}

/// Lets other users pass through a folder to those of its files that are theirs.
fn open_to_all(folder: &Path) -> anyhow::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o711)).with_context(|| format!("set the mode of {}", folder.display()))
}

/// A time as AWS writes it.
fn timestamp(at: Timestamp) -> String {
    format!("{at:.3}")
}

fn random(length: usize, letters: &[u8]) -> String {
    let mut random = rand::rng();
    (0..length).filter_map(|_| letters.get(random.random_range(0..letters.len()))).map(|letter| char::from(*letter)).collect()
}
