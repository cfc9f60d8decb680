//! The RDS API against a second implementation by other people: MiniStack, by the same calls of the unchanged SDK. Where both differ, a
//! table says what each one says, and what decides.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use aws_sdk_rds::Client;
use aws_sdk_rds::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_rds::types::{DbInstance, Filter, SourceType, Tag};
use durable_write_testbed::aurora::{Aurora, AuroraOptions};
use durable_write_testbed::process::Process;
use durable_write_testbed::tools;

use super::support::{available, client, client_of, describe, eventually, writer};

/// What differs: the subject, what the local Aurora says, what MiniStack says, and what decides. "API" is the API reference of RDS, version
/// 2014-10-31.
const DIFFERENCES: &[(&str, &str, &str, &str)] = &[
    (
        "DBCluster.DbClusterResourceId",
        "cluster-, then 26 upper-case letters and digits",
        "cluster-, then 20 upper-case letters and digits",
        "API, DBCluster: immutable and unique in the region, no form promised; those that AWS gives have 26",
    ),
    (
        "DBInstance.DbiResourceId",
        "db-, then 26 upper-case letters and digits",
        "db-, then 20 upper-case letters and digits",
        "as DbClusterResourceId",
    ),
    ("DBCluster.MultiAZ", "Some(true)", "Some(false)", "API, DBCluster: whether the cluster has instances in multiple zones, and it has"),
    (
        "DBInstance.StorageType",
        "Some(\"aurora\")",
        "Some(\"gp2\")",
        "API, CreateDBInstance: instances of Aurora have aurora or aurora-iopt1",
    ),
    (
        "DBCluster: members that the other lacks",
        "",
        "activity_stream_status copy_tags_to_snapshot cross_account_clone earliest_restorable_time engine_lifecycle_support \
         http_endpoint_enabled latest_restorable_time network_type preferred_backup_window preferred_maintenance_window ",
        "API, DBCluster: no member is required; nobody here reads these",
    ),
    (
        "DBInstance: members that the other lacks",
        "",
        "auto_minor_version_upgrade backup_retention_period backup_target ca_certificate_identifier certificate_details \
         copy_tags_to_snapshot customer_owned_ip_enabled db_instance_port db_name db_parameter_groups db_subnet_group \
         is_storage_config_upgrade_available latest_restorable_time license_model monitoring_interval network_type \
         option_group_memberships pending_modified_values performance_insights_enabled performance_insights_retention_period \
         preferred_backup_window preferred_maintenance_window replica_mode storage_throughput ",
        "API, DBInstance: no member is required; nobody here reads these",
    ),
    (
        "Event.Message",
        "Some(\"DB instance restarted\")",
        "Some(\"DB instance restarted.\")",
        "User guide: its table of messages ends each as a sentence; describe-events of the CLI reference shows them without a full stop. \
         A reader should take both",
    ),
    (
        "a cluster by its name in capitals",
        "1",
        "404 DBClusterNotFoundFault",
        "API, DescribeDBClusters: DBClusterIdentifier isn't case-sensitive",
    ),
    (
        "clusters with colour red",
        "400 InvalidParameterValue",
        "1",
        "API, DescribeDBClusters: a list of supported filters; others are refused",
    ),
    ("instances with colour red", "400 InvalidParameterValue", "4", "API, DescribeDBInstances: as for clusters"),
    ("clusters, 5 on a page", "400 InvalidParameterValue", "accepted", "API, DescribeDBClusters: MaxRecords, minimum 20, maximum 100"),
    (
        "failover events",
        "[\"Started cross AZ failover to DB instance: orders-3\", \"Completed failover to DB instance: orders-3\", \
         \"Started cross AZ failover to DB instance: orders-1\", \"Completed failover to DB instance: orders-1\"]",
        "[]",
        "User guide of Aurora, event messages: RDS-EVENT-0073 and RDS-EVENT-0071",
    ),
    ("tags of an unknown cluster", "404 DBClusterNotFoundFault", "[]", "API, ListTagsForResource: errors"),
    ("tags of no ARN", "400 InvalidParameterValue", "[]", "API, ListTagsForResource: ResourceName is an ARN"),
];

/// What a service says, by subject.
type Answers = BTreeMap<String, String>;

