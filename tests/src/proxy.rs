//! Proxies that place faults: by bytes in front of PostgreSQL ([`tcp`]), by action in front of an AWS endpoint.

pub mod tcp;
