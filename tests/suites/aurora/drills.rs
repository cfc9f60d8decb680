//! What failovers do that a drill must notice, through `FailoverDBCluster` and the endpoints.

use std::time::Duration;

use aws_sdk_rds::types::SourceType;
use durable_write_testbed::aurora::{Aurora, AuroraOptions, Behaviour, EventId, Fault, Outcome, Telling, Timing};
use jiff::{SignedDuration, Timestamp};
use sqlx::Executor;
use tokio::time::timeout;

use super::support::{ask_admin, available, call, client, connect, describe, eventually, messages, pair, start, write, writer};

const STARTED: &str = "Started cross AZ failover to DB instance: orders-2";
const COMPLETED: &str = "Completed failover to DB instance: orders-2";

/// A cluster of two that behaves so.
async fn behaving(behaviour: Behaviour) -> Aurora {
    let aurora = pair().await;
    aurora.set_behaviour(behaviour);
    aurora
}

#[tokio::test]
async fn a_call_can_kill_or_hang_the_writer_for_a_chosen_time() {
    let outage = Duration::from_millis(1200);
    let aurora = behaving(Behaviour::default()).await;
    let client = client(&aurora);
    for (fault, from, to) in [(Fault::WriterKilled, "orders-1", "orders-2"), (Fault::WriterHangs, "orders-2", "orders-1")] {
        aurora.set_behaviour(Behaviour { fault, outage, ..Behaviour::default() });
        call(&client, to).await.unwrap();
        let old = aurora.instances().into_iter().find(|instance| instance.name == from).unwrap().endpoint;
        eventually("the old writer accepts no write", async || {
            !timeout(Duration::from_millis(200), write(&aurora, &old)).await.is_ok_and(|done| done.is_ok())
        })
        .await;
        available(&client).await;
        let failover = aurora.timeline().pop().unwrap();
        assert_eq!((failover.fault, failover.called, failover.to.as_deref()), (fault, true, Some(to)));
        let gap = failover.truth.unwrap().gap;
        assert!((outage..outage + Duration::from_secs(5)).contains(&gap), "{fault:?}: {gap:?}");
    }
}

#[tokio::test]
async fn the_old_writer_can_be_promoted_again() {
    let aurora = start(Timing::default()).await;
    let client = client(&aurora);
    connect(&aurora, &aurora.cluster_endpoint()).await.unwrap().execute("CREATE TABLE rows (id int)").await.unwrap();
    let courses = [
        (Fault::Planned, Outcome::PreviousWriter, "Promoting previous primary again: orders-1"),
        (Fault::WriterHangs, Outcome::PreviousWriter, "Promoting previous primary again: orders-1"),
        (Fault::WriterTurnsReader, Outcome::Fails, "Cluster failover failed, check the health of your cluster instances and try again."),
    ];
    for (fault, outcome, message) in courses {
        let outage = Duration::from_millis(500);
        aurora.set_behaviour(Behaviour { fault, outcome, outage, ..Behaviour::default() });
        let told = messages(&client).await.len();
        call(&client, "orders-2").await.unwrap();
        available(&client).await;
        assert_eq!(writer(&describe(&client).await), "orders-1");
        assert_eq!(messages(&client).await[told..], [STARTED, message]);
        let failover = aurora.timeline().pop().unwrap();
        assert_eq!(failover.to.as_deref(), Some("orders-1"));
        assert!(failover.truth.unwrap().gap >= outage, "{fault:?}: {failover:?}");
        // Every reader follows it still.
        connect(&aurora, &aurora.cluster_endpoint()).await.unwrap().execute("INSERT INTO rows VALUES (1)").await.unwrap();
        let count = ask_admin(aurora.admin_options().unwrap(), "SELECT count(*)::text FROM rows").await;
        for instance in aurora.instances() {
            let admin = aurora.instance_admin_options(&instance.name).unwrap();
            eventually("all have the row", async || ask_admin(admin.clone(), "SELECT count(*)::text FROM rows").await == count).await;
        }
    }
    aurora.set_behaviour(Behaviour::default());
    call(&client, "orders-2").await.unwrap();
    available(&client).await;
    assert_eq!(writer(&describe(&client).await), "orders-2", "the next failover is an ordinary one");
}

#[tokio::test]
async fn an_accepted_call_may_begin_nothing() {
    let aurora = behaving(Behaviour { outcome: Outcome::NeverBegins, ..Behaviour::default() }).await;
    let client = client(&aurora);
    let answer = call(&client, "orders-2").await.unwrap();
    assert_eq!(answer.db_cluster().unwrap().status(), Some("available"));
    let calls = aurora.failover_calls();
    assert_eq!((calls.received, calls.took_effect), (1, 0));
    write(&aurora, &aurora.cluster_endpoint()).await.unwrap();
    assert_eq!(writer(&describe(&client).await), "orders-1");
    assert!(messages(&client).await.is_empty());
    aurora.fault(Fault::WriterKilled).await.expect("what a test places takes place");
}

#[tokio::test]
async fn a_new_writer_can_flap() {
    let aurora = behaving(Behaviour { flapping: Duration::from_secs(2), ..Behaviour::default() }).await;
    let endpoint = aurora.instances()[1].endpoint.clone();
    let observe = async {
        eventually("the first write", async || aurora.timeline().first().is_some_and(|failover| failover.writable.is_some())).await;
        let (mut connection, mut seen) = (connect(&aurora, &endpoint).await.unwrap(), Vec::new());
        while aurora.timeline()[0].steady.is_none() {
            let write = connection.execute("CREATE TEMPORARY TABLE t (id int); DROP TABLE t").await;
            seen.push(write.map_or_else(|error| error.as_database_error().unwrap().code().unwrap().into_owned(), |_| "good".to_owned()));
            seen.dedup();
        }
        seen
    };
    let (failover, seen) = tokio::join!(aurora.fail_over(Some("orders-2")), observe);
    assert!(seen.iter().all(|write| ["good", "25006"].contains(&write.as_str())), "{seen:?}");
    assert!(seen.len() >= 4, "good and refused writes should interleave: {seen:?}");
    let failover = failover.unwrap();
    let flapped = Duration::try_from(failover.steady.unwrap().duration_since(failover.writable.unwrap())).unwrap();
    assert!(flapped >= Duration::from_secs(2), "{flapped:?}");
    for _ in 0..5 {
        write(&aurora, &endpoint).await.unwrap();
    }
}

