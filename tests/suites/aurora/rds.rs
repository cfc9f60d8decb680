//! The unchanged AWS SDK drives the cluster through the RDS API.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_rds::operation::failover_db_cluster::FailoverDBClusterError;
use aws_sdk_rds::types::{Filter, SourceType};
use durable_write_testbed::aurora::{Aurora, AuroraOptions, Fault, Timing};

use super::support::{client, connect, describe, eventually, failure, start, who, writer};

#[tokio::test]
async fn a_cluster_and_its_instances_are_described() {
    let tags = BTreeMap::from([("durablewrite.dev/drills.test".to_owned(), "shop & <co>".to_owned())]);
    let aurora = Aurora::start(AuroraOptions { tags, ..AuroraOptions::default() }).await.unwrap();
    let client = client(&aurora);
    let cluster = describe(&client).await;
    assert_eq!((cluster.status(), cluster.engine()), (Some("available"), Some("aurora-postgresql")));
    assert!(cluster.engine_version().unwrap().starts_with("15."));
    let resource = cluster.db_cluster_resource_id().unwrap();
    assert_eq!(resource, aurora.resource_id());
    assert!(resource.strip_prefix("cluster-").unwrap().bytes().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit()));
    assert_eq!((cluster.tag_list()[0].key(), cluster.tag_list()[0].value()), (Some("durablewrite.dev/drills.test"), Some("shop & <co>")));
    assert_eq!(writer(&cluster), "orders-1");
    assert_eq!(cluster.db_cluster_members()[2].promotion_tier(), Some(2));
    let endpoint = |address: &str| format!("{address}:{}", cluster.port().unwrap());
    assert_eq!(who(&aurora, &endpoint(cluster.endpoint().unwrap())).await.unwrap(), "orders-1");
    assert_ne!(who(&aurora, &endpoint(cluster.reader_endpoint().unwrap())).await.unwrap(), "orders-1");

    let described = client.describe_db_instances().send().await.unwrap();
    let described = described.db_instances();
    assert_eq!(described.len(), 3);
    for (described, instance) in described.iter().zip(aurora.instances()) {
        let endpoint = described.endpoint().unwrap();
        assert_eq!(format!("{}:{}", endpoint.address().unwrap(), endpoint.port().unwrap()), instance.endpoint);
        assert_eq!(described.db_instance_identifier(), Some(instance.name.as_str()));
        assert_eq!(described.availability_zone(), Some(instance.zone.as_str()));
        assert_eq!(described.db_cluster_identifier(), Some("orders"));
        assert_eq!(described.db_instance_status(), Some("available"));
        assert!(described.dbi_resource_id().unwrap().starts_with("db-"));
    }
}

#[tokio::test]
async fn failover_db_cluster_promotes_the_target_and_is_told_in_events() {
    let aurora = start(Timing { promotion: Duration::from_millis(500), ..Timing::default() }).await;
    let client = client(&aurora);
    let before = jiff::Timestamp::now();
    let failing =
        client.failover_db_cluster().db_cluster_identifier("Orders").target_db_instance_identifier("orders-3").send().await.unwrap();
    assert_eq!(failing.db_cluster().unwrap().status(), Some("failing-over"));
    assert_eq!(describe(&client).await.status(), Some("failing-over"));
    eventually("the cluster is available", async || describe(&client).await.status() == Some("available")).await;
    assert_eq!(writer(&describe(&client).await), "orders-3");
    connect(&aurora, &aurora.instances()[2].endpoint).await.unwrap();

    let events = client.describe_events().source_type(SourceType::DbCluster).source_identifier("orders").send().await.unwrap();
    let messages: Vec<_> = events.events().iter().map(|event| event.message().unwrap()).collect();
    assert_eq!(messages, ["Started cross AZ failover to DB instance: orders-3", "Completed failover to DB instance: orders-3"]);
    for event in events.events() {
        assert_eq!(event.event_categories(), ["failover"]);
        let date = event.date().unwrap();
        assert!(
            date.to_millis().unwrap() >= before.as_millisecond() && date.to_millis().unwrap() <= jiff::Timestamp::now().as_millisecond()
        );
    }
    let later = client.describe_events().start_time(aws_smithy_types::DateTime::from(std::time::SystemTime::now())).send().await.unwrap();
    assert!(later.events().is_empty());
    assert_eq!((aurora.rds_calls("FailoverDBCluster"), aurora.rds_calls("DescribeEvents")), (1, 2));
}

