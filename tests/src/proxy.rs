//! Proxies that place faults: by bytes in front of PostgreSQL ([`tcp`]), by action in front of an AWS endpoint ([`http`]), which [`kubernetes`] makes
//! fit for the Kubernetes API.

pub mod http;
pub mod kubernetes;
pub mod tcp;

use std::net::SocketAddr;

/// The address to bind: on the second and later addresses of a proxy, port 0 means the port of the first.
fn with_port_of_first(address: SocketAddr, bound: &[SocketAddr]) -> SocketAddr {
    match bound.first() {
        Some(first) if address.port() == 0 => SocketAddr::new(address.ip(), first.port()),
        _ => address,
    }
}
