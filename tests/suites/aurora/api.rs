//! Faults of the RDS API, what it can be made to tell, and the record that other processes read.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_rds::Client;
use aws_sdk_rds::config::retry::RetryConfig;
use aws_sdk_rds::error::SdkError;
use aws_sdk_rds::types::Tag;
use durable_write_testbed::aurora::{Aurora, Behaviour, FailoverCalls, Timing};
use durable_write_testbed::proxy::http::{Extent, HttpFault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::support::{available, call, client, describe, eventually, failure, pair, start, writer};

fn calls(received: u64, took_effect: u64) -> FailoverCalls {
    FailoverCalls { received, took_effect }
}

#[tokio::test]
async fn a_failover_is_refused_with_each_documented_code() {
    let aurora = pair().await;
    let client = client(&aurora);
    let documented = [
        (404, "DBClusterNotFoundFault"),
        (400, "InvalidDBClusterStateFault"),
        (400, "InvalidDBInstanceState"),
        (400, "Throttling"),
        (400, "ThrottlingException"),
        (503, "RequestLimitExceeded"),
        (403, "AccessDenied"),
        (500, "InternalFailure"),
        (503, "ServiceUnavailable"),
    ];
    for (number, (status, code)) in documented.into_iter().enumerate() {
        aurora.rds_proxy().place("FailoverDBCluster", HttpFault::Error { status, code: code.into() }, Extent::Next(1));
        let refused = call(&client, "orders-2").await;
        let error = refused.as_ref().unwrap_err().as_service_error().unwrap();
        assert_eq!(error.is_db_cluster_not_found_fault(), number == 0, "{error:?}");
        assert_eq!(error.is_invalid_db_cluster_state_fault(), number == 1, "{error:?}");
        assert_eq!(error.is_invalid_db_instance_state_fault(), number == 2, "{error:?}");
        assert_eq!(failure(refused), (code.to_owned(), status));
        describe(&client).await;
    }
    assert_eq!(aurora.failover_calls(), calls(9, 0));
    assert!(aurora.timeline().is_empty());
}

#[tokio::test]
async fn a_call_can_be_lost_before_and_after_its_effect() {
    let aurora = pair().await;
    let client = client(&aurora);
    let place = |fault| aurora.rds_proxy().place("FailoverDBCluster", fault, Extent::Next(1));
    let unclear = |error: SdkError<_>| assert!(matches!(error, SdkError::DispatchFailure(_)), "{error:?}");

    place(HttpFault::RequestLost);
    unclear(call(&client, "orders-2").await.unwrap_err());
    assert_eq!((aurora.failover_calls(), aurora.timeline().len()), (calls(1, 0), 0));
    place(HttpFault::ReplyLost);
    unclear(call(&client, "orders-2").await.unwrap_err());
    assert_eq!(aurora.failover_calls(), calls(2, 1));
    available(&client).await;
    assert_eq!(writer(&describe(&client).await), "orders-2");

    for (forward, effects) in [(false, 1), (true, 2)] {
        place(HttpFault::Hung { forward });
        assert!(timeout(Duration::from_millis(500), call(&client, "orders-1")).await.is_err(), "an answer");
        assert_eq!(aurora.failover_calls().took_effect, effects);
    }
    available(&client).await;
}

#[tokio::test]
async fn a_client_that_retries_calls_again_when_the_reply_is_lost() {
    let aurora = pair().await;
    let own = client(&aurora);
    let retrying = Client::from_conf(own.config().to_builder().retry_config(RetryConfig::standard()).sleep_impl(sleep()).build());
    aurora.rds_proxy().place("FailoverDBCluster", HttpFault::ReplyLost, Extent::Next(1));
    call(&retrying, "orders-2").await.unwrap_err();
    assert_eq!(aurora.failover_calls(), calls(2, 1), "the second call finds the first one's failover");
    aurora.settled().await;
}

fn sleep() -> impl aws_sdk_rds::config::AsyncSleep + 'static {
    #[derive(Debug)]
    struct Tokio;
    impl aws_sdk_rds::config::AsyncSleep for Tokio {
        fn sleep(&self, duration: Duration) -> aws_sdk_rds::config::Sleep {
            aws_sdk_rds::config::Sleep::new(tokio::time::sleep(duration))
        }
    }
    Tokio
}

