//! The real loop over models of SQS and of a failing database, with a paused clock and seeded faults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod database;
mod probes;
mod queue;

use std::collections::HashMap;
use std::time::Duration;

use database::{ModelDatabase, Writer};
use durable_write_crds::DurableWritePipelineSpec;
use durable_write_crds::wire::WorkerState;
use durable_write_worker::decode::Decoder;
use durable_write_worker::engine::{Engine, Settings};
use durable_write_worker::run::run;
use durable_write_worker::sink::Class;
use queue::{Faults, ModelQueue};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

fn spec(fifo: bool) -> DurableWritePipelineSpec {
    let queue = if fifo { "orders.fifo" } else { "orders" };
    serde_json::from_value(serde_json::json!({
        "queue": {"name": queue},
        "database": {"postgres": {"writer": "localhost:5432"}, "name": "shop", "credentials": {"secretRef": {"name": "db"}}},
        "target": {"table": {"name": "orders"}, "columns": [{"name": "id", "from": {"body": "/id"}}]},
        "idempotency": {"targetKey": {"columns": ["id"]}},
        "batching": {"maxRows": 50},
    }))
    .unwrap()
}

struct Worker {
    stop: Option<oneshot::Sender<()>>,
    state: watch::Receiver<Option<WorkerState>>,
    task: JoinHandle<()>,
}

impl Worker {
    fn start(fifo: bool, queue: &ModelQueue, database: &ModelDatabase) -> Self {
        Self::start_with(&spec(fifo), queue, database)
    }

    fn start_with(spec: &DurableWritePipelineSpec, queue: &ModelQueue, database: &ModelDatabase) -> Self {
        let engine = Engine::new(Settings::new(spec), Decoder::new(spec), Instant::now());
        let (stop, stopped) = oneshot::channel::<()>();
        let (send, state) = watch::channel(None);
        let task = tokio::spawn(run(engine, queue.clone(), database.clone(), send, async {
            stopped.await.ok();
        }));
        Self { stop: Some(stop), state, task }
    }

    /// As a pod that is deleted: drained.
    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).ok();
        timeout(Duration::from_secs(65), &mut self.task).await.expect("a drain ends within its deadline").unwrap();
    }

    /// As a node that is lost: nothing is said to anybody.
    fn kill(self) {
        self.task.abort();
    }

    async fn until(&mut self, what: &str, is: impl Fn(&WorkerState) -> bool) {
        let wait = self.state.wait_for(|state| state.as_ref().is_some_and(&is));
        timeout(Duration::from_secs(120), wait).await.unwrap_or_else(|_| panic!("never seen: {what}")).unwrap();
    }
}

