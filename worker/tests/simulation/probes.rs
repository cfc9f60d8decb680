//! Messages of a drill's probe beside those of users: neither can disturb the other.

use std::sync::atomic::Ordering;

use durable_write_crds::probe::{ProbeBody, ProbeMark};

use super::*;

const DRILL: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

/// Of a drill that is long over: its messages are written all the same.
const OVER: i64 = 1;

fn mark(seq: i64, expires: i64) -> (String, String) {
    let mark = ProbeMark { drill: DRILL.to_owned(), seq, expires };
    (mark.attribute(), serde_json::to_string(&ProbeBody { durable_write_probe: mark }).unwrap())
}

/// When a drill is over that is so for so many seconds more.
fn over_in(seconds: i64) -> i64 {
    jiff::Timestamp::now().as_second() + seconds
}

/// Sends messages of a probe, in groups of its own.
fn send_probes(queue: &ModelQueue, range: std::ops::RangeInclusive<i64>, expires: i64) {
    for seq in range {
        let (attribute, body) = mark(seq, expires);
        queue.send_marked(&format!("p{seq}"), &format!("durable-write/{DRILL}/{}", seq % 8), &body, &attribute);
    }
}

/// Waits until all of these users' messages are rows.
async fn until_written(database: &ModelDatabase, count: usize, within: Duration, what: &str) {
    let started = Instant::now();
    while database.rows().len() < count {
        assert!(started.elapsed() < within, "{what}: users wait for the probe's tables");
        sleep(Duration::from_millis(20)).await;
    }
}