#[tokio::test]
async fn statuses_are_told_as_set_and_refuse_a_failover() {
    let aurora = start(Timing::default()).await;
    let client = client(&aurora);
    for status in ["modifying", "upgrading", "failing-over"] {
        aurora.set_cluster_status(Some(status));
        assert_eq!(describe(&client).await.status(), Some(status));
        assert_eq!(failure(call(&client, "orders-2").await), ("InvalidDBClusterStateFault".into(), 400));
    }
    aurora.set_cluster_status(None);
    aurora.set_instance_status("orders-2", Some("storage-full")).unwrap();
    let described = client.describe_db_instances().db_instance_identifier("orders-2").send().await.unwrap();
    assert_eq!(described.db_instances()[0].db_instance_status(), Some("storage-full"));
    assert_eq!(failure(call(&client, "orders-2").await), ("InvalidDBInstanceState".into(), 400));
    client.failover_db_cluster().db_cluster_identifier("orders").send().await.unwrap();
    available(&client).await;
    assert_eq!(writer(&describe(&client).await), "orders-3", "without a target one is taken that is available");
    aurora.set_instance_status("orders-2", None).unwrap();
    call(&client, "orders-2").await.unwrap();
    aurora.settled().await;
}

#[tokio::test]
async fn tags_change_while_the_cluster_runs() {
    let aurora = pair().await;
    let client = client(&aurora);
    let arn = describe(&client).await.db_cluster_arn().unwrap().to_owned();
    let tags = async || -> Vec<(String, String)> {
        let described = describe(&client).await;
        let listed = client.list_tags_for_resource().resource_name(&arn).send().await.unwrap();
        assert_eq!(described.tag_list(), listed.tag_list());
        let pair = |tag: &Tag| (tag.key().unwrap().to_owned(), tag.value().unwrap().to_owned());
        described.tag_list().iter().map(pair).collect()
    };
    assert!(tags().await.is_empty());
    aurora.set_tags(BTreeMap::from([("durablewrite.dev/drills.demo".into(), "shop".into())]));
    assert_eq!(tags().await, [("durablewrite.dev/drills.demo".into(), "shop".into())]);
    let tag = Tag::builder().key("durablewrite.dev/drills.demo").value("shop bank").build();
    client.add_tags_to_resource().resource_name(&arn).tags(tag).send().await.unwrap();
    assert_eq!(tags().await, [("durablewrite.dev/drills.demo".into(), "shop bank".into())]);
    client.remove_tags_from_resource().resource_name(&arn).tag_keys("durablewrite.dev/drills.demo").send().await.unwrap();
    assert!(tags().await.is_empty());
}

/// The record as another process reads it.
async fn record(aurora: &Aurora) -> serde_json::Value {
    let url = aurora.record_endpoint();
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn another_process_reads_the_calls_and_the_truth() {
    let aurora = pair().await;
    let client = client(&aurora);
    assert_eq!(record(&aurora).await["failoverCalls"], serde_json::json!({"received": 0, "tookEffect": 0}));
    aurora.set_behaviour(Behaviour { outage: Duration::from_millis(500), ..Behaviour::default() });
    call(&client, "orders-2").await.unwrap();
    call(&client, "orders-2").await.unwrap_err();
    eventually("writes are back", async || record(&aurora).await["failovers"][0]["truth"].is_object()).await;
    let record = record(&aurora).await;
    assert_eq!(record["failoverCalls"], serde_json::json!({"received": 2, "tookEffect": 1}));
    let failover = &record["failovers"][0];
    assert_eq!((&failover["called"], &failover["to"], &failover["fault"]), (&true.into(), &"orders-2".into(), &"Planned".into()));
    assert!(failover["truth"]["gapMilliseconds"].as_f64().unwrap() >= 500.0, "{failover}");
    assert!(failover["truth"]["uncertaintyMilliseconds"].is_number(), "{failover}");
    assert_eq!(record["instances"][1]["writer"], true);
    aurora.settled().await;
}
