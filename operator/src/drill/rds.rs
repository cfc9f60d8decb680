//! What a drill asks of the RDS API, and the one call that it makes. Reads are retried; the call never is: a second one would fail over again.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_rds::Client;
use aws_sdk_rds::config::retry::RetryConfig;
use aws_sdk_rds::config::timeout::TimeoutConfig;
use aws_sdk_rds::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_rds::operation::describe_db_clusters::DescribeDBClustersError;
use aws_sdk_rds::types::{DbCluster, DbInstance, Event, Filter, SourceType};
use aws_smithy_types::DateTime;
use jiff::Timestamp;

use super::world::{CALL_TIMEOUT, Rds};
use crate::aurora::{denied, is_denied};

/// How long all attempts of a read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(8);
/// The state in which a cluster or an instance can be used.
pub(super) const AVAILABLE: &str = "available";

/// An Aurora cluster, or a cluster of another engine that answers in the same API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AuroraCluster {
    pub(super) identifier: String,
    pub(super) resource_id: String,
    pub(super) engine: String,
    pub(super) engine_version: String,
    pub(super) status: String,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) instances: Vec<Instance>,
}

/// One instance of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) writer: bool,
    /// The lowest is promoted first.
    pub(super) tier: Option<i32>,
    pub(super) zone: Option<String>,
    pub(super) status: String,
}

impl AuroraCluster {
    /// The instance that RDS calls the writer.
    pub(super) fn writer(&self) -> Option<&str> {
        self.instances.iter().find(|instance| instance.writer).map(|instance| instance.name.as_str())
    }

    pub(super) fn is_available(&self) -> bool {
        self.status == AVAILABLE
    }
}

/// An event of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClusterEvent {
    pub(super) at: Timestamp,
    pub(super) kind: EventKind,
    pub(super) message: String,
}

/// What an event of a failover says. The API gives no code, only its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    /// RDS-EVENT-0072 or 0073: a failover to this instance has begun.
    Started(Option<String>),
    /// RDS-EVENT-0071.
    Completed,
    /// RDS-EVENT-0070.
    PreviousWriterPromoted,
    /// RDS-EVENT-0069.
    Failed,
    Other,
}

impl EventKind {
    fn parse(message: &str) -> Self {
        let text = message.to_ascii_lowercase();
        let to = || message.rsplit_once("DB instance: ").map(|(_, name)| name.trim().trim_end_matches('.').to_owned());
        if text.contains("previous primary") || text.contains("previous writer") {
            Self::PreviousWriterPromoted
        } else if text.contains("failover failed") {
            Self::Failed
        } else if text.starts_with("completed") && text.contains("failover") {
            Self::Completed
        } else if text.starts_with("started") && text.contains("failover") {
            Self::Started(to())
        } else {
            Self::Other
        }
    }

    /// True for what only happens in a failover.
    pub(super) fn is_failover(&self) -> bool {
        *self != Self::Other
    }

    /// The reason of the observation.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Started(_) => "FailoverStarted",
            Self::Completed => "FailoverCompleted",
            Self::PreviousWriterPromoted => "PreviousWriterPromoted",
            Self::Failed => "FailoverFailed",
            Self::Other => "ClusterEvent",
        }
    }
}

/// What came of the call for a failover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Accepted,
    /// RDS has answered that it does not: nothing has happened.
    Refused(String),
    /// It may have been made, or taken effect.
    Unclear(String),
}

/// The RDS API.
pub(super) struct RdsApi {
    reads: Client,
    call: Client,
}

impl RdsApi {
    pub(super) fn new(client: &Client) -> Self {
        let with = |retry: RetryConfig, timeout: TimeoutConfig| {
            Client::from_conf(client.config().to_builder().retry_config(retry).timeout_config(timeout).build())
        };
        let read = TimeoutConfig::builder().operation_attempt_timeout(READ_TIMEOUT / 2).operation_timeout(READ_TIMEOUT).build();
        let once = TimeoutConfig::builder().operation_attempt_timeout(CALL_TIMEOUT).operation_timeout(CALL_TIMEOUT).build();
        Self { reads: with(RetryConfig::standard(), read), call: with(RetryConfig::disabled(), once) }
    }
}

impl Rds for RdsApi {
    async fn cluster(&self, identifier: &str) -> Result<Option<AuroraCluster>, String> {
        let filter = Filter::builder().name("db-cluster-id").values(identifier).build();
        let clusters = self.reads.describe_db_clusters().db_cluster_identifier(identifier).send();
        let instances = self.reads.describe_db_instances().filters(filter).into_paginator().items().send();
        let (clusters, instances) = futures::join!(clusters, instances.collect::<Result<Vec<_>, _>>());
        let clusters = match clusters {
            Ok(found) => found,
            Err(SdkError::ServiceError(error)) if matches!(error.err(), DescribeDBClustersError::DbClusterNotFoundFault(_)) => {
                return Ok(None);
            }
            Err(error) => return Err(trouble("rds:DescribeDBClusters", &error)),
        };
        let Some(cluster) = clusters.db_clusters().first() else { return Ok(None) };
        Ok(Some(parse_cluster(cluster, &instances.map_err(|error| trouble("rds:DescribeDBInstances", &error))?)))
    }

