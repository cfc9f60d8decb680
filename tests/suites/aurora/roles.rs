//! Failovers and faults of the writer, one at a time.

use std::path::Path;
use std::time::Duration;

use durable_write_testbed::aurora::{Aurora, AuroraOptions, Fault, Refused, Timing};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::time::timeout;

use super::support::{ask_admin, connect, eventually, sqlstate, start, who};

const WRITER: &str =
    "SELECT coalesce(string_agg(server_id, ','), 'nobody') FROM aurora_replica_status() WHERE session_id = 'MASTER_SESSION_ID'";

/// All instances take the same one for the writer, and only it accepts writes.
async fn assert_writer(aurora: &Aurora, writer: &str) {
    assert_eq!(aurora.writer().unwrap().name, writer);
    for instance in aurora.instances() {
        let admin = aurora.instance_admin_options(&instance.name).unwrap();
        eventually("all instances know the writer", async || ask_admin(admin.clone(), WRITER).await == writer).await;
        let mut connection = connect(aurora, &instance.endpoint).await.unwrap();
        let write = connection.execute("CREATE TEMPORARY TABLE t (id int)").await;
        if instance.name == writer {
            write.unwrap();
        } else {
            assert_eq!(sqlstate(write), "25006");
        }
    }
}

#[tokio::test]
async fn a_planned_failover_exchanges_the_roles() {
    let aurora = start(Timing::default()).await;
    assert_writer(&aurora, "orders-1").await;
    let failover = aurora.fail_over(Some("orders-3")).await.unwrap();
    assert_eq!((failover.from.as_str(), failover.to.as_deref()), ("orders-1", Some("orders-3")));
    // The first write may be acknowledged before the promotion has returned: it waits for nobody.
    for back in [failover.promoted, failover.writable] {
        assert!(Some(failover.stopped) < back && back < failover.rejoined, "{failover:?}");
    }
    assert_writer(&aurora, "orders-3").await;
    aurora.fail_over(None).await.unwrap();
    assert_writer(&aurora, "orders-1").await;
    assert_eq!(aurora.timeline().len(), 2);
}

#[tokio::test]
async fn the_names_follow_the_roles_with_a_lag() {
    let lag = Duration::from_secs(2);
    let aurora = start(Timing { names: lag, ..Timing::default() }).await;
    let failover = aurora.fail_over(None).await.unwrap();
    assert_eq!(who(&aurora, &aurora.cluster_endpoint()).await.unwrap(), "orders-1", "the name still leads to the old writer");
    eventually("the name leads to the new writer", async || {
        who(&aurora, &aurora.cluster_endpoint()).await.is_ok_and(|name| name == "orders-2")
    })
    .await;
    let followed = jiff::Timestamp::now().duration_since(failover.promoted.unwrap());
    assert!(Duration::try_from(followed).unwrap() >= lag, "{followed}");
}

#[tokio::test]
async fn a_killed_writer_is_replaced_after_detection_and_delay() {
    let timing = Timing { detection: Duration::from_millis(700), promotion: Duration::from_millis(800), ..Timing::default() };
    let aurora = start(timing).await;
    let mut connection = connect(&aurora, &aurora.cluster_endpoint()).await.unwrap();
    let failover = aurora.fault(Fault::WriterKilled).await.unwrap();
    assert!(failover.outage().unwrap() >= Duration::from_millis(1500), "{failover:?}");
    assert!(sqlx::query("SELECT 1").execute(&mut connection).await.is_err());
    assert_writer(&aurora, "orders-2").await;
}

#[tokio::test]
async fn a_hanging_writer_keeps_its_connections_and_answers_nothing_until_it_is_replaced() {
    let aurora = start(Timing { promotion: Duration::from_secs(1), ..Timing::default() }).await;
    let mut connection = connect(&aurora, &aurora.cluster_endpoint()).await.unwrap();
    let hangs = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(timeout(Duration::from_millis(700), sqlx::query("SELECT 1").execute(&mut connection)).await.is_err(), "an answer");
    };
    let (failover, ()) = tokio::join!(aurora.fault(Fault::WriterHangs), hangs);
    assert!(failover.unwrap().outage().unwrap() >= Duration::from_secs(1));
    assert_writer(&aurora, "orders-2").await;
}

