//! Whatever is missing or wrong around a pipeline: it says what and what to do within 30 s, dead-letters nothing, and goes on by itself when
//! that is mended.

use std::time::Duration;

use durable_write_crds::conditions::reasons;
use durable_write_crds::wire::{Report, WorkerState};
use durable_write_testbed::sqs::{self, QueueOptions};
use durable_write_testbed::worker::Worker;
use serde_json::json;

use super::ground::{ORDERS, Outgoing, Pipeline, SOON, order_columns, orders, shared_cluster, until};

/// Within this the reason is said.
const SAID: Duration = Duration::from_secs(30);

/// A pipeline with a hundred messages in its queue.
async fn loaded(queue: &str) -> (Pipeline, Vec<Outgoing>) {
    let pipeline = Pipeline::of_orders(shared_cluster().await, queue).await;
    let sent = orders("a", 0..100, false);
    pipeline.send(&sent).await;
    (pipeline, sent)
}

/// The worker says that nothing can be written, why and what to do.
async fn says(worker: &mut Worker, report: impl Fn(&WorkerState) -> &Report, reason: &str, words: &[&str]) -> WorkerState {
    let said = |state: &WorkerState| report(state).status == Some(false) && report(state).reason == reason;
    let state = worker.wait_for(&format!("it says {reason}"), SAID, said).await.unwrap();
    for word in words {
        assert!(report(&state).message.contains(word), "{word:?} is not in: {}", report(&state).message);
    }
    assert_eq!((state.flowing.status, state.stalled.status), (Some(false), Some(true)), "{state:?}");
    state
}

/// No message was received: each would have been in vain.
async fn untouched(pipeline: &Pipeline, state: &WorkerState) {
    let depth = sqs::depth(&pipeline.client, &pipeline.queue.url).await.unwrap();
    assert_eq!((depth.visible, depth.in_flight, state.counters.received), (100, 0, 0));
}

/// All is written by itself, and the worker says that all is well.
async fn recovers(pipeline: &Pipeline, mut worker: Worker, sent: &[Outgoing]) {
    pipeline.emptied(&mut worker, SOON).await;
    pipeline.assert_exactly(sent).await;
    let well = |state: &WorkerState| {
        [&state.flowing, &state.queue_ready, &state.database_ready].iter().all(|report| report.status == Some(true))
            && state.stalled.status == Some(false)
            && state.checked
    };
    worker.wait_for("it says that all is well", SOON, well).await.unwrap();
}

fn database(state: &WorkerState) -> &Report {
    &state.database_ready
}

fn queue(state: &WorkerState) -> &Report {
    &state.queue_ready
}

fn flowing(state: &WorkerState) -> &Report {
    &state.flowing
}

#[tokio::test]
async fn a_wrong_password() {
    let (pipeline, sent) = loaded("mend-password").await;
    pipeline.set_password("wrong");
    let mut worker = pipeline.start();
    let state = says(&mut worker, database, reasons::AUTHENTICATION_FAILED, &["Secret", "password"]).await;
    untouched(&pipeline, &state).await;
    pipeline.set_password("correct");
    recovers(&pipeline, worker, &sent).await;
}

#[tokio::test]
async fn a_missing_secret_and_a_missing_key_of_it() {
    let (pipeline, sent) = loaded("mend-secret").await;
    std::fs::remove_dir_all(pipeline.mounts.path().join("secrets")).unwrap();
    let mut worker = pipeline.start();
    let state = says(&mut worker, database, reasons::CREDENTIALS_MISSING, &["database", "username"]).await;
    untouched(&pipeline, &state).await;
    pipeline.mounts.write_secret("database", "username", &pipeline.name).unwrap();
    let key = |state: &WorkerState| state.database_ready.message.contains("password");
    worker.wait_for("it says that the password is missing", SAID, key).await.unwrap();
    pipeline.set_password("correct");
    recovers(&pipeline, worker, &sent).await;
}

#[tokio::test]
async fn a_certificate_of_an_authority_that_is_not_trusted() {
    let (pipeline, sent) = loaded("mend-authority").await;
    let right = pipeline.cluster.ca_pem();
    let wrong = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap().cert.pem();
    pipeline.mounts.write_config_map("authority", "ca.crt", &wrong).unwrap();
    let mut worker = pipeline.start();
    let state = says(&mut worker, database, reasons::TLS_FAILED, &["database.tls.ca"]).await;
    untouched(&pipeline, &state).await;
    pipeline.mounts.write_config_map("authority", "ca.crt", right).unwrap();
    recovers(&pipeline, worker, &sent).await;
}

