//! Readers that are missing or behind.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use durable_write_testbed::aurora::{Aurora, AuroraOptions, Timing};
use sqlx::{ConnectOptions, Executor};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::support::{ask_admin, available, call, client, connect, describe, eventually, failure, start, write, writer};

#[tokio::test]
async fn readers_can_be_down_and_come_back() {
    let aurora = start(Timing::default()).await;
    let client = client(&aurora);
    for reader in ["orders-2", "orders-3"] {
        aurora.take_down(reader).await.unwrap();
    }
    let instances = aurora.instances();
    let refused = TcpStream::connect(&instances[2].endpoint).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let described = client.describe_db_instances().send().await.unwrap();
    let statuses: Vec<_> = described.db_instances().iter().map(|instance| instance.db_instance_status().unwrap()).collect();
    assert_eq!(statuses, ["available", "rebooting", "rebooting"]);
    assert_eq!(describe(&client).await.db_cluster_members().len(), 3, "they are members still");
    let untargeted = client.failover_db_cluster().db_cluster_identifier("orders").send().await;
    assert_eq!(failure(untargeted), ("InvalidDBClusterStateFault".into(), 400));
    assert_eq!(failure(call(&client, "orders-3").await), ("InvalidDBInstanceState".into(), 400));
    let mut connection = connect(&aurora, &aurora.cluster_endpoint()).await.unwrap();
    timeout(Duration::from_secs(5), connection.execute("CREATE TABLE rows AS SELECT 1 AS id"))
        .await
        .expect("the writer writes on")
        .unwrap();

    aurora.bring_up("orders-3").await.unwrap();
    call(&client, "orders-3").await.expect("one reader is enough");
    available(&client).await;
    assert_eq!(writer(&describe(&client).await), "orders-3");
    aurora.bring_up("orders-2").await.unwrap();
    for instance in aurora.instances() {
        assert_eq!(instance.status, "available");
        assert_eq!(ask_admin(aurora.instance_admin_options(&instance.name).unwrap(), "SELECT count(*)::text FROM rows").await, "1");
    }
    assert!(aurora.take_down("orders-3").await.is_err(), "the writer is no reader");
    assert!(aurora.bring_up("orders-2").await.is_err(), "it is up");
}

#[tokio::test]
async fn a_cluster_of_one_instance_has_no_reader() {
    let aurora = Aurora::start(AuroraOptions { instances: 1, ..AuroraOptions::default() }).await.unwrap();
    let client = client(&aurora);
    assert_eq!(describe(&client).await.db_cluster_members().len(), 1);
    let untargeted = client.failover_db_cluster().db_cluster_identifier("orders").send().await;
    assert_eq!(failure(untargeted), ("InvalidDBClusterStateFault".into(), 400));
    assert_eq!(failure(call(&client, "orders-1").await), ("InvalidDBInstanceState".into(), 400));
    write(&aurora, &aurora.cluster_endpoint()).await.unwrap();
}

const LAG: &str = "SELECT replica_lag_in_msec::int::text FROM aurora_replica_status() WHERE server_id = 'orders-2'";

#[tokio::test]
async fn a_reader_can_lag_and_says_so() {
    let aurora = start(Timing::default()).await;
    let reader = aurora.instance_admin_options("orders-2").unwrap();
    let told = async |instance: &str| -> u64 { ask_admin(aurora.instance_admin_options(instance).unwrap(), LAG).await.parse().unwrap() };
    eventually("an ordinary reader hardly lags", async || told("orders-1").await < 1000).await;
    let mut writer = aurora.admin_options().unwrap().connect().await.unwrap();
    writer.execute("CREATE TABLE rows (id int)").await.unwrap();
    let count = async || ask_admin(reader.clone(), "SELECT count(*)::text FROM rows").await;
    eventually("the reader has the table", async || {
        ask_admin(reader.clone(), "SELECT count(*)::text FROM pg_class WHERE relname = 'rows'").await == "1"
    })
    .await;

    aurora.set_replica_lag("orders-2", Duration::from_millis(2500)).unwrap();
    for instance in ["orders-1", "orders-2", "orders-3"] {
        eventually("all tell the lag", async || told(instance).await >= 2500).await;
    }
    let begin = Instant::now();
    writer.execute("INSERT INTO rows VALUES (1)").await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(2), "a commit does not wait for it: {:?}", begin.elapsed());
    eventually("the reader shows the row", async || count().await == "1").await;
    assert!(begin.elapsed() >= Duration::from_millis(2400), "{:?}", begin.elapsed());

    aurora.set_replica_lag("orders-2", Duration::from_secs(600)).unwrap();
    writer.execute("INSERT INTO rows VALUES (2)").await.unwrap();
    aurora.fail_over(Some("orders-2")).await.expect("a promotion does not wait for what is only not shown yet");
    assert_eq!(count().await, "2");
}
