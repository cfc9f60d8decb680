//! How connections are opened.

use std::net::SocketAddr;

use rustix::net::{getpeername, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::support::start;

/// Else each new one waits twice for an acknowledgement that the server delays, in every failover.
#[tokio::test]
async fn connections_do_not_wait_for_acknowledgements() {
    let (aurora, _connection) = start().await;
    let server: SocketAddr = aurora.cluster_endpoint().parse().unwrap();
    let process = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    // Of other tests some may be closed meanwhile.
    let opened = descriptors.filter_map(|descriptor| pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty()).ok());
    let connections = opened.filter(|socket| {
        let peer = getpeername(socket).ok().flatten().and_then(|address| SocketAddr::try_from(address).ok());
        peer == Some(server)
    });
    let without_delay: Vec<bool> = connections.map(|socket| sockopt::tcp_nodelay(socket).unwrap()).collect();
    assert_eq!(without_delay, [true]);
}