#[tokio::test]
async fn a_missing_database() {
    let (mut pipeline, sent) = loaded("mend-database").await;
    pipeline.set("/database/name", json!("mend-other"));
    let mut worker = pipeline.start();
    let state = says(&mut worker, database, reasons::DATABASE_MISSING, &["mend-other", "create"]).await;
    untouched(&pipeline, &state).await;
    // The database of the same content under the other name.
    let mut admin = shared_admin(&pipeline).await;
    sqlx::raw_sql(r#"ALTER DATABASE "mend-database" RENAME TO "mend-other""#).execute(&mut admin).await.unwrap();
    sqlx::Connection::close(admin).await.unwrap();
    pipeline.database = "mend-other".to_owned();
    recovers(&pipeline, worker, &sent).await;
}

/// The superuser, not in the pipeline's database.
async fn shared_admin(pipeline: &Pipeline) -> sqlx::PgConnection {
    sqlx::ConnectOptions::connect(&pipeline.cluster.admin_options().unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_missing_table() {
    let (pipeline, sent) = loaded("mend-table").await;
    pipeline.sql("DROP TABLE orders").await;
    let mut worker = pipeline.start();
    let state = says(&mut worker, database, reasons::TABLE_MISSING, &["orders", "create"]).await;
    untouched(&pipeline, &state).await;
    pipeline.sql(ORDERS).await;
    recovers(&pipeline, worker, &sent).await;
}

#[tokio::test]
async fn a_missing_column() {
    let (pipeline, sent) = loaded("mend-column").await;
    pipeline.sql("ALTER TABLE orders DROP COLUMN number").await;
    let mut worker = pipeline.start();
    let state = says(&mut worker, database, reasons::COLUMN_MISSING, &["number", "add it"]).await;
    untouched(&pipeline, &state).await;
    pipeline.sql("ALTER TABLE orders ADD COLUMN number bigint").await;
    recovers(&pipeline, worker, &sent).await;
}

#[tokio::test]
async fn a_missing_unique_index() {
    let (pipeline, sent) = loaded("mend-index").await;
    pipeline.sql("ALTER TABLE orders DROP CONSTRAINT orders_pkey").await;
    let mut worker = pipeline.start();
    let state = says(&mut worker, database, reasons::UNIQUE_INDEX_MISSING, &["CREATE UNIQUE INDEX"]).await;
    untouched(&pipeline, &state).await;
    pipeline.sql("CREATE UNIQUE INDEX ON orders (id)").await;
    recovers(&pipeline, worker, &sent).await;
}

#[tokio::test]
async fn a_missing_right() {
    let (pipeline, sent) = loaded("mend-right").await;
    pipeline.sql(r#"REVOKE INSERT ON orders FROM "mend-right""#).await;
    let mut worker = pipeline.start();
    let state = says(&mut worker, database, reasons::PERMISSION_DENIED, &["GRANT INSERT"]).await;
    untouched(&pipeline, &state).await;
    pipeline.sql(r#"GRANT INSERT ON orders TO "mend-right""#).await;
    recovers(&pipeline, worker, &sent).await;
}

#[tokio::test]
async fn a_missing_partition() {
    let table = "CREATE TABLE orders (id text PRIMARY KEY, team text, number bigint) PARTITION BY RANGE (id);
        CREATE TABLE orders_a PARTITION OF orders FOR VALUES FROM ('a') TO ('b')";
    let pipeline = Pipeline::new(shared_cluster().await, "mend-partition", table, order_columns(), &["id"]).await;
    let mut sent = orders("b", 0..1000, false);
    pipeline.send(&sent).await;
    let mut worker = pipeline.start();
    says(&mut worker, flowing, reasons::PARTITION_MISSING, &["create the partition", "23514"]).await;
    // Messages with a partition pass, and those without still are no dead letters.
    let others = orders("a", 0..100, false);
    pipeline.send(&others).await;
    sent.extend(others);
    until("the others are written", SOON, async || pipeline.count().await == 100).await;
    pipeline.sql("CREATE TABLE orders_b PARTITION OF orders FOR VALUES FROM ('b') TO ('c')").await;
    recovers(&pipeline, worker, &sent).await;
}

#[tokio::test]
async fn a_missing_queue() {
    let (pipeline, sent) = loaded("mend-queue").await;
    sqs::delete_queue(&pipeline.client, &pipeline.queue.url).await.unwrap();
    let mut worker = pipeline.start();
    says(&mut worker, queue, reasons::QUEUE_MISSING, &["does not exist", "create it"]).await;
    let options = QueueOptions { dead_letters: Some((pipeline.dead_letters.clone(), 5)), ..QueueOptions::default() };
    sqs::create_queue(&pipeline.client, &pipeline.queue.name, &options).await.unwrap();
    pipeline.send(&sent).await;
    recovers(&pipeline, worker, &sent).await;
}

#[tokio::test]
async fn no_dead_letter_queue() {
    let (pipeline, sent) = loaded("mend-letters").await;
    sqs::delete_queue(&pipeline.client, &pipeline.queue.url).await.unwrap();
    sqs::create_queue(&pipeline.client, &pipeline.queue.name, &QueueOptions::default()).await.unwrap();
    pipeline.send(&sent).await;
    let mut worker = pipeline.start();
    let state = says(&mut worker, queue, reasons::NO_DEAD_LETTER_QUEUE, &["redrive policy", "deadLetterQueue"]).await;
    untouched(&pipeline, &state).await;
    let policy = json!({"deadLetterTargetArn": pipeline.dead_letters.arn, "maxReceiveCount": "5"}).to_string();
    let name = aws_sdk_sqs::types::QueueAttributeName::RedrivePolicy;
    pipeline.client.set_queue_attributes().queue_url(&pipeline.queue.url).attributes(name, policy).send().await.unwrap();
    recovers(&pipeline, worker, &sent).await;
}

#[tokio::test]
async fn a_dead_letter_queue_of_the_other_kind() {
    let (mut pipeline, sent) = loaded("mend-kind").await;
    sqs::create_queue(&pipeline.client, "mend-kind-dlq.fifo", &QueueOptions::default()).await.unwrap();
    pipeline.set("/queue/deadLetterQueue", json!({"name": "mend-kind-dlq.fifo"}));
    let mut worker = pipeline.start();
    let state = says(&mut worker, queue, reasons::DEAD_LETTER_QUEUE_UNSUITABLE, &["same kind"]).await;
    untouched(&pipeline, &state).await;
    drop(worker);
    pipeline.set("/queue/deadLetterQueue", json!({"name": "mend-kind-dlq"}));
    recovers(&pipeline, pipeline.start(), &sent).await;
}

/// Something of the table goes while messages flow; the messages in hand are held.
async fn broken_while_running(name: &str, breakage: &str, reason: &str, words: &[&str], mend: &str) {
    let pipeline = Pipeline::of_orders(shared_cluster().await, name).await;
    let mut sent = orders("a", 0..100, false);
    pipeline.send(&sent).await;
    let mut worker = pipeline.start();
    pipeline.emptied(&mut worker, SOON).await;
    pipeline.sql(breakage).await;
    let more = orders("b", 0..500, false);
    pipeline.send(&more).await;
    sent.extend(more);
    says(&mut worker, flowing, reason, words).await;
    pipeline.sql(mend).await;
    recovers(&pipeline, worker, &sent).await;
}

#[tokio::test]
async fn a_table_that_goes_while_messages_flow() {
    let (breakage, mend) = ("ALTER TABLE orders RENAME TO away", "ALTER TABLE away RENAME TO orders");
    broken_while_running("gone-table", breakage, reasons::TABLE_MISSING, &["create"], mend).await;
}

#[tokio::test]
async fn a_column_that_goes_while_messages_flow() {
    let (breakage, mend) = ("ALTER TABLE orders RENAME number TO away", "ALTER TABLE orders RENAME away TO number");
    broken_while_running("gone-column", breakage, reasons::COLUMN_MISSING, &["number"], mend).await;
}

#[tokio::test]
async fn a_right_that_goes_while_messages_flow() {
    let (breakage, mend) = (r#"REVOKE INSERT ON orders FROM "gone-right""#, r#"GRANT INSERT ON orders TO "gone-right""#);
    broken_while_running("gone-right", breakage, reasons::PERMISSION_DENIED, &["grant"], mend).await;
}

#[tokio::test]
async fn a_new_column_that_nobody_fills_while_messages_flow() {
    let (breakage, mend) = (
        "ALTER TABLE orders ADD price int NOT NULL DEFAULT 0; ALTER TABLE orders ALTER price DROP DEFAULT",
        "ALTER TABLE orders DROP price",
    );
    broken_while_running("gone-default", breakage, reasons::COLUMN_UNSUITABLE, &["price", "default"], mend).await;
}

#[tokio::test]
async fn a_trigger_that_refuses_every_row_while_messages_flow() {
    let breakage = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'closed'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION refuse()";
    broken_while_running("gone-trigger", breakage, reasons::STATEMENT_FAILED, &["P0001"], "DROP TRIGGER refuse ON orders").await;
}

#[tokio::test]
async fn sessions_that_are_ended_by_an_administrator_are_replaced_at_once() {
    let pipeline = Pipeline::of_orders(shared_cluster().await, "mend-sessions").await;
    let mut worker = pipeline.start();
    let mut sent = Vec::new();
    for round in 0..5 {
        let orders = orders(&format!("round-{round}"), 0..200, false);
        pipeline.send(&orders).await;
        sent.extend(orders);
        pipeline.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mend-sessions'").await;
    }
    pipeline.emptied(&mut worker, SOON).await;
    recovers(&pipeline, worker, &sent).await;
}
