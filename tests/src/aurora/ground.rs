//! What is there before any server runs: folders, addresses, endpoints and settings.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::bail;
use jiff::Timestamp;
use rand::RngExt;

use super::certificates::Certificates;
use super::cluster::{Cluster, State, Status};
use super::endpoint::Endpoint;
use super::node::{self, Node};
use super::user::{self, User};
use super::{AuroraOptions, UPPER_CASE, open_to_all, random, template};
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

/// Endpoints that lead nowhere yet, and the state of a cluster that has not started.
pub(super) fn assemble(options: AuroraOptions, version: String, nodes: Vec<Node>, reader_address: IpAddr) -> anyhow::Result<Arc<Cluster>> {
    let instance_endpoints = nodes.iter().map(|_| Endpoint::bind(&options.listen, None)).collect::<anyhow::Result<Vec<_>>>()?;
    let cluster_endpoint = Endpoint::bind(&options.listen, None)?;
    let reader_endpoint = Endpoint::bind(&[reader_address], Some(cluster_endpoint.port()))?;
    let state = State {
        writer: 0,
        resolved_writer: 0,
        up: vec![false; nodes.len()],
        status: Status::Available,
        timing: options.timing,
        failovers: Vec::new(),
        events: Vec::new(),
    };
    Ok(Arc::new_cyclic(|this| Cluster {
        identifier: options.cluster_identifier,
        resource_id: format!("cluster-{}", random(26, UPPER_CASE)),
        version,
        advertise: options.advertise,
        reader_address,
        tags: options.tags,
        created: Timestamp::now(),
        nodes,
        instance_endpoints,
        cluster_endpoint,
        reader_endpoint,
        operation: Arc::default(),
        state: Mutex::new(state),
        tasks: Mutex::default(),
        this: this.clone(),
    }))
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

/// Settings that all servers share.
pub(super) fn write_settings(folder: &Path, certificates: &Certificates, user: User) -> anyhow::Result<()> {
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
    user.write(&folder.join("pg_hba.conf"), "local all,replication all trust\nhostssl all all all scram-sha-256\n")
}
