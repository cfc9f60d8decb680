//! Addresses, TLS, and Aurora's own functions.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use durable_write_testbed::aurora::{Aurora, AuroraOptions, Fault, Timing};
use durable_write_testbed::proxy::tcp::TcpFault;
use sqlx::postgres::PgSslMode;
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::support::{ask, connect, eventually, sqlstate, start, who};

#[tokio::test]
async fn every_instance_answers_at_its_own_endpoint_and_the_names_lead_to_their_roles() {
    let aurora = start(Timing::default()).await;
    for instance in aurora.instances() {
        assert_eq!(who(&aurora, &instance.endpoint).await.unwrap(), instance.name);
        let recovery = ask(connect(&aurora, &instance.endpoint).await.unwrap(), "SELECT pg_is_in_recovery()::text").await.unwrap();
        assert_eq!(recovery, if instance.writer { "false" } else { "true" });
    }
    assert_eq!(who(&aurora, &aurora.cluster_endpoint()).await.unwrap(), "orders-1");
    let mut readers = BTreeSet::new();
    for _ in 0..4 {
        readers.insert(who(&aurora, &aurora.reader_endpoint()).await.unwrap());
    }
    assert_eq!(readers, BTreeSet::from(["orders-2".to_owned(), "orders-3".to_owned()]));
}

#[tokio::test]
async fn all_endpoints_answer_at_every_listen_address_and_the_advertised_one_is_told() {
    let addresses: Vec<IpAddr> = vec![[127, 0, 0, 1].into(), [127, 0, 0, 9].into()];
    let options = AuroraOptions { instances: 1, listen: addresses, advertise: "127.0.0.9".to_owned(), ..AuroraOptions::default() };
    let aurora = Aurora::start(options).await.unwrap();
    let instance = aurora.writer().unwrap().endpoint;
    for told in [&instance, &aurora.cluster_endpoint()] {
        assert!(told.starts_with("127.0.0.9:"), "{told}");
        assert_eq!(who(&aurora, told).await.unwrap(), "orders-1");
        assert_eq!(who(&aurora, &told.replace("127.0.0.9", "127.0.0.1")).await.unwrap(), "orders-1");
    }
    let rds = aurora.rds_endpoint();
    let rds = rds.strip_prefix("http://").unwrap();
    TcpStream::connect(rds).await.unwrap();
    TcpStream::connect(rds.replace("127.0.0.9", "127.0.0.1")).await.unwrap();
}

#[tokio::test]
async fn connections_need_tls_the_right_authority_and_the_password() {
    let aurora = start(Timing::default()).await;
    let options = aurora.client_options(&aurora.cluster_endpoint()).unwrap();
    assert_eq!(sqlstate(options.clone().ssl_mode(PgSslMode::Disable).connect().await.map(drop)), "28000");
    assert_eq!(sqlstate(options.clone().password("wrong").connect().await.map(drop)), "28P01");
    let other = start(Timing::default()).await;
    let stranger = options.clone().ssl_root_cert_from_pem(other.ca_pem().as_bytes().to_vec()).connect().await;
    assert!(stranger.as_ref().is_err_and(|error| error.to_string().contains("invalid peer certificate")), "{stranger:?}");
    options.host("localhost").connect().await.expect("the certificate is good for localhost");
}

#[tokio::test]
async fn a_new_database_has_auroras_functions() {
    let aurora = start(Timing::default()).await;
    let admin = aurora.admin_options().unwrap();
    let mut connection = admin.clone().connect().await.unwrap();
    sqlx::raw_sql("CREATE DATABASE shop").execute(&mut connection).await.unwrap();
    let writer = "SELECT server_id FROM aurora_replica_status() WHERE session_id = 'MASTER_SESSION_ID'";
    assert_eq!(ask(admin.database("shop").connect().await.unwrap(), writer).await.unwrap(), "orders-1");
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_dead_instance_refuses_connections_until_it_is_back() {
    let aurora = start(Timing { promotion: Duration::from_millis(500), ..Timing::default() }).await;
    let endpoint = aurora.writer().unwrap().endpoint;
    let refused = async {
        eventually("connections are refused", async || {
            TcpStream::connect(&endpoint).await.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        })
        .await;
    };
    let (failover, ()) = tokio::join!(aurora.fault(Fault::WriterKilled), refused);
    failover.unwrap();
    assert_eq!(who(&aurora, &endpoint).await.unwrap(), "orders-1");
}

#[tokio::test]
async fn every_endpoint_is_a_fault_proxy() {
    let aurora = start(Timing::default()).await;
    let mut admin = aurora.admin_options().unwrap().connect().await.unwrap();
    admin.execute("CREATE TABLE t (id int)").await.unwrap();
    let mut connection = connect(&aurora, &aurora.cluster_endpoint()).await.unwrap();
    aurora.cluster_proxy().fault(TcpFault::ReplyLost).await;
    assert!(timeout(Duration::from_secs(1), connection.execute("INSERT INTO t VALUES (1)")).await.is_err(), "a reply that should be lost");
    assert_eq!(ask(admin, "SELECT count(*)::text FROM t").await.unwrap(), "1", "the write took effect");
    aurora.cluster_proxy().fault(TcpFault::Cut).await;
    assert!(connect(&aurora, &aurora.cluster_endpoint()).await.is_err());
    assert_eq!(who(&aurora, &aurora.writer().unwrap().endpoint).await.unwrap(), "orders-1", "the instance's own endpoint is another proxy");
    aurora.cluster_proxy().heal().await;
    assert_eq!(who(&aurora, &aurora.cluster_endpoint()).await.unwrap(), "orders-1");
}
