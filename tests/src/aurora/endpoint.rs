//! An address that clients know, and that leads to one server or another.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, copy_buf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const BUFFER: usize = 64 * 1024;

/// A TCP forwarder. While it leads nowhere, connections are refused by the kernel, as those to a server that is down.
pub(super) struct Endpoint {
    addresses: Vec<SocketAddr>,
    targets: watch::Sender<Vec<SocketAddr>>,
    /// Counts the cuts; when it is gone, so are all connections.
    cuts: watch::Sender<u64>,
    listening: Mutex<Vec<JoinHandle<()>>>,
    /// Bound and never listening: they keep the port for us while connections are refused.
    _reserved: Vec<TcpSocket>,
}

impl Endpoint {
    /// Takes a port at all of the addresses: the given one, or any that is free.
    pub fn bind(addresses: &[IpAddr], port: Option<u16>) -> anyhow::Result<Self> {
        let (port, reserved) = reserve(addresses, port)?;
        let addresses = addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
        let (targets, cuts) = (watch::Sender::default(), watch::Sender::default());
        Ok(Self { addresses, targets, cuts, listening: Mutex::default(), _reserved: reserved })
    }

    /// The port, the same at each address.
    pub fn port(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }

    /// Leads new connections to these servers in turn; open ones stay where they are.
    pub fn lead_to(&self, targets: Vec<SocketAddr>) {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        if targets.is_empty() {
            listening.drain(..).for_each(|listener| listener.abort());
        }
        let wanted = !targets.is_empty();
        self.targets.send_replace(targets);
        if wanted && listening.is_empty() {
            let serve =
                |address: &SocketAddr| tokio::spawn(serve(*address, listen(*address), self.targets.subscribe(), self.cuts.subscribe()));
            listening.extend(self.addresses.iter().map(serve));
        }
    }

    /// Resets all open connections.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.lead_to(Vec::new());
    }
}

/// Finds a port that is free at all addresses, and binds it at each.
pub(super) fn reserve(addresses: &[IpAddr], port: Option<u16>) -> anyhow::Result<(u16, Vec<TcpSocket>)> {
    let Some((first, others)) = addresses.split_first() else { bail!("an endpoint needs an address to listen on") };
    let mut failure = None;
    for _ in 0..50 {
        let mut sockets = vec![bind(SocketAddr::new(*first, port.unwrap_or(0))).with_context(|| format!("listen on {first}"))?];
        let chosen = sockets.first().context("a socket")?.local_addr()?.port();
        match others.iter().map(|address| bind(SocketAddr::new(*address, chosen))).collect::<io::Result<Vec<_>>>() {
            Ok(more) => {
                sockets.extend(more);
                return Ok((chosen, sockets));
            }
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.map_or_else(|| anyhow::anyhow!("no port"), Into::into))
        .with_context(|| format!("find a port that is free at {addresses:?}"))
}

/// Binds for nobody else, and only then lets a listener of ours share the address.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = socket(address)?;
    socket.bind(address)?;
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

/// Accepts connections and leads them to the targets in turn.
async fn serve(
    address: SocketAddr,
    mut listener: io::Result<TcpListener>,
    targets: watch::Receiver<Vec<SocketAddr>>,
    cuts: watch::Receiver<u64>,
) {
    let mut turn = 0;
    loop {
        let accepted = match &listener {
            Ok(listener) => listener.accept().await,
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        let client = match accepted {
            Ok((client, _)) => client,
            Err(error) => {
                // The listener before this one may not have ended yet.
                tracing::warn!(%address, %error, "an endpoint cannot accept connections, tries again");
                tokio::time::sleep(Duration::from_millis(10)).await;
                listener = listener.or_else(|_| listen(address));
                continue;
            }
        };
        let target = {
            let targets = targets.borrow();
            turn += 1;
            targets.get(turn % targets.len().max(1)).copied()
        };
        if let Some(target) = target {
            tokio::spawn(forward(client, target, cuts.clone()));
        }
    }
}

/// Moves bytes until one side ends, then ends the other in the same way.
async fn forward(mut client: TcpStream, target: SocketAddr, mut cuts: watch::Receiver<u64>) {
    cuts.mark_unchanged();
    let outcome = match TcpStream::connect(target).await {
        Ok(mut server) => {
            client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).ok();
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            tokio::select! {
                outcome = copy(from_client, to_server) => outcome,
                outcome = copy(from_server, to_client) => outcome,
                _ = cuts.changed() => Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
        Err(error) => Err(error),
    };
    if outcome.is_err() {
        client.set_zero_linger().ok();
    }
}

async fn copy(from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    copy_buf(&mut BufReader::with_capacity(BUFFER, from), &mut to).await.map(drop)
}