    async fn events(&self, identifier: &str, since: Timestamp) -> Result<Vec<ClusterEvent>, String> {
        let events = self
            .reads
            .describe_events()
            .source_identifier(identifier)
            .source_type(SourceType::DbCluster)
            .start_time(DateTime::from_secs(since.as_second()))
            .end_time(DateTime::from_secs(Timestamp::now().as_second() + 60))
            .into_paginator()
            .items()
            .send()
            .collect::<Result<Vec<_>, _>>()
            .await
            .map_err(|error| trouble("rds:DescribeEvents", &error))?;
        Ok(events.iter().filter_map(parse_event).collect())
    }

    async fn fail_over(&self, identifier: &str, target: &str) -> Answer {
        let call = self.call.failover_db_cluster().db_cluster_identifier(identifier).target_db_instance_identifier(target).send();
        match call.await {
            Ok(_) => Answer::Accepted,
            Err(SdkError::ServiceError(error)) => {
                let status = error.raw().status().as_u16();
                match error.err().code() {
                    // RDS itself has answered, also when it throttles: nothing was begun.
                    Some(code) if (400..500).contains(&status) && status != 408 => Answer::Refused(refusal(code, error.err().message())),
                    code => Answer::Unclear(format!("the answer was {status} {}", code.unwrap_or("without a code"))),
                }
            }
            Err(error) => Answer::Unclear(DisplayErrorContext(error).to_string()),
        }
    }
}

/// Why the call was refused. What AWS says of a right that is missing names account and role, which are not the tenant's to know.
fn refusal(code: &str, message: Option<&str>) -> String {
    if is_denied(code) {
        return denied(code, "rds:FailoverDBCluster under the condition of the cluster's tag");
    }
    format!("{code}: {}", message.unwrap_or("without a message"))
}

fn trouble<E: ProvideErrorMetadata + std::error::Error + 'static, R: std::fmt::Debug + 'static>(
    right: &str,
    error: &SdkError<E, R>,
) -> String {
    match error {
        SdkError::ServiceError(service) => match service.err().code() {
            Some(code) if is_denied(code) => denied(code, right),
            code => format!("the RDS API refused {right} with {}", code.unwrap_or("an unknown error")),
        },
        _ => {
            "the RDS API does not answer: check the operator's network, its AWS credentials, aws.region and aws.endpointUrl.rds".to_owned()
        }
    }
}

fn parse_cluster(cluster: &DbCluster, instances: &[DbInstance]) -> AuroraCluster {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let mut members: Vec<_> = cluster
        .db_cluster_members()
        .iter()
        .filter_map(|member| {
            let name = member.db_instance_identifier()?;
            let described = instances.iter().find(|instance| instance.db_instance_identifier() == Some(name));
            Some(Instance {
                name: name.to_owned(),
                writer: member.is_cluster_writer() == Some(true),
                tier: member.promotion_tier(),
                zone: described.and_then(DbInstance::availability_zone).map(str::to_owned),
                status: text(described.and_then(DbInstance::db_instance_status)),
            })
        })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    AuroraCluster {
        identifier: text(cluster.db_cluster_identifier()),
        resource_id: text(cluster.db_cluster_resource_id()),
        engine: text(cluster.engine()),
        engine_version: text(cluster.engine_version()),
        status: text(cluster.status()),
        tags: cluster.tag_list().iter().filter_map(|tag| Some((tag.key()?.to_owned(), text(tag.value())))).collect(),
        instances: members,
    }
}

fn parse_event(event: &Event) -> Option<ClusterEvent> {
    let date = event.date()?;
    let at = Timestamp::new(date.secs(), i32::try_from(date.subsec_nanos()).ok()?).ok()?;
    let message = event.message().unwrap_or_default().to_owned();
    Some(ClusterEvent { at, kind: EventKind::parse(&message), message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart_by_their_text() {
        let started = |name: &str| EventKind::Started(Some(name.to_owned()));
        for (message, kind) in [
            ("Started same AZ failover to DB instance: orders-2", started("orders-2")),
            ("Started cross AZ failover to DB instance: orders-3", started("orders-3")),
            ("Completed failover to DB instance: orders-2", EventKind::Completed),
            ("Promoting previous primary again: orders-1", EventKind::PreviousWriterPromoted),
            ("Cluster failover failed, check the health of your cluster instances and try again.", EventKind::Failed),
            ("A new reader was added", EventKind::Other),
        ] {
            assert_eq!(EventKind::parse(message), kind, "{message}");
        }
    }

    #[test]
    fn a_right_that_is_missing_is_told_without_account_and_role() {
        let says = "User: arn:aws:sts::123456789012:assumed-role/durable-write/i-1 is not authorized to perform: rds:FailoverDBCluster";
        let told = refusal("AccessDenied", Some(says));
        assert!(told.contains("allow its identity rds:FailoverDBCluster under the condition") && !told.contains("123456789012"), "{told}");
        assert_eq!(refusal("InvalidDBClusterStateFault", Some("busy")), "InvalidDBClusterStateFault: busy");
    }
}
