//! The TCP fault proxy in front of a server that echoes.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use durable_write_testbed::proxy::tcp::{TcpFault, TcpFaultProxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// Long enough for a reply on the loopback of a busy machine to be taken as lost.
const SILENCE: Duration = Duration::from_millis(200);

/// Answers each byte with itself plus `offset`, and counts what it received.
struct Echo {
    address: SocketAddr,
    received: Arc<AtomicUsize>,
}

async fn echo(offset: u8) -> Echo {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let received = Arc::new(AtomicUsize::new(0));
    let echo = Echo { address: listener.local_addr().unwrap(), received: received.clone() };
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let received = received.clone();
            tokio::spawn(async move {
                while let Ok(byte) = stream.read_u8().await {
                    received.fetch_add(1, Ordering::SeqCst);
                    stream.write_u8(byte + offset).await.ok();
                }
            });
        }
    });
    echo
}

async fn proxied(echo: &Echo) -> (TcpFaultProxy, TcpStream) {
    let proxy = TcpFaultProxy::start(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))], echo.address).await.unwrap();
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    (proxy, client)
}

async fn ask(client: &mut TcpStream, byte: u8) -> std::io::Result<u8> {
    client.write_u8(byte).await?;
    client.read_u8().await
}

async fn hangs(client: &mut TcpStream) -> bool {
    timeout(SILENCE, client.read_u8()).await.is_err()
}

async fn until(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), wait).await.expect("the condition never came true");
}

#[tokio::test]
async fn without_a_fault_bytes_and_ends_pass_through_and_connections_are_counted() {
    let (proxy, mut client) = proxied(&echo(1).await).await;
    assert_eq!(ask(&mut client, 7).await.unwrap(), 8);
    assert_eq!(proxy.connections(), 1);
    client.shutdown().await.unwrap();
    assert_eq!(client.read_u8().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    until(|| proxy.connections() == 0).await;
}

#[tokio::test]
async fn it_listens_on_several_addresses_with_one_port() {
    let echo = echo(1).await;
    let listen = [SocketAddr::from(([127, 0, 0, 1], 0)), SocketAddr::from(([127, 0, 0, 2], 0))];
    let proxy = TcpFaultProxy::start(&listen, echo.address).await.unwrap();
    assert_eq!(proxy.addresses()[0].port(), proxy.addresses()[1].port());
    for address in proxy.addresses() {
        assert_eq!(ask(&mut TcpStream::connect(address).await.unwrap(), 1).await.unwrap(), 2);
    }
}

#[tokio::test]
async fn a_new_target_takes_new_connections_and_leaves_open_ones() {
    let (proxy, mut old) = proxied(&echo(1).await).await;
    assert_eq!(ask(&mut old, 1).await.unwrap(), 2);
    proxy.set_target(echo(2).await.address);
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!((ask(&mut old, 1).await.unwrap(), ask(&mut new, 1).await.unwrap()), (2, 3));
}

#[tokio::test]
async fn several_targets_take_turns_and_without_any_connections_are_refused() {
    let (proxy, mut open) = proxied(&echo(1).await).await;
    ask(&mut open, 1).await.unwrap();
    proxy.set_targets(vec![echo(2).await.address, echo(3).await.address]);
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(ask(&mut TcpStream::connect(proxy.address()).await.unwrap(), 0).await.unwrap());
    }
    answers.sort_unstable();
    assert_eq!(answers, [2, 2, 3, 3]);
    proxy.set_targets(Vec::new());
    proxy.settled().await;
    assert_eq!(TcpStream::connect(proxy.address()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ask(&mut open, 1).await.unwrap(), 2);
}

#[tokio::test]
async fn cut_resets_open_connections_and_refuses_new_ones_until_healed() {
    let (proxy, mut client) = proxied(&echo(1).await).await;
    ask(&mut client, 1).await.unwrap();
    proxy.fault(TcpFault::Cut).await;
    assert_eq!(proxy.connections(), 0);
    assert_eq!(client.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(TcpStream::connect(proxy.address()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    proxy.heal().await;
    assert_eq!(ask(&mut TcpStream::connect(proxy.address()).await.unwrap(), 1).await.unwrap(), 2);
}

#[tokio::test]
async fn refuse_leaves_open_connections_alone() {
    let (proxy, mut client) = proxied(&echo(1).await).await;
    ask(&mut client, 1).await.unwrap();
    proxy.fault(TcpFault::Refuse).await;
    assert_eq!(TcpStream::connect(proxy.address()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ask(&mut client, 5).await.unwrap(), 6);
}

#[tokio::test]
async fn a_port_that_refuses_is_not_given_to_another_program() {
    let (proxy, _client) = proxied(&echo(1).await).await;
    proxy.fault(TcpFault::Refuse).await;
    assert_eq!(std::net::TcpListener::bind(proxy.address()).unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[tokio::test]
async fn in_a_black_hole_nothing_arrives_until_it_heals_and_new_connections_hang() {
    let echo = echo(1).await;
    let (proxy, mut client) = proxied(&echo).await;
    ask(&mut client, 1).await.unwrap();
    proxy.fault(TcpFault::BlackHole).await;
    let mut late = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_u8(2).await.unwrap();
    late.write_u8(3).await.unwrap();
    assert!(hangs(&mut client).await && hangs(&mut late).await);
    assert_eq!(echo.received.load(Ordering::SeqCst), 1, "a byte fell out of the black hole");
    proxy.heal().await;
    assert_eq!((client.read_u8().await.unwrap(), late.read_u8().await.unwrap()), (3, 4));
}

#[tokio::test]
async fn a_lost_reply_comes_after_its_effect_and_is_gone_with_a_cut() {
    let echo = echo(1).await;
    let (proxy, mut client) = proxied(&echo).await;
    ask(&mut client, 1).await.unwrap();
    proxy.fault(TcpFault::ReplyLost).await;
    client.write_u8(2).await.unwrap();
    until(|| echo.received.load(Ordering::SeqCst) == 2).await;
    assert!(hangs(&mut client).await);
    proxy.fault(TcpFault::Cut).await;
    assert_eq!(client.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_cut_alone_ends_hung_connections_and_lets_new_ones_in() {
    let (proxy, mut client) = proxied(&echo(1).await).await;
    proxy.fault(TcpFault::BlackHole).await;
    proxy.cut().await;
    assert_eq!(client.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    proxy.heal().await;
    assert_eq!(ask(&mut TcpStream::connect(proxy.address()).await.unwrap(), 1).await.unwrap(), 2);
}

#[tokio::test]
async fn slow_delays_each_direction() {
    let (proxy, mut client) = proxied(&echo(1).await).await;
    proxy.fault(TcpFault::Slow { delay: Duration::from_millis(50), bytes_per_second: 20 }).await;
    let start = Instant::now();
    assert_eq!(ask(&mut client, 1).await.unwrap(), 2);
    assert!(start.elapsed() >= Duration::from_millis(200), "two directions of 50 ms and 1/20 s took {:?}", start.elapsed());
}