#[tokio::test]
async fn the_rds_api_says_what_another_implementation_says() {
    let (aurora, alone, peer) = tokio::join!(ours("orders", 3), ours("alone", 1), Peer::start());
    let theirs = client_of(&peer.endpoint);
    create(&theirs, "orders", 3).await;
    create(&theirs, "alone", 1).await;
    let own = answers(&client(&aurora), &client(&alone)).await;
    let other = answers(&theirs, &theirs).await;
    let known: BTreeMap<&str, (&str, &str)> = DIFFERENCES.iter().map(|(subject, ours, theirs, _)| (*subject, (*ours, *theirs))).collect();
    let (own, other) = merge_members(own, other);
    let subjects: BTreeSet<&String> = own.keys().chain(other.keys()).collect();
    let mut unlike = Vec::new();
    for subject in &subjects {
        let said = |answers: &'_ Answers| answers.get(*subject).cloned().unwrap_or_default();
        let (own, other) = (said(&own), said(&other));
        match known.get(subject.as_str()) {
            Some((ours, theirs)) if (own.as_str(), other.as_str()) == (*ours, *theirs) => {}
            None if own == other => {}
            _ => unlike.push(format!("{subject}\n  ours:   {own}\n  theirs: {other}")),
        }
    }
    assert!(unlike.is_empty(), "neither equal nor as the table says:\n{}", unlike.join("\n"));
    assert!(subjects.len() > 60, "{} subjects were compared", subjects.len());
    assert!(known.keys().all(|known| subjects.iter().any(|subject| subject == known)), "the table has what nobody asks any more");
    assert!(DIFFERENCES.iter().all(|(_, _, _, reason)| !reason.is_empty()));
}

/// Puts into one subject for each structure the members that only one of both has.
fn merge_members(own: Answers, other: Answers) -> (Answers, Answers) {
    let only = |one: &Answers, without: &Answers| {
        let mut merged = Answers::new();
        for (subject, value) in one {
            match subject.split_once(" has ") {
                None => drop(merged.insert(subject.clone(), value.clone())),
                Some((structure, member)) => {
                    let members = merged.entry(format!("{structure}: members that the other lacks")).or_default();
                    if !without.contains_key(subject) {
                        members.push_str(&format!("{member} "));
                    }
                }
            }
        }
        merged
    };
    (only(&own, &other), only(&other, &own))
}

async fn ours(identifier: &str, instances: usize) -> Aurora {
    let tags = BTreeMap::from([("durablewrite.dev/drills.test".to_owned(), "shop bank".to_owned())]);
    Aurora::start(AuroraOptions { cluster_identifier: identifier.to_owned(), instances, tags, ..AuroraOptions::default() }).await.unwrap()
}

