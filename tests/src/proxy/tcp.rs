//! A TCP forwarder that places faults of a network. Bytes are opaque to it (TLS passes through), and its target may change while it runs.

mod connection;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::with_port_of_first;

/// What a [`TcpFaultProxy`] does to connections until it is healed or given another fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpFault {
    /// All connections are reset now, new ones are refused.
    Cut,
    /// New connections are refused, open ones live on.
    Refuse,
    /// Nothing flows in either direction and nothing is closed, not even when one side closes. New connections are accepted and hang. As in a
    /// real network, what was sent meanwhile arrives after [`TcpFaultProxy::heal`]; follow with `Cut` for bytes that never arrive.
    BlackHole,
    /// Requests reach the server, its replies do not reach the client. After [`TcpFaultProxy::heal`] they arrive late; follow with `Cut` for
    /// replies that are lost for good.
    ReplyLost,
    /// Each piece of up to 16 KiB waits for `delay` and then passes at `bytes_per_second`, in each direction.
    Slow {
        /// Added to each piece.
        delay: Duration,
        /// Bandwidth of each connection and direction; 0 is unlimited.
        bytes_per_second: u32,
    },
}

/// A running proxy; it ends, and its connections are closed, when this is dropped.
#[derive(Debug)]
pub struct TcpFaultProxy {
    addresses: Vec<SocketAddr>,
    shared: Shared,
    listening: Vec<watch::Receiver<bool>>,
    _listeners: JoinSet<()>,
}

/// What the listeners and connections look at.
#[derive(Debug, Clone)]
struct Shared {
    targets: watch::Sender<Vec<SocketAddr>>,
    /// Counts connections, so that the targets get them in turn.
    turn: Arc<AtomicUsize>,
    fault: watch::Sender<Option<TcpFault>>,
    /// Connections with a number below this one are cut.
    cut_below: watch::Sender<u64>,
    open: watch::Sender<Open>,
}

/// The connections that are open, by numbers that never repeat.
#[derive(Debug, Default)]
struct Open {
    next: u64,
    numbers: BTreeSet<u64>,
}

impl TcpFaultProxy {
    /// Listens on each address of `listen` and forwards to `target`. Port 0 is a free one; on the second and later addresses it means the
    /// port of the first.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub async fn start(listen: &[SocketAddr], target: SocketAddr) -> anyhow::Result<Self> {
        let shared = Shared {
            targets: watch::Sender::new(vec![target]),
            turn: Arc::default(),
            fault: watch::Sender::new(None),
            cut_below: watch::Sender::new(0),
            open: watch::Sender::new(Open::default()),
        };
        let mut proxy = Self { addresses: Vec::new(), shared, listening: Vec::new(), _listeners: JoinSet::new() };
        for address in listen {
            let address = with_port_of_first(*address, &proxy.addresses);
            proxy.listen(address).with_context(|| format!("listen on {address}"))?;
        }
        proxy.settled().await;
        Ok(proxy)
    }

    /// Keeps `address` reserved by a socket that does not listen, so that nobody takes the port while connections are refused.
    fn listen(&mut self, address: SocketAddr) -> io::Result<()> {
        let reservation = bind(address)?;
        let address = reservation.local_addr()?;
        let (listening, listens) = watch::channel(false);
        self.addresses.push(address);
        self.listening.push(listens);
        self._listeners.spawn(serve(reservation, address, self.shared.clone(), listening));
        Ok(())
    }

    /// The first address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.addresses.first().copied().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// All addresses that it listens on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Connections from now on go to `target`; open ones stay where they are, as they do when a DNS name moves.
    pub fn set_target(&self, target: SocketAddr) {
        self.set_targets(vec![target]);
    }

    /// Connections from now on go to these targets in turn, and are refused when there is none; open ones stay where they are. It works at
    /// the latest when [`TcpFaultProxy::settled`] returns.
    pub fn set_targets(&self, targets: Vec<SocketAddr>) {
        self.shared.targets.send_replace(targets);
    }

    /// Places a fault in the stead of the one before, and returns when it works.
    pub async fn fault(&self, fault: TcpFault) {
        self.set(Some(fault)).await;
        if fault == TcpFault::Cut {
            let next = self.shared.open.borrow().next;
            self.shared.cut_below.send_replace(next);
            self.shared.open.subscribe().wait_for(|open| open.numbers.first().is_none_or(|first| *first >= next)).await.ok();
        }
    }

    /// Ends the fault, and returns when new connections are accepted.
    pub async fn heal(&self) {
        self.set(None).await;
    }

    /// Resets all connections once, and returns when they are gone; the fault stays as it is. (New connections are refused for a moment, as
    /// closing the listener is what resets those that are connected and not yet accepted.)
    pub async fn cut(&self) {
        let before = *self.shared.fault.borrow();
        self.fault(TcpFault::Cut).await;
        self.set(before).await;
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.open.borrow().numbers.len()
    }

    async fn set(&self, fault: Option<TcpFault>) {
        self.shared.fault.send_replace(fault);
        self.settled().await;
    }

    /// Returns when new connections are accepted or refused as fault and targets want.
    pub async fn settled(&self) {
        for listening in &self.listening {
            let mut listening = listening.clone();
            let (mut fault, mut targets) = (self.shared.fault.subscribe(), self.shared.targets.subscribe());
            while *listening.borrow_and_update() != self.shared.accepts() {
                tokio::select! {
                    changed = listening.changed() => if changed.is_err() { break },
                    _ = fault.changed() => {}
                    _ = targets.changed() => {}
                }
            }
        }
    }
}

