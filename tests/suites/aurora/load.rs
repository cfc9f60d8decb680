//! No acknowledged commit is lost.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use durable_write_testbed::aurora::{Aurora, Fault, Timing};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use tokio::time::{sleep, timeout};

use super::support::{ask_admin, eventually, start};

const WRITERS: usize = 4;
const KINDS: [Fault; 4] = [Fault::WriterKilled, Fault::Planned, Fault::WriterHangs, Fault::WriterTurnsReader];

#[tokio::test(flavor = "multi_thread")]
async fn ten_failovers_under_load_lose_no_acknowledged_commit() {
    failovers_under_load(10).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes 1 to 3 minutes; a part of the soak"]
async fn thirty_failovers_under_load_lose_no_acknowledged_commit() {
    failovers_under_load(30).await;
}

async fn failovers_under_load(count: usize) {
    let aurora = start(Timing { rejoin: Duration::from_millis(300), ..Timing::default() }).await;
    let mut admin = aurora.admin_options().unwrap().connect().await.unwrap();
    admin.execute("CREATE TABLE load (id bigint PRIMARY KEY, written_by text DEFAULT aurora_db_instance_identifier())").await.unwrap();
    admin.close().await.unwrap();

    let (next, stop) = (AtomicI64::new(0), AtomicBool::new(false));
    let options = aurora.client_options(&aurora.cluster_endpoint()).unwrap().disable_statement_logging();
    let writers = futures::future::join_all((0..WRITERS).map(|_| write(options.clone(), &next, &stop)));
    let drive = async {
        for fault in KINDS.into_iter().cycle().take(count) {
            let target = next.load(Ordering::Relaxed) + 200;
            eventually("writes go on", async || next.load(Ordering::Relaxed) > target).await;
            // By itself Aurora never promotes the last one.
            let failover = match fault {
                Fault::Planned => {
                    aurora.fail_over(Some(&aurora.instances().into_iter().rfind(|instance| !instance.writer).unwrap().name)).await
                }
                fault => aurora.fault(fault).await,
            }
            .unwrap();
            let rejoined = failover.rejoined.unwrap().duration_since(failover.stopped);
            eprintln!(
                "{fault:?}: {} to {}, no writes for {:?}, all over after {rejoined:.3}",
                failover.from,
                failover.to.clone().unwrap(),
                failover.outage().unwrap()
            );
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (results, ()) = tokio::join!(writers, drive);

    let acknowledged: Vec<(i64, Instant)> = results.into_iter().flatten().collect();
    report_gaps(&acknowledged, count);
    assert_nothing_lost(&aurora, &acknowledged).await;
}

/// Writes one id after the other, each until it is acknowledged, and returns all with the time of the acknowledgement.
async fn write(options: PgConnectOptions, next: &AtomicI64, stop: &AtomicBool) -> Vec<(i64, Instant)> {
    let (mut acknowledged, mut connection) = (Vec::new(), None);
    while !stop.load(Ordering::Relaxed) {
        let id = next.fetch_add(1, Ordering::Relaxed);
        while insert(&options, &mut connection, id).await.is_none() {
            // The fate of the attempt is unknown. Dropped, not closed: nothing may be sent that could end a wait for readers.
            connection = None;
            sleep(Duration::from_millis(10)).await;
        }
        acknowledged.push((id, Instant::now()));
    }
    acknowledged
}

async fn insert(options: &PgConnectOptions, connection: &mut Option<PgConnection>, id: i64) -> Option<()> {
    timeout(Duration::from_secs(1), async {
        if connection.is_none() {
            *connection = Some(options.connect().await.ok()?);
        }
        let insert = sqlx::query("INSERT INTO load (id) VALUES ($1) ON CONFLICT DO NOTHING").bind(id);
        insert.execute(connection.as_mut()?).await.ok().map(drop)
    })
    .await
    .ok()?
}

fn report_gaps(acknowledged: &[(i64, Instant)], count: usize) {
    let mut times: Vec<Instant> = acknowledged.iter().map(|(_, at)| *at).collect();
    times.sort_unstable();
    let mut gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    gaps.truncate(count);
    eprintln!("{} ids acknowledged; write gaps as clients saw them: median {:?}, longest {:?}", times.len(), gaps[count / 2], gaps[0]);
}

async fn assert_nothing_lost(aurora: &Aurora, acknowledged: &[(i64, Instant)]) {
    let mut admin = aurora.admin_options().unwrap().connect().await.unwrap();
    let rows: Vec<i64> = sqlx::query_scalar("SELECT id FROM load").fetch_all(&mut admin).await.unwrap();
    let by: Vec<(String, i64)> =
        sqlx::query_as("SELECT written_by, count(*) FROM load GROUP BY 1 ORDER BY 1").fetch_all(&mut admin).await.unwrap();
    eprintln!("rows by the instance that wrote them: {by:?}");
    admin.close().await.unwrap();

    let present: HashSet<i64> = rows.iter().copied().collect();
    let lost: Vec<i64> = acknowledged.iter().map(|(id, _)| *id).filter(|id| !present.contains(id)).collect();
    assert!(lost.is_empty(), "{} acknowledged ids are missing: {lost:?}", lost.len());
    for instance in aurora.instances() {
        let options = aurora.instance_admin_options(&instance.name).unwrap();
        let count = rows.len().to_string();
        eventually("every instance has the same rows", async || {
            ask_admin(options.clone(), "SELECT count(*)::text FROM load").await == count
        })
        .await;
    }
}