#[tokio::test]
async fn connections_to_a_writer_that_turns_reader_stay_open_and_are_refused_writes() {
    let aurora = start(Timing { rejoin: Duration::from_secs(3), ..Timing::default() }).await;
    let (old, new) = (aurora.instances()[0].clone(), aurora.instances()[1].clone());
    connect(&aurora, &old.endpoint).await.unwrap().execute("CREATE TABLE t (id int)").await.unwrap();
    let mut idle = connect(&aurora, &old.endpoint).await.unwrap();
    let mut writing = connect(&aurora, &old.endpoint).await.unwrap();
    writing.execute("BEGIN").await.unwrap();
    writing.execute("INSERT INTO t VALUES (1)").await.unwrap();

    let refused = async {
        eventually("a write is accepted by the new writer", async || {
            let Ok(mut connection) = connect(&aurora, &new.endpoint).await else { return false };
            connection.execute("INSERT INTO t VALUES (2)").await.is_ok()
        })
        .await;
        let status = sqlx::query_scalar::<_, String>(WRITER).fetch_one(&mut idle).await.unwrap();
        assert_eq!(status, "orders-2", "the open connection says who the writer is");
        assert_eq!(sqlstate(idle.execute("INSERT INTO t VALUES (3)").await), "25006");
        idle.execute("SELECT count(*) FROM t").await.expect("it can still read");
        assert_eq!(sqlstate(connect(&aurora, &old.endpoint).await.unwrap().execute("INSERT INTO t VALUES (4)").await), "25006");
        assert!(writing.execute("COMMIT").await.is_err(), "a transaction that had written is broken off");
    };
    let (failover, ()) = tokio::join!(aurora.fault(Fault::WriterTurnsReader), refused);
    failover.unwrap();
    assert!(idle.execute("SELECT 1").await.is_err(), "the connections end when it restarts");
    assert_writer(&aurora, "orders-2").await;
    let ids = ask_admin(aurora.admin_options().unwrap(), "SELECT string_agg(id::text, ',') FROM t").await;
    assert_eq!(ids, "2");
}

#[tokio::test]
async fn a_reader_that_fell_behind_gets_what_another_has_before_it_is_promoted() {
    let aurora = start(Timing::default()).await;
    let mut behind = aurora.instance_admin_options("orders-2").unwrap().connect().await.unwrap();
    behind.execute("ALTER SYSTEM SET primary_conninfo = ''").await.unwrap();
    behind.execute("SELECT pg_reload_conf()").await.unwrap();
    let mut writer = aurora.admin_options().unwrap().connect().await.unwrap();
    let receivers = "SELECT string_agg(application_name, ',') FROM pg_stat_replication";
    eventually("only orders-3 receives", async || {
        sqlx::query_scalar::<_, String>(receivers).fetch_one(&mut writer).await.unwrap() == "orders-3"
    })
    .await;
    writer.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id").await.unwrap();
    let failover = aurora.fault(Fault::WriterKilled).await.unwrap();
    assert_eq!(failover.to.as_deref(), Some("orders-2"));
    assert_eq!(ask_admin(aurora.admin_options().unwrap(), "SELECT count(*)::text FROM t").await, "1000");
    assert_writer(&aurora, "orders-2").await;
}

#[tokio::test]
async fn a_failover_that_cannot_be_is_refused() {
    let aurora = start(Timing { promotion: Duration::from_millis(500), ..Timing::default() }).await;
    let refused = async |target: Option<&str>| aurora.fail_over(target).await.unwrap_err().downcast::<Refused>().unwrap();
    assert_eq!(refused(Some("orders-1")).await, Refused::IsWriter("orders-1".into()));
    assert_eq!(refused(Some("orders-9")).await, Refused::Unknown("orders-9".into()));
    let (first, second) = tokio::join!(aurora.fail_over(None), refused(None));
    first.unwrap();
    assert_eq!(second, Refused::InProgress);
    let alone = Aurora::start(AuroraOptions { instances: 1, ..AuroraOptions::default() }).await.unwrap();
    assert_eq!(alone.fail_over(None).await.unwrap_err().downcast::<Refused>().unwrap(), Refused::NoReader);
}

#[tokio::test]
async fn two_instances_exchange_their_roles_again_and_again() {
    let aurora = Aurora::start(AuroraOptions { instances: 2, ..AuroraOptions::default() }).await.unwrap();
    for (fault, writer) in [(Fault::WriterKilled, "orders-2"), (Fault::WriterHangs, "orders-1"), (Fault::Planned, "orders-2")] {
        aurora.fault(fault).await.unwrap();
        assert_writer(&aurora, writer).await;
    }
}

#[tokio::test]
async fn a_dropped_cluster_leaves_no_process_even_a_frozen_one() {
    let aurora = start(Timing { promotion: Duration::from_secs(600), ..Timing::default() }).await;
    let folder = aurora.folder().to_owned();
    assert!(timeout(Duration::from_millis(500), aurora.fault(Fault::WriterHangs)).await.is_err());
    assert!(processes_of(&folder) > 0);
    drop(aurora);
    eventually("all processes are gone", async || processes_of(&folder) == 0).await;
    assert!(!folder.exists());
}

/// How many processes were started with a folder in their arguments. Sessions share the arguments' memory with their server, but show
/// their own titles: what has a working folder in it counts as well.
fn processes_of(folder: &Path) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes
        .filter(|process| {
            let arguments = std::fs::read(process.join("cmdline")).unwrap_or_default();
            let started = String::from_utf8_lossy(&arguments).contains(folder.to_str().unwrap());
            started || std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
        })
        .count()
}

#[tokio::test]
async fn a_connection_to_the_writer_by_the_admin_follows_the_role() {
    let aurora = start(Timing::default()).await;
    aurora.fail_over(Some("orders-2")).await.unwrap();
    let mut connection = aurora.admin_options().unwrap().connect().await.unwrap();
    connection.execute("CREATE TABLE t (id int)").await.unwrap();
    connection.close().await.unwrap();
}