impl Shared {
    fn accepts(&self) -> bool {
        !self.targets.borrow().is_empty() && accepts(*self.fault.borrow())
    }

    /// Waits until new connections are to be accepted, or until they are not.
    async fn until_accepts(&self, wanted: bool) {
        let (mut fault, mut targets) = (self.fault.subscribe(), self.targets.subscribe());
        while self.accepts() != wanted {
            tokio::select! { _ = fault.changed() => {} _ = targets.changed() => {} }
        }
    }

    fn next_target(&self) -> Option<SocketAddr> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let targets = self.targets.borrow();
        targets.get(turn.checked_rem(targets.len())?).copied()
    }
}

fn accepts(fault: Option<TcpFault>) -> bool {
    !matches!(fault, Some(TcpFault::Cut | TcpFault::Refuse))
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseport(true)?; // and not reuseaddr, which would let another program listen while this one does not
    socket.bind(address)?;
    Ok(socket)
}

/// Listens whenever connections are to be accepted. A refused connection needs a listener that is gone: a backlog would accept it.
async fn serve(reservation: TcpSocket, address: SocketAddr, shared: Shared, listening: watch::Sender<bool>) {
    let mut connections = JoinSet::new();
    loop {
        shared.until_accepts(true).await;
        match bind(address).and_then(|socket| socket.listen(1024)) {
            Ok(listener) => {
                listening.send_replace(true);
                tokio::select! {
                    () = accept(&listener, &shared, &mut connections) => {}
                    () = shared.until_accepts(false) => {}
                }
                drop(listener);
                listening.send_replace(false);
            }
            Err(error) => {
                tracing::error!(%address, %error, "a fault proxy cannot listen again");
                break;
            }
        }
    }
    drop(reservation);
}

async fn accept(listener: &TcpListener, shared: &Shared, connections: &mut JoinSet<()>) {
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((client, _)) => drop(connections.spawn(connection::forward(connection::Guard::new(shared), client))),
            Err(error) => {
                tracing::warn!(%error, "a fault proxy cannot accept");
                tokio::time::sleep(Duration::from_millis(10)).await; // out of file descriptors: let some close
            }
        }
    }
}