fn body(id: &str) -> String {
    format!(r#"{{"id": "{id}"}}"#)
}

async fn until_empty(queue: &ModelQueue) {
    let wait = async {
        while !queue.is_empty() {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(Duration::from_secs(3600), wait).await.expect("the queue never became empty");
}

/// Sends messages of a few groups, some of them bad. Their ids, in the order of sending, and which are bad.
fn send(queue: &ModelQueue, count: usize, groups: usize, bad_every: usize) -> Vec<(String, usize, bool)> {
    (0..count)
        .map(|number| {
            let (id, group) = (format!("m{number:05}"), number % groups);
            let bad = bad_every > 0 && number % bad_every == bad_every / 2;
            let body = if bad { format!(r#"{{"id": "{id}", "kind": "bad"}}"#) } else { body(&id) };
            queue.send(&id, &format!("g{group}"), &body);
            (id, group, bad)
        })
        .collect()
}

/// P1, P2 and P3 of everything that was sent.
fn check(sent: &[(String, usize, bool)], queue: &ModelQueue, database: &ModelDatabase, fifo: bool, what: &str) {
    let (rows, dead) = (database.rows(), queue.dead());
    for (id, _, bad) in sent {
        let written = rows.contains_key(&format!("\"{id}\""));
        assert_eq!(written, !bad, "{what}: {id} is {} in the table", if written { "" } else { "not" });
        assert_eq!(dead.contains_key(id), *bad, "{what}: {id} in the dead-letter queue");
    }
    assert_eq!(rows.len() + dead.len(), sent.len(), "{what}");
    if fifo {
        let place: HashMap<String, usize> = database.order().into_iter().enumerate().map(|(place, key)| (key, place)).collect();
        let mut last: HashMap<usize, usize> = HashMap::new();
        for (id, group, _) in sent.iter().filter(|(_, _, bad)| !bad) {
            let place = place[&format!("\"{id}\"")];
            assert!(last.insert(*group, place).is_none_or(|last| last < place), "{what}: {id} was overtaken in group {group}");
        }
    }
}

async fn chaos(seed: u64, fifo: bool) {
    let what = format!("seed {seed}, fifo {fifo}");
    let mut random = StdRng::seed_from_u64(seed);
    let (queue, database) = (ModelQueue::new(fifo, seed), ModelDatabase::new(seed));
    let sent = send(&queue, 400, 7, 40);
    *queue.faults.lock().unwrap() = Faults { lost_reply: 0.05, refused: 0.05, entry: 0.02 };
    *database.lost_reply.lock().unwrap() = 0.05;
    let mut workers = vec![Worker::start(fifo, &queue, &database), Worker::start(fifo, &queue, &database)];
    for _ in 0..random.random_range(3..8) {
        sleep(Duration::from_millis(random.random_range(10..3000))).await;
        match random.random_range(0..5) {
            0 => database.set(Writer::Down),
            1 => database.set(Writer::Hung),
            2 => database.set(Writer::Up),
            3 => {
                workers.remove(0).kill();
                workers.push(Worker::start(fifo, &queue, &database));
            }
            _ => {
                let worker = workers.remove(0);
                tokio::spawn(worker.stop());
                workers.push(Worker::start(fifo, &queue, &database));
            }
        }
    }
    database.set(Writer::Up);
    *queue.faults.lock().unwrap() = Faults::default();
    *database.lost_reply.lock().unwrap() = 0.0;
    until_empty(&queue).await;
    check(&sent, &queue, &database, fifo, &what);
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_each_message_of_a_standard_queue_is_one_row_or_dead_lettered() {
    for seed in 0..100 {
        chaos(seed, false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_each_group_of_a_fifo_queue_is_written_in_order() {
    for seed in 0..100 {
        chaos(seed, true).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_spends_one_receive_and_restarts_in_it_spend_none() {
    let (queue, database) = (ModelQueue::new(false, 1), ModelDatabase::new(1));
    let sent = send(&queue, 300, 1, 0);
    let mut worker = Worker::start(false, &queue, &database);
    sleep(Duration::from_millis(30)).await;
    database.set(Writer::Down);
    worker.until("the outage", |state| state.flowing.reason == "DatabaseOutage").await;
    for _ in 0..10 {
        sleep(Duration::from_secs(60)).await;
        worker.stop().await;
        worker = Worker::start(false, &queue, &database);
    }
    database.set(Writer::Up);
    until_empty(&queue).await;
    check(&sent, &queue, &database, false, "outage");
    assert!(queue.most_receives() <= 2, "{} receives of one message", queue.most_receives());
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn messages_held_through_an_outage_are_not_received_again() {
    let (queue, database) = (ModelQueue::new(true, 1), ModelDatabase::new(1));
    let sent = send(&queue, 300, 5, 0);
    let worker = Worker::start(true, &queue, &database);
    sleep(Duration::from_millis(30)).await;
    database.set(Writer::Hung);
    sleep(Duration::from_secs(600)).await;
    database.set(Writer::Up);
    until_empty(&queue).await;
    check(&sent, &queue, &database, true, "hold");
    assert_eq!(queue.most_receives(), 1);
    worker.stop().await;
}

/// P6: the statement that hangs is not waited for; the connection that finds the new writer carries the first batch.
#[tokio::test(start_paused = true)]
async fn a_writer_that_hangs_is_left_as_soon_as_another_accepts_writes() {
    for fault in [Writer::Hung, Writer::Down] {
        let (queue, database) = (ModelQueue::new(false, 1), ModelDatabase::new(1));
        send(&queue, 300, 1, 0);
        let worker = Worker::start(false, &queue, &database);
        while database.rows().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        let before = database.rows().len();
        database.set(fault);
        sleep(Duration::from_secs(7)).await;
        let back = Instant::now();
        database.set(Writer::Up);
        while database.rows().len() == before {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(back.elapsed() <= Duration::from_millis(120), "{fault:?}: first commit {:?} after the writer was back", back.elapsed());
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_fault_dead_letters_nothing_and_mends_itself() {
    for (class, sqlstate) in
        [(Class::RowFault, "23502"), (Class::HoldThenRowFault, "23514"), (Class::Ambiguous, "42501"), (Class::Catalogue, "42P01")]
    {
        let (queue, database) = (ModelQueue::new(false, 1), ModelDatabase::new(1));
        // No more than a worker holds of messages that fail.
        let sent = send(&queue, 150, 1, 0);
        database.set_fault(Some((class, sqlstate)));
        let mut worker = Worker::start(false, &queue, &database);
        worker.until(sqlstate, |state| state.flowing.status == Some(false) && state.stalled.status == Some(true)).await;
        sleep(Duration::from_secs(3600)).await;
        assert!(queue.dead().len() < 20, "{sqlstate}: {} dead letters", queue.dead().len());
        assert_eq!(queue.most_receives(), 1, "{sqlstate}: a fault that lasts must not use up the receives");
        let dead = queue.dead().len();
        database.set_fault(None);
        worker.until("flow", |state| state.flowing.status == Some(true)).await;
        until_empty(&queue).await;
        assert_eq!(database.rows().len() + dead, sent.len());
        if class != Class::RowFault {
            assert_eq!(dead, 0, "{sqlstate}");
        }
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_message_that_a_trigger_refuses_does_not_stop_the_others() {
    let (queue, database) = (ModelQueue::new(false, 1), ModelDatabase::new(1));
    queue.send("r", "g", r#"{"id": "r", "kind": "raise"}"#);
    let mut worker = Worker::start(false, &queue, &database);
    sleep(Duration::from_secs(5)).await;
    let sent = send(&queue, 100, 1, 0);
    until_empty(&queue).await;
    assert_eq!(queue.dead(), HashMap::from([("r".to_owned(), "P0001".to_owned())]));
    assert_eq!(database.rows().len(), sent.len());
    worker.until("flow", |state| state.flowing.status == Some(true)).await;
    worker.stop().await;
}

/// Messages that lack a partition, and behind them others, which are written within this time.
async fn others_pass(homeless: usize, within: Duration) -> (ModelQueue, ModelDatabase, Worker) {
    let (queue, database) = (ModelQueue::new(false, 1), ModelDatabase::new(1));
    for number in 0..homeless {
        queue.send(&format!("h{number}"), "g", &format!(r#"{{"id": "h{number}", "kind": "homeless"}}"#));
    }
    let mut worker = Worker::start(false, &queue, &database);
    worker.until("that nothing can be written", |state| state.flowing.reason == "StatementFailed").await;
    let sent = send(&queue, 100, 1, 0);
    let written = async {
        while database.rows().len() < sent.len() {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(within, written).await.expect("the others do not pass");
    (queue, database, worker)
}

#[tokio::test(start_paused = true)]
async fn however_many_messages_lack_a_partition_the_others_pass_and_none_is_dead_lettered() {
    let (queue, database, worker) = others_pass(150, Duration::from_secs(60)).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(queue.dead(), HashMap::new());
    database.add_partition();
    until_empty(&queue).await;
    assert_eq!((database.rows().len(), queue.most_receives()), (250, 1));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn more_messages_without_a_partition_than_a_worker_holds_do_not_keep_others_away_for_good() {
    let (queue, database, worker) = others_pass(250, Duration::from_secs(3600)).await;
    database.add_partition();
    until_empty(&queue).await;
    assert_eq!(database.rows().len() + queue.dead().len(), 350);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_gives_back_a_held_message_with_all_that_is_behind_it_in_its_group() {
    let (queue, database) = (ModelQueue::new(true, 1), ModelDatabase::new(1));
    queue.send("h", "a", r#"{"id": "h", "kind": "homeless"}"#);
    queue.send("behind", "a", &body("behind"));
    queue.send("other", "b", &body("other"));
    let worker = Worker::start(true, &queue, &database);
    sleep(Duration::from_secs(2)).await;
    worker.stop().await;
    assert_eq!(database.order(), ["\"other\""]);
    database.add_partition();
    let worker = Worker::start(true, &queue, &database);
    until_empty(&queue).await;
    assert_eq!(database.order(), ["\"other\"", "\"h\"", "\"behind\""]);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_in_a_long_fault_of_the_pipeline_spends_no_receive() {
    let (queue, database) = (ModelQueue::new(false, 1), ModelDatabase::new(1));
    let sent = send(&queue, 100, 1, 0);
    database.set_fault(Some((Class::Ambiguous, "42501")));
    let worker = Worker::start(false, &queue, &database);
    sleep(Duration::from_secs(3600)).await;
    database.set(Writer::Down);
    sleep(Duration::from_secs(5)).await;
    database.set(Writer::Up);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(queue.most_receives(), 1);
    database.set_fault(None);
    until_empty(&queue).await;
    check(&sent, &queue, &database, false, "outage in a fault");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn bad_messages_among_good_ones_are_dead_lettered_at_their_first_receive() {
    let (queue, database) = (ModelQueue::new(false, 1), ModelDatabase::new(1));
    let sent = send(&queue, 1000, 1, 100);
    let worker = Worker::start(false, &queue, &database);
    until_empty(&queue).await;
    check(&sent, &queue, &database, false, "poison");
    assert_eq!(queue.most_receives(), 1);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_takes_five_calls_for_each_batch_of_fifty() {
    let (queue, database) = (ModelQueue::new(false, 1), ModelDatabase::new(1));
    send(&queue, 5000, 1, 0);
    let worker = Worker::start(false, &queue, &database);
    until_empty(&queue).await;
    let calls = queue.calls("receive") + queue.calls("delete");
    assert!(calls <= 1050, "{calls} calls for 5,000 messages");
    assert!(database.statements() <= 200, "{} statements for 5,000 messages", database.statements());
    worker.stop().await;
}