#[tokio::test]
async fn events_can_be_missing_doubled_or_late() {
    let aurora = behaving(Behaviour::default()).await;
    let client = client(&aurora);
    let told = async |telling: Telling, target: &str| {
        aurora.set_behaviour(Behaviour { telling, ..Behaviour::default() });
        let before = messages(&client).await.len();
        aurora.fail_over(Some(target)).await.unwrap();
        messages(&client).await.split_off(before)
    };
    assert!(told(Telling { copies: 0, ..Telling::default() }, "orders-2").await.is_empty());
    aurora.fail_over(Some("orders-1")).await.unwrap();
    assert_eq!(told(Telling { copies: 2, ..Telling::default() }, "orders-2").await, [STARTED, STARTED, COMPLETED, COMPLETED]);
    aurora.fail_over(Some("orders-1")).await.unwrap();
    let only_start = Telling { leave_out: vec![EventId::Completed], ..Telling::default() };
    assert_eq!(told(only_start, "orders-2").await, [STARTED]);

    // An event has its own time, however late it is told.
    let delay = Duration::from_secs(2);
    aurora.set_behaviour(Behaviour { telling: Telling { delay, ..Telling::default() }, ..Behaviour::default() });
    let before = messages(&client).await.len();
    let (failover, ()) = tokio::join!(aurora.fail_over(Some("orders-1")), async {
        eventually("the late event is told", async || messages(&client).await.len() > before).await;
        let events = client.describe_events().source_type(SourceType::DbCluster).send().await.unwrap();
        let date = events.events()[before].date().unwrap().to_millis().unwrap();
        let late = Timestamp::now().as_millisecond() - date;
        assert!(late >= 2000, "told {late} ms after its time");
    });
    failover.unwrap();
}

/// The cluster events of the failover category in the table of the user guide of Aurora.
#[test]
fn events_have_the_documented_ids_and_texts() {
    let documented = [
        (EventId::Failed, "0069", "Cluster failover failed, check the health of your cluster instances and try again."),
        (EventId::PreviousWriterPromoted, "0070", "Promoting previous primary again: name"),
        (EventId::Completed, "0071", "Completed failover to DB instance: name"),
        (EventId::StartedInSameZone, "0072", "Started same AZ failover to DB instance: name"),
        (EventId::StartedAcrossZones, "0073", "Started cross AZ failover to DB instance: name"),
    ];
    for (event, number, message) in documented {
        assert_eq!((event.id(), event.message("name")), (format!("RDS-EVENT-{number}").as_str(), message.to_owned()));
    }
}

#[tokio::test]
async fn a_failover_within_a_zone_has_its_own_event_and_any_event_can_be_planted() {
    let aurora = Aurora::start(AuroraOptions { zones: 1, instances: 2, ..AuroraOptions::default() }).await.unwrap();
    let client = client(&aurora);
    let zones = client.describe_db_instances().send().await.unwrap();
    assert!(zones.db_instances().iter().all(|instance| instance.availability_zone() == Some("eu-west-1a")));
    aurora.fail_over(None).await.unwrap();
    assert_eq!(messages(&client).await, ["Started same AZ failover to DB instance: orders-2", COMPLETED]);

    let hour_ago = Timestamp::now() - SignedDuration::from_mins(90);
    aurora.plant_event(EventId::StartedAcrossZones, "orders-9", hour_ago);
    assert_eq!(messages(&client).await.len(), 2, "by default only the last hour is told");
    let since = aws_smithy_types::DateTime::from_secs((hour_ago - SignedDuration::from_secs(1)).as_second());
    let events = client.describe_events().start_time(since).send().await.unwrap();
    assert_eq!(events.events()[0].message(), Some("Started cross AZ failover to DB instance: orders-9"));
    let until = aws_smithy_types::DateTime::from_secs((hour_ago + SignedDuration::from_secs(60)).as_second());
    let events = client.describe_events().start_time(since).end_time(until).send().await.unwrap();
    assert_eq!(events.events().len(), 1);
}

#[tokio::test]
async fn somebody_elses_failover_is_told_and_not_counted_as_a_call() {
    let aurora = behaving(Behaviour::default()).await;
    let client = client(&aurora);
    aurora.fail_over(Some("orders-2")).await.unwrap();
    assert_eq!(messages(&client).await, [STARTED, COMPLETED]);
    let calls = aurora.failover_calls();
    assert_eq!((calls.received, calls.took_effect, aurora.timeline().len()), (0, 0, 1));
    // And while one is in progress, a call is refused.
    aurora.set_behaviour(Behaviour { outage: Duration::from_millis(500), ..Behaviour::default() });
    let (_, refused) = tokio::join!(aurora.fault(Fault::WriterKilled), async {
        eventually("it has begun", async || aurora.timeline().len() == 2).await;
        call(&client, "orders-2").await
    });
    let refused = refused.unwrap_err().into_service_error();
    assert!(refused.is_invalid_db_cluster_state_fault(), "{refused:?}");
    assert_eq!((aurora.failover_calls().received, aurora.failover_calls().took_effect), (1, 0));
}
