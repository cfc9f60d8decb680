//! What a cluster stands on: folders, addresses and settings, servers that have started, and endpoints in front of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, bail};
use jiff::Timestamp;
use rand::RngExt;

use super::behaviour::Behaviour;
use super::certificates::Certificates;
use super::cluster::{Cluster, State, Status};
use super::failover::wait_until_follows;
use super::iam;
use super::node::{self, Node, Role};
use super::user::{self, User};
use super::{AuroraOptions, UPPER_CASE, USERNAME, open_to_all, random, template};
use crate::proxy::tcp::TcpFaultProxy;
use crate::scratch::Scratch;

/// What is there before any server: the user, the version, the data directory to copy, and a folder.
pub(super) fn prepare() -> anyhow::Result<(User, String, PathBuf, Scratch)> {
    let user = User::find()?;
    let version = template::server_version()?;
    let template = template::template(&version, user)?;
    let folder = Scratch::new("aurora")?;
    open_to_all(folder.path())?;
    user::check_reachable(folder.path())?;
    Ok((user, version, template, folder))
}

/// Starts all servers, which have the same data, the first one as the writer.
pub(super) async fn start_servers(nodes: &[Node], password: &str) -> anyhow::Result<()> {
    let (writer, readers) = nodes.split_first().context("a cluster has at least one instance")?;
    let synchronous = !readers.is_empty();
    writer.configure(&Role { writer: &writer.name, follows: None, synchronous, read_only: false })?;
    for reader in readers {
        reader.configure(&Role { writer: &writer.name, follows: Some(writer), synchronous, read_only: false })?;
        reader.mark_standby()?;
    }
    futures::future::try_join_all(nodes.iter().map(Node::start)).await?;
    let roles = format!("SET synchronous_commit = local; ALTER ROLE {USERNAME} PASSWORD '{password}'; CREATE ROLE rds_iam");
    writer.execute("postgres", &roles).await.context("set the password and make Aurora's role")?;
    // In template1 too, so that new databases have them.
    for database in ["postgres", "template1"] {
        writer.execute(database, include_str!("functions.sql")).await.context("make Aurora's functions")?;
    }
    for reader in readers {
        wait_until_follows(reader, writer).await?;
    }
    Ok(())
}

/// Puts endpoints in front of running servers.
pub(super) async fn assemble(options: AuroraOptions, version: String, nodes: Vec<Node>, reader: IpAddr) -> anyhow::Result<Arc<Cluster>> {
    let mut instance_proxies = Vec::new();
    for node in &nodes {
        instance_proxies.push(proxy(&options.listen, 0, node).await?);
    }
    let writer = nodes.first().context("a cluster has at least one instance")?;
    let cluster_proxy = proxy(&options.listen, 0, writer).await?;
    let reader_proxy = proxy(&[reader], cluster_proxy.address().port(), writer).await?;
    let state = State {
        writer: 0,
        resolved_writer: 0,
        up: vec![true; nodes.len()],
        status: Status::Available,
        cluster_status: None,
        instance_statuses: BTreeMap::new(),
        lags: BTreeMap::new(),
        tags: options.tags,
        timing: options.timing,
        behaviour: Behaviour::default(),
        failovers: Vec::new(),
        events: Vec::new(),
    };
    let cluster = Arc::new_cyclic(|this| Cluster {
        identifier: options.cluster_identifier,
        resource_id: format!("cluster-{}", random(26, UPPER_CASE)),
        version,
        advertise: options.advertise,
        reader_address: reader,
        zones: options.zones.clamp(1, 3),
        created: Timestamp::now(),
        nodes,
        instance_proxies,
        cluster_proxy,
        reader_proxy,
        operation: Arc::default(),
        state: Mutex::new(state),
        logins: Mutex::default(),
        tasks: Mutex::default(),
        this: this.clone(),
    });
    cluster.update(|_| ());
    cluster.endpoints_settled().await;
    Ok(cluster)
}

async fn proxy(listen: &[IpAddr], port: u16, node: &Node) -> anyhow::Result<TcpFaultProxy> {
    let addresses: Vec<_> = listen.iter().map(|address| SocketAddr::new(*address, port)).collect();
    let mut tries = 20;
    loop {
        match TcpFaultProxy::start(&addresses, node.address).await {
            // A port that is free at one address may be taken at another.
            Err(_) if port == 0 && tries > 0 => tries -= 1,
            started => return started,
        }
    }
}

/// Loopback addresses that only one cluster uses.
pub(super) struct Network {
    pub servers: Vec<IpAddr>,
    pub reader: IpAddr,
}

impl Network {
    pub fn find(servers: usize) -> anyhow::Result<Self> {
        for _ in 0..100 {
            let (second, third) = (rand::rng().random_range(64..=254), rand::rng().random_range(1..=254));
            let address = |last: u8| IpAddr::from(Ipv4Addr::new(127, second, third, last));
            let network = Self { servers: (1u8..).take(servers).map(address).collect(), reader: address(200) };
            if network.servers.iter().all(|address| TcpListener::bind((*address, node::PORT)).is_ok()) {
                return Ok(network);
            }
        }
        bail!("port {} of all loopback addresses is taken: look with `ss -ltnp` who listens on it", node::PORT)
    }
}

/// Settings that all servers share, and who may log in at each. Tokens are verified at the port `verifier`.
pub(super) fn write_settings(folder: &Path, nodes: &[Node], certificates: &Certificates, verifier: u16, user: User) -> anyhow::Result<()> {
    let settings = format!(
        "ssl = on
ssl_cert_file = '{}'
ssl_key_file = '{}'
max_connections = 200
shared_buffers = 32MB
# A kill of processes loses nothing that was written; a loss of power would.
fsync = off
synchronous_commit = on
full_page_writes = on
max_wal_senders = 10
wal_keep_size = 64MB
min_wal_size = 4MB
max_wal_size = 64MB
wal_recycle = off
wal_init_zero = off
wal_retrieve_retry_interval = 100ms
wal_receiver_timeout = 5s
wal_sender_timeout = 5s
log_line_prefix = '%m [%p] %a '
",
        certificates.certificate.display(),
        certificates.key.display()
    );
    user.write(&folder.join("postgresql.conf"), &settings)?;
    // By a socket only user postgres and root, as the folders of the sockets are closed to all others.
    nodes.iter().try_for_each(|node| {
        let by_iam = iam::rule(node, verifier);
        user.write(&node.access(), &format!("local all,replication all trust\n{by_iam}hostssl all all all scram-sha-256\n"))
    })
}