fn assert_probes(database: &ModelDatabase, count: i64, what: &str) {
    let probes = database.probes();
    assert!((1..=count).all(|seq| probes.get(&(DRILL.to_owned(), seq)) == Some(&1)), "{what}: a probe's message is not written");
    assert_eq!(i64::try_from(probes.len()), Ok(count), "{what}");
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_probes_and_users_are_written_side_by_side_each_to_its_own_table() {
    for seed in 0..60 {
        for fifo in [false, true] {
            let what = format!("seed {seed}, fifo {fifo}");
            let (queue, database) = (ModelQueue::new(fifo, seed), ModelDatabase::new(seed));
            let mut random = StdRng::seed_from_u64(seed);
            *queue.faults.lock().unwrap() = Faults { lost_reply: 0.05, refused: 0.05, entry: 0.02 };
            *database.lost_reply.lock().unwrap() = 0.05;
            let sent = send(&queue, 200, 7, 40);
            send_probes(&queue, 1..=100, OVER);
            send_probes(&queue, 101..=200, over_in(3600));
            let workers = [Worker::start(fifo, &queue, &database), Worker::start(fifo, &queue, &database)];
            for _ in 0..3 {
                sleep(Duration::from_millis(random.random_range(10..2000))).await;
                let fault = if random.random_bool(0.5) { Writer::Down } else { Writer::Hung };
                database.set(fault);
                sleep(Duration::from_millis(random.random_range(10..5000))).await;
                database.set(Writer::Up);
            }
            *queue.faults.lock().unwrap() = Faults::default();
            *database.lost_reply.lock().unwrap() = 0.0;
            until_empty(&queue).await;
            check(&sent, &queue, &database, fifo, &what);
            assert_probes(&database, 200, &what);
            for worker in workers {
                worker.stop().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_probes_tables_messages_of_a_drill_that_is_over_are_deleted_and_users_do_not_wait() {
    for (class, sqlstate) in [(Class::Catalogue, "42P01"), (Class::Ambiguous, "42501"), (Class::Retry, "55P03")] {
        let (queue, database) = (ModelQueue::new(true, 1), ModelDatabase::new(1));
        database.set_probe_fault(Some((class, sqlstate)));
        let mut worker = Worker::start(true, &queue, &database);
        worker.until("flow", |state| state.flowing.status == Some(true)).await;
        send_probes(&queue, 1..=100, OVER);
        let sent = send(&queue, 100, 7, 0);
        let started = Instant::now();
        until_written(&database, sent.len(), Duration::from_secs(2), sqlstate).await;
        until_empty(&queue).await;
        assert!(started.elapsed() < Duration::from_secs(30), "{sqlstate}: {:?}", started.elapsed());
        assert_eq!((database.probes().len(), queue.dead().len()), (0, 0));
        assert_eq!(worker.state.borrow().as_ref().unwrap().flowing.status, Some(true), "{sqlstate}");

        database.set_probe_fault(None);
        send_probes(&queue, 1..=10, OVER);
        until_empty(&queue).await;
        assert_probes(&database, 10, sqlstate);
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_drill_lasts_its_messages_are_held_until_they_can_be_written_and_users_do_not_wait() {
    for fifo in [false, true] {
        let (queue, database) = (ModelQueue::new(fifo, 1), ModelDatabase::new(1));
        database.set_probe_fault(Some((Class::Retry, "55P03")));
        let worker = Worker::start(fifo, &queue, &database);
        send_probes(&queue, 1..=60, over_in(3600));
        let sent = send(&queue, 500, 7, 40);
        until_written(&database, sent.iter().filter(|(_, _, bad)| !bad).count(), Duration::from_secs(3), "held").await;
        sleep(Duration::from_secs(300)).await;
        database.set_probe_fault(None);
        let started = Instant::now();
        until_empty(&queue).await;
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
        assert_probes(&database, 60, "held");
        check(&sent, &queue, &database, fifo, "held");
        assert_eq!(queue.most_receives(), 1, "holding spends no receives");
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_messages_that_cannot_be_written_only_so_many_are_held_and_none_beyond_the_end_of_the_drill() {
    let (queue, database) = (ModelQueue::new(false, 1), ModelDatabase::new(1));
    database.set_probe_fault(Some((Class::Catalogue, "42P01")));
    let worker = Worker::start(false, &queue, &database);
    send_probes(&queue, 1..=1000, over_in(600));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(queue.len(), 200, "four batches are held, of the others the oldest are deleted");
    let sent = send(&queue, 300, 7, 0);
    until_written(&database, sent.len(), Duration::from_secs(3), "crowded").await;
    sleep(Duration::from_secs(520)).await;
    assert_eq!(queue.len(), 200);
    sleep(Duration::from_secs(60)).await;
    assert_eq!((queue.len(), queue.dead().len()), (0, 0), "the drill is over");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_ends_gives_back_the_messages_of_a_probe_that_it_cannot_write() {
    let (queue, database) = (ModelQueue::new(true, 1), ModelDatabase::new(1));
    database.set_probe_fault(Some((Class::Ambiguous, "42501")));
    let worker = Worker::start(true, &queue, &database);
    send_probes(&queue, 1..=40, over_in(3600));
    sleep(Duration::from_secs(30)).await;
    let started = Instant::now();
    worker.stop().await;
    assert!(started.elapsed() < Duration::from_secs(25), "the drain takes {:?}", started.elapsed());
    database.set_probe_fault(None);
    let worker = Worker::start(true, &queue, &database);
    let started = Instant::now();
    until_empty(&queue).await;
    assert!(started.elapsed() < Duration::from_secs(10), "they are free at once: {:?}", started.elapsed());
    assert_probes(&database, 40, "after the drain");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_marker_that_the_body_does_not_bear_out_is_a_users_message() {
    let (queue, database) = (ModelQueue::new(true, 1), ModelDatabase::new(1));
    let (attribute, body) = mark(1, OVER);
    queue.send_marked("copied", "a", r#"{"id": "copied"}"#, &attribute);
    queue.send_marked("other", "b", &body, &mark(2, OVER).0);
    queue.send("bare", "c", &body);
    let worker = Worker::start(true, &queue, &database);
    until_empty(&queue).await;
    assert_eq!(database.order(), ["\"copied\""]);
    assert_eq!(database.probes().len(), 0);
    assert!(queue.dead().contains_key("other") && queue.dead().contains_key("bare"), "they have no key: {:?}", queue.dead());
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn counters_of_users_do_not_count_probes_and_a_queue_of_probes_alone_flows() {
    let (queue, database) = (ModelQueue::new(false, 1), ModelDatabase::new(1));
    let mut worker = Worker::start(false, &queue, &database);
    send_probes(&queue, 1..=400, OVER);
    send_probes(&queue, 1..=400, OVER);
    until_empty(&queue).await;
    assert_probes(&database, 400, "sent twice");
    worker.until("flow", |state| state.flowing.status == Some(true) && state.flowing.reason == "AsExpected").await;
    let counters = worker.state.borrow().as_ref().unwrap().counters;
    assert_eq!((counters.received, counters.written, counters.duplicates, counters.acknowledged, counters.held), (0, 0, 0, 0, 0));
    worker.stop().await;
}

/// P6 holds for a queue of probes alone: a hung statement of theirs lets the writer be sought.
#[tokio::test(start_paused = true)]
async fn with_probes_alone_a_new_writer_is_found_at_once() {
    for fault in [Writer::Hung, Writer::Down] {
        let (queue, database) = (ModelQueue::new(false, 1), ModelDatabase::new(1));
        send_probes(&queue, 1..=300, OVER);
        let worker = Worker::start(false, &queue, &database);
        while database.probes().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        let before = database.probes().len();
        database.set(fault);
        sleep(Duration::from_secs(7)).await;
        let back = Instant::now();
        database.set(Writer::Up);
        while database.probes().len() == before {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(back.elapsed() <= Duration::from_millis(130), "{fault:?}: first commit {:?} after the writer was back", back.elapsed());
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn probes_and_users_together_take_no_more_connections_than_the_pipeline_may_have() {
    for connections in [1, 2, 4] {
        let (queue, database) = (ModelQueue::new(false, 1), ModelDatabase::new(1));
        database.most_open.store(connections, Ordering::Relaxed);
        let mut spec = spec(false);
        spec.workers.connections = i32::try_from(connections).unwrap();
        let worker = Worker::start_with(&spec, &queue, &database);
        let mut seq = 0;
        for round in 0..100 {
            for number in 0..60 {
                queue.send(&format!("u{round}-{number}"), "g", &body(&format!("u{round}-{number}")));
            }
            send_probes(&queue, seq + 1..=seq + 10, over_in(3600));
            seq += 10;
            sleep(Duration::from_millis(20)).await;
        }
        let started = Instant::now();
        until_empty(&queue).await;
        assert!(started.elapsed() < Duration::from_secs(20), "{connections} connections: {:?}", started.elapsed());
        assert_probes(&database, seq, "all at once");
        assert_eq!(worker.state.borrow().as_ref().unwrap().counters.outages, 0, "{connections} connections");
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_finds_no_room_for_a_connection_is_no_outage() {
    let (queue, database) = (ModelQueue::new(false, 1), ModelDatabase::new(1));
    let mut worker = Worker::start(false, &queue, &database);
    send(&queue, 10, 1, 0);
    worker.until("flow", |state| state.flowing.status == Some(true)).await;
    database.most_open.store(0, Ordering::Relaxed);
    database.set_probe_fault(Some((Class::Reconnect, "40003")));
    send_probes(&queue, 1..=10, over_in(3600));
    sleep(Duration::from_secs(1)).await;
    database.set_probe_fault(None);
    until_empty(&queue).await;
    assert_probes(&database, 10, "on the connection that found the writer");
    worker.until("a later state", |state| state.counters.acknowledged == 10).await;
    assert_eq!(worker.state.borrow().as_ref().unwrap().counters.outages, 0);
    worker.stop().await;
}