/// A running MiniStack.
struct Peer {
    endpoint: String,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Peer {
    async fn start() -> Self {
        let program = tokio::task::spawn_blocking(tools::ministack).await.unwrap().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.env("GATEWAY_PORT", port.to_string()).env("BIND_HOST", "127.0.0.1").env("SERVICES", "rds").current_dir(folder.path());
        let mut process = Process::start_command("MiniStack", command, &folder.path().join("log")).unwrap();
        let endpoint = format!("http://127.0.0.1:{port}");
        let client = client_of(&endpoint);
        eventually("MiniStack answers", async || {
            process.check_running().unwrap();
            client.describe_db_clusters().send().await.is_ok()
        })
        .await;
        Self { endpoint, _process: process, _folder: folder }
    }
}

/// What [`ours`] has by itself.
async fn create(client: &Client, cluster: &str, instances: usize) {
    let tag = Tag::builder().key("durablewrite.dev/drills.test").value("shop bank").build();
    let create = client.create_db_cluster().db_cluster_identifier(cluster).engine("aurora-postgresql").engine_version("15.18");
    create.master_username("postgres").master_user_password("not a secret").tags(tag).send().await.unwrap();
    for (number, zone) in (1..=instances).zip(["a", "b", "c"]) {
        let create = client.create_db_instance().db_instance_identifier(format!("{cluster}-{number}")).db_cluster_identifier(cluster);
        let create = create.engine("aurora-postgresql").db_instance_class("db.r6g.large").availability_zone(format!("eu-west-1{zone}"));
        create.promotion_tier(i32::try_from(number).unwrap() - 1).send().await.unwrap();
    }
}

/// Asks a service for all that drills and their operator ask for. `alone` is where the cluster of one instance is.
async fn answers(client: &Client, alone: &Client) -> Answers {
    let mut answers = Answers::new();
    described(client, &mut answers).await;
    lists(client, &mut answers).await;
    tags(client, &mut answers).await;
    events(client, &mut answers).await;
    failovers(client, alone, &mut answers).await;
    answers
}

async fn described(client: &Client, answers: &mut Answers) {
    let cluster = describe(client).await;
    members("DBCluster", &cluster, answers);
    members("DBClusterMember", &cluster.db_cluster_members()[0], answers);
    let mut say = |what: &str, value: String| answers.insert(format!("DBCluster.{what}"), value);
    say("Status", debug(cluster.status()));
    say("Engine", debug(cluster.engine()));
    say("EngineVersion", debug(cluster.engine_version()));
    say("EngineMode", debug(cluster.engine_mode()));
    say("DBClusterArn", debug(cluster.db_cluster_arn()));
    say("DbClusterResourceId", shape(cluster.db_cluster_resource_id()));
    say("MultiAZ", debug(cluster.multi_az()));
    say("AvailabilityZones", debug(cluster.availability_zones()));
    say("TagList", debug(cluster.tag_list()));
    say("DBClusterMembers", debug(cluster.db_cluster_members()));
    let instances = client.describe_db_instances().filters(filter("db-cluster-id", "orders")).send().await.unwrap();
    let mut instances: Vec<&DbInstance> = instances.db_instances().iter().collect();
    instances.sort_by_key(|instance| instance.db_instance_identifier());
    members("DBInstance", instances[0], answers);
    members("Endpoint", instances[0].endpoint().unwrap(), answers);
    for instance in instances {
        let name = instance.db_instance_identifier().unwrap();
        let mut say = |what: &str, value: String| answers.insert(format!("DBInstance {name}.{what}"), value);
        say("DBInstanceStatus", debug(instance.db_instance_status()));
        say("DBInstanceArn", debug(instance.db_instance_arn()));
        say("DBClusterIdentifier", debug(instance.db_cluster_identifier()));
        say("AvailabilityZone", debug(instance.availability_zone()));
        say("PromotionTier", debug(instance.promotion_tier()));
        say("EngineVersion", debug(instance.engine_version()));
        answers.insert("DBInstance.DbiResourceId".to_owned(), shape(instance.dbi_resource_id()));
        answers.insert("DBInstance.StorageType".to_owned(), debug(instance.storage_type()));
    }
}

async fn lists(client: &Client, answers: &mut Answers) {
    let mut say = |what: &str, value: String| answers.insert(what.to_owned(), value);
    let clusters = client.describe_db_clusters();
    let by_name = clusters.clone().db_cluster_identifier("ORDERS").send().await;
    say("a cluster by its name in capitals", outcome(by_name, |found| found.db_clusters().len().to_string()));
    say("an unknown cluster", outcome(clusters.clone().db_cluster_identifier("other").send().await, debug));
    for (name, value) in [("db-cluster-id", "orders"), ("engine", "aurora-postgresql"), ("engine", "neptune"), ("colour", "red")] {
        let found = clusters.clone().filters(filter(name, value)).send().await;
        let orders = |cluster: &&aws_sdk_rds::types::DbCluster| cluster.db_cluster_identifier() == Some("orders");
        say(
            &format!("clusters with {name} {value}"),
            outcome(found, |found| found.db_clusters().iter().filter(orders).count().to_string()),
        );
    }
    say("clusters, 5 on a page", outcome(clusters.max_records(5).send().await, |_| "accepted".to_owned()));
    let instances = client.describe_db_instances();
    say("an unknown instance", outcome(instances.clone().db_instance_identifier("other").send().await, debug));
    for (name, value) in [("db-instance-id", "orders-2"), ("db-cluster-id", "other"), ("colour", "red")] {
        let found = instances.clone().filters(filter(name, value)).send().await;
        say(&format!("instances with {name} {value}"), outcome(found, |found| found.db_instances().len().to_string()));
    }
}

async fn tags(client: &Client, answers: &mut Answers) {
    let arn = describe(client).await.db_cluster_arn().unwrap().to_owned();
    let mut say = |what: &str, value: String| answers.insert(what.to_owned(), value);
    let list = client.list_tags_for_resource();
    let listed = |found: aws_sdk_rds::operation::list_tags_for_resource::ListTagsForResourceOutput| debug(found.tag_list());
    say("tags of the cluster", outcome(list.clone().resource_name(&arn).send().await, listed));
    say("tags of an instance", outcome(list.clone().resource_name(arn.replace("cluster:orders", "db:orders-1")).send().await, listed));
    say("tags of an unknown cluster", outcome(list.clone().resource_name(arn.replace("orders", "other")).send().await, listed));
    say("tags of no ARN", outcome(list.resource_name("orders").send().await, listed));
    let tag = Tag::builder().key("durablewrite.dev/drills.test").value("@all").build();
    client.add_tags_to_resource().resource_name(&arn).tags(tag).send().await.unwrap();
    say("tags after one was changed", debug(describe(client).await.tag_list()));
    client.remove_tags_from_resource().resource_name(&arn).tag_keys("durablewrite.dev/drills.test").send().await.unwrap();
    say("tags after it was removed", debug(describe(client).await.tag_list()));
}

async fn events(client: &Client, answers: &mut Answers) {
    let mut say = |what: &str, value: String| answers.insert(format!("events {what}"), value);
    let accepted = |_| "accepted".to_owned();
    let ask = client.describe_events();
    let now = aws_smithy_types::DateTime::from(std::time::SystemTime::now());
    let before = aws_smithy_types::DateTime::from_secs(now.secs() - 100);
    say("of a source without its type", outcome(ask.clone().source_identifier("orders").send().await, accepted));
    let cluster = ask.clone().source_type(SourceType::DbCluster);
    say("of a cluster", outcome(cluster.clone().source_identifier("orders").send().await, accepted));
    say("of an unknown cluster", outcome(cluster.source_identifier("other").send().await, |found| found.events().len().to_string()));
    say("of no type", outcome(ask.clone().source_type("colour".into()).send().await, accepted));
    say("of 14 days", outcome(ask.clone().duration(20160).send().await, accepted));
    say("of more than 14 days", outcome(ask.clone().duration(20161).send().await, accepted));
    say("that end before they start", outcome(ask.clone().start_time(now).end_time(before).send().await, accepted));
    say("since", outcome(ask.clone().start_time(before).send().await, accepted));
    say("19 on a page", outcome(ask.max_records(19).send().await, accepted));
}

async fn failovers(client: &Client, alone: &Client, answers: &mut Answers) {
    let mut say = |what: &str, value: String| answers.insert(format!("failover {what}"), value);
    let status =
        |answer: aws_sdk_rds::operation::failover_db_cluster::FailoverDbClusterOutput| debug(answer.db_cluster().unwrap().status());
    let call = client.failover_db_cluster().db_cluster_identifier("orders");
    say("of an unknown cluster", outcome(client.failover_db_cluster().db_cluster_identifier("other").send().await, status));
    say("to the writer", outcome(call.clone().target_db_instance_identifier("orders-1").send().await, status));
    say("to an unknown instance", outcome(call.clone().target_db_instance_identifier("orders-9").send().await, status));
    let only = alone.failover_db_cluster().db_cluster_identifier("alone");
    say("without a reader", outcome(only.clone().send().await, status));
    say("to the only instance", outcome(only.target_db_instance_identifier("alone-1").send().await, status));
    say("to a reader", outcome(call.clone().target_db_instance_identifier("orders-3").send().await, status));
    available(client).await;
    say("to a reader: the writer", writer(&describe(client).await).to_owned());
    say("to anyone", outcome(call.send().await, status));
    available(client).await;
    say("to anyone: the writer", writer(&describe(client).await).to_owned());

    let events = client.describe_events().source_type(SourceType::DbCluster).event_categories("failover").send().await.unwrap();
    let told: Vec<&str> = events.events().iter().map(|event| event.message().unwrap()).collect();
    say("events", debug(told));
    // MiniStack tells when an instance was rebooted by a call, the local Aurora when it came back after a failover: an event all the same.
    client.reboot_db_instance().db_instance_identifier("orders-1").send().await.ok();
    let of_instance =
        async || client.describe_events().source_type(SourceType::DbInstance).source_identifier("orders-1").send().await.unwrap();
    eventually("an event of an instance", async || !of_instance().await.events().is_empty()).await;
    let event = of_instance().await.events()[0].clone();
    members("Event", &event, answers);
    let mut say = |what: &str, value: String| answers.insert(format!("Event.{what}"), value);
    say("SourceType", debug(event.source_type()));
    say("SourceArn", debug(event.source_arn()));
    say("Message", debug(event.message()));
    say("EventCategories", debug(event.event_categories()));
    assert!(event.date().unwrap().secs() > jiff::Timestamp::now().as_second() - Duration::from_secs(600).as_secs().cast_signed());
}

/// Which members of a structure have a value with something in it.
fn members(structure: &str, value: &impl Debug, answers: &mut Answers) {
    let text = format!("{value:#?}");
    for member in text.split("\n    ").filter(|line| line.starts_with(|letter: char| letter.is_ascii_lowercase())) {
        let (name, value) = member.split_once(": ").unwrap();
        let value: String =
            text.split_once(&format!("\n    {name}: ")).map_or(value, |(_, rest)| rest).split_whitespace().take(2).collect();
        if !["None,", "Some([],", "Some(\"\","].iter().any(|empty| value.starts_with(empty)) {
            answers.insert(format!("{structure} has {name}"), "yes".to_owned());
        }
    }
}

/// A value, or the code and the HTTP status of a failure.
fn outcome<T, E: ProvideErrorMetadata + Debug>(result: Result<T, SdkError<E>>, say: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(value) => say(value),
        Err(error) => format!("{} {}", error.raw_response().unwrap().status().as_u16(), error.code().unwrap_or_default()),
    }
}

fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

/// What a resource identifier is like.
fn shape(text: Option<&str>) -> String {
    let (kind, random) = text.unwrap().split_once('-').unwrap();
    let upper = random.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    format!("{kind}-, then {} {}", random.len(), if upper { "upper-case letters and digits" } else { "others" })
}

fn debug(value: impl Debug) -> String {
    format!("{value:?}")
}
