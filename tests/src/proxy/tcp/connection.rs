//! One connection of the proxy: two directions that stop, crawl or end as the fault says.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Shared, TcpFault};

const PIECE: usize = 16 * 1024;

/// The entry of a connection among the open ones. Made when it is accepted, so that a cut finds it.
pub(super) struct Guard {
    shared: Shared,
    number: u64,
}

impl Guard {
    pub(super) fn new(shared: &Shared) -> Self {
        let mut number = 0;
        shared.open.send_modify(|open| {
            number = open.next;
            open.next += 1;
            open.numbers.insert(number);
        });
        Self { shared: shared.clone(), number }
    }

    async fn cut(&self) {
        self.shared.cut_below.subscribe().wait_for(|cut_below| self.number < *cut_below).await.ok();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.open.send_modify(|open| {
            open.numbers.remove(&self.number);
        });
    }
}

#[derive(Clone, Copy)]
enum Direction {
    ToServer,
    ToClient,
}

/// Forwards between `client` and the target until both have ended, or the connection is cut. (`guard` stands first to be dropped last.)
pub(super) async fn forward(guard: Guard, mut client: TcpStream) {
    let shared = &guard.shared;
    let connected = tokio::select! {
        connected = connect(shared) => connected,
        () = guard.cut() => Err(io::ErrorKind::ConnectionAborted.into()),
    };
    let Ok(mut server) = connected else {
        client.set_zero_linger().ok(); // a reset: the nearest to a refusal that is left after accepting
        return;
    };
    client.set_nodelay(true).ok();
    let (client_reads, client_writes) = client.split();
    let (server_reads, server_writes) = server.split();
    let cut = tokio::select! {
        _ = async { tokio::try_join!(
            pump(client_reads, server_writes, Direction::ToServer, shared.fault.subscribe()),
            pump(server_reads, client_writes, Direction::ToClient, shared.fault.subscribe()),
        ) } => false,
        () = guard.cut() => true,
    };
    if cut {
        client.set_zero_linger().ok();
        server.set_zero_linger().ok();
    }
}

async fn connect(shared: &Shared) -> io::Result<TcpStream> {
    flows(&mut shared.fault.subscribe(), Direction::ToServer).await;
    let target = shared.next_target().ok_or(io::ErrorKind::ConnectionRefused)?;
    let server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// Copies one direction, its end included. An error (one side was reset) ends the whole connection.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    mut fault: watch::Receiver<Option<TcpFault>>,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let read = from.read(&mut buffer).await;
        flows(&mut fault, direction).await;
        let read = read?;
        if read == 0 {
            return to.shutdown().await;
        }
        let slowness = match *fault.borrow() {
            Some(TcpFault::Slow { delay, bytes_per_second }) => delay + transfer_time(read, bytes_per_second),
            _ => Duration::ZERO,
        };
        if !slowness.is_zero() {
            sleep(slowness).await;
        }
        to.write_all(buffer.get(..read).unwrap_or_default()).await?;
    }
}

/// Waits as long as the fault stops this direction. A cut does too: what was held back must not slip out before the reset.
async fn flows(fault: &mut watch::Receiver<Option<TcpFault>>, direction: Direction) {
    let stopped = |fault: &Option<TcpFault>| match direction {
        Direction::ToServer => matches!(fault, Some(TcpFault::BlackHole | TcpFault::Cut)),
        Direction::ToClient => matches!(fault, Some(TcpFault::BlackHole | TcpFault::Cut | TcpFault::ReplyLost)),
    };
    fault.wait_for(|fault| !stopped(fault)).await.ok();
}

fn transfer_time(bytes: usize, bytes_per_second: u32) -> Duration {
    if bytes_per_second == 0 {
        return Duration::ZERO;
    }
    Duration::from_secs(u64::try_from(bytes).unwrap_or(u64::MAX)) / bytes_per_second
}