#[tokio::test]
async fn an_unplanned_failover_is_seen_in_states_and_events() {
    let aurora = start(Timing { detection: Duration::from_millis(300), promotion: Duration::from_millis(500), ..Timing::default() }).await;
    let client = client(&aurora);
    let watch = async {
        eventually("the cluster fails over", async || describe(&client).await.status() == Some("failing-over")).await;
        let instances = client.describe_db_instances().db_instance_identifier("orders-1").send().await.unwrap();
        assert_eq!(instances.db_instances()[0].db_instance_status(), Some("rebooting"));
    };
    let (failover, ()) = tokio::join!(aurora.fault(Fault::WriterKilled), watch);
    failover.unwrap();
    let events = client.describe_events().duration(5).send().await.unwrap();
    let messages: Vec<_> = events.events().iter().map(|event| (event.source_identifier().unwrap(), event.message().unwrap())).collect();
    assert_eq!(
        messages,
        [
            ("orders", "Started cross AZ failover to DB instance: orders-2"),
            ("orders", "Completed failover to DB instance: orders-2"),
            ("orders-1", "DB instance restarted"),
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_is_refused_as_the_service_does() {
    let aurora = start(Timing { promotion: Duration::from_millis(500), ..Timing::default() }).await;
    let client = client(&aurora);
    let fail_over = async |cluster: &str, target: Option<&str>| {
        client
            .failover_db_cluster()
            .db_cluster_identifier(cluster)
            .set_target_db_instance_identifier(target.map(str::to_owned))
            .send()
            .await
    };
    assert_eq!(failure(fail_over("other", None).await), ("DBClusterNotFoundFault".into(), 404));
    assert_eq!(failure(fail_over("orders", Some("orders-1")).await), ("InvalidDBInstanceState".into(), 400));
    assert_eq!(failure(fail_over("orders", Some("other-1")).await), ("DBInstanceNotFound".into(), 404));
    assert_eq!(failure(client.describe_db_clusters().db_cluster_identifier("other").send().await), ("DBClusterNotFoundFault".into(), 404));
    assert_eq!(failure(client.describe_db_instances().db_instance_identifier("other").send().await), ("DBInstanceNotFound".into(), 404));
    assert_eq!(failure(client.describe_events().source_identifier("orders").send().await), ("InvalidParameterCombination".into(), 400));
    assert_eq!(failure(client.describe_db_clusters().max_records(5).send().await), ("InvalidParameterValue".into(), 400));
    assert_eq!(failure(client.reboot_db_instance().db_instance_identifier("orders-1").send().await), ("InvalidAction".into(), 400));

    fail_over("orders", None).await.unwrap();
    let error = fail_over("orders", None).await.unwrap_err().into_service_error();
    assert!(matches!(error, FailoverDBClusterError::InvalidDbClusterStateFault(_)), "{error:?}");
    aurora.settled().await;
    assert_eq!(aurora.timeline().len(), 1);
}

#[tokio::test]
async fn descriptions_are_filtered_and_paged() {
    let aurora = Aurora::start(AuroraOptions { instances: 2, ..AuroraOptions::default() }).await.unwrap();
    let client = client(&aurora);
    let engine = |name: &str| Filter::builder().name("engine").values(name).build();
    assert_eq!(client.describe_db_clusters().filters(engine("aurora-postgresql")).send().await.unwrap().db_clusters().len(), 1);
    assert_eq!(client.describe_db_clusters().filters(engine("neptune")).send().await.unwrap().db_clusters().len(), 0);
    let one = Filter::builder().name("db-instance-id").values("orders-2").build();
    assert_eq!(client.describe_db_instances().filters(one).send().await.unwrap().db_instances().len(), 1);
    let unknown = Filter::builder().name("colour").values("red").build();
    assert_eq!(failure(client.describe_db_clusters().filters(unknown).send().await), ("InvalidParameterValue".into(), 400));
    for _ in 0..8 {
        aurora.fail_over(None).await.unwrap();
    }
    let pages: Vec<_> = client.describe_events().max_records(20).into_paginator().send().collect::<Result<_, _>>().await.unwrap();
    assert_eq!(pages.iter().map(|page| page.events().len()).collect::<Vec<_>>(), [20, 4]);
}
