//! Logins by IAM: each connection has a token of its own, which the database verifies. No password is anywhere.

use std::sync::Arc;
use std::time::Duration;

use durable_write_crds::conditions::reasons;
use durable_write_crds::wire::WorkerState;
use durable_write_testbed::aurora::{AwsIdentity, Timing};
use durable_write_testbed::pod_identity::PodIdentity;
use durable_write_testbed::worker::Worker;

use super::ground::{Cluster, Pipeline, SOON, orders, own_cluster, shared_cluster};

/// What a pod on EKS gets: with a session, which is longer than what most ways of verifying a password take.
fn identity(access_key_id: &str) -> AwsIdentity {
    AwsIdentity {
        access_key_id: access_key_id.to_owned(),
        secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCY".to_owned(),
        session_token: Some("IQoJb3JpZ2luX2Vj//8aCWV1LXdlc3Q+".repeat(40)),
    }
}

/// A pipeline whose user logs in by IAM, and has no password.
async fn pipeline(cluster: Arc<Cluster>, queue: &str) -> Pipeline {
    let mut pipeline = Pipeline::of_orders(cluster, queue).await;
    pipeline.log_in_by_iam().await;
    pipeline
}

fn start(pipeline: &Pipeline, identity: &PodIdentity) -> Worker {
    pipeline.mounts.write_manifest(&pipeline.manifest.to_string()).unwrap();
    Worker::start_as(&pipeline.mounts, &pipeline.sqs_endpoint, identity).unwrap()
}

/// Nothing of what proves who a worker is stands in what it says.
async fn says_no_secret(worker: &Worker, identity: &AwsIdentity) {
    let said = worker.log().unwrap() + &serde_json::to_string(&worker.state().await.unwrap()).unwrap();
    let session = &identity.session_token.as_deref().unwrap()[..32];
    for secret in ["X-Amz-", &identity.secret_access_key, session, "%2F%2F8aCWV1"] {
        assert!(!said.contains(secret), "{secret} is in: {said}");
    }
}

#[tokio::test]
async fn a_worker_without_a_password_moves_messages_over_a_failover_with_a_token_for_each_endpoint() {
    let timing = Timing { detection: Duration::ZERO, promotion: Duration::ZERO, ..Timing::default() };
    let pipeline = pipeline(own_cluster(timing).await, "iam").await;
    let identity = identity("ASIAPOD");
    pipeline.cluster.allow_login(&identity, &pipeline.name);
    let agent = PodIdentity::start(&identity).await.unwrap();
    let mut worker = start(&pipeline, &agent);
    let mut sent = orders("a", 0..100, false);
    pipeline.send(&sent).await;
    pipeline.emptied(&mut worker, SOON).await;

    pipeline.cluster.fail_over(None).await.unwrap();
    let more = orders("b", 0..100, false);
    pipeline.send(&more).await;
    sent.extend(more);
    pipeline.emptied(&mut worker, SOON).await;
    pipeline.assert_exactly(&sent).await;
    let moved = |state: &WorkerState| state.database.writer.as_deref() == Some("orders-2") && state.counters.outages == 1;
    worker.wait_for("it writes to the new writer", SOON, moved).await.unwrap();
    assert_eq!(pipeline.cluster.refused_logins(), [""; 0], "a token was for another endpoint than the one that was connected to");
    says_no_secret(&worker, &identity).await;
}

#[tokio::test]
async fn an_identity_that_may_not_log_in_is_told_and_taken_up_when_the_pod_gets_another() {
    let pipeline = pipeline(shared_cluster().await, "iam-refused").await;
    let (right, wrong) = (identity("ASIARIGHT"), identity("ASIAWRONG"));
    pipeline.cluster.allow_login(&right, &pipeline.name);
    let sent = orders("a", 0..100, false);
    pipeline.send(&sent).await;
    let agent = PodIdentity::start(&wrong).await.unwrap();
    let mut worker = start(&pipeline, &agent);
    let refused = |state: &WorkerState| {
        state.database_ready.reason == reasons::AUTHENTICATION_FAILED
            && state.flowing.status == Some(false)
            && state.stalled.status == Some(true)
    };
    let state = worker.wait_for("it says that it is refused", SOON, refused).await.unwrap();
    for words in ["database.credentials.iam", "authentication failed for user", "28000", "rds-db:connect as iam-refused", "rds_iam"] {
        assert!(state.database_ready.message.contains(words), "{words:?} is not in: {}", state.database_ready.message);
    }
    assert_eq!(state.counters.received, 0);
    says_no_secret(&worker, &wrong).await;

    agent.set(&right);
    pipeline.emptied(&mut worker, SOON).await;
    pipeline.assert_exactly(&sent).await;
    worker.wait_for("it says that all is well", SOON, |state| state.database_ready.status == Some(true)).await.unwrap();
    let refused = pipeline.cluster.refused_logins();
    assert!(refused.iter().any(|why| why.ends_with("/iam-refused: ASIAWRONG may not be this user")), "{refused:?}");
}
