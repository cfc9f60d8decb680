//! What a drill asks of the RDS API, and the one call that it makes. Reads are retried; the call never is: a second one would fail over again.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_rds::Client;
use aws_sdk_rds::config::retry::RetryConfig;
use aws_sdk_rds::config::timeout::TimeoutConfig;
use aws_sdk_rds::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_rds::operation::describe_db_clusters::DescribeDBClustersError;
use aws_sdk_rds::operation::failover_db_cluster::FailoverDBClusterError;
use aws_sdk_rds::types::{DbCluster, DbInstance, Event, Filter, SourceType};
use aws_smithy_types::DateTime;
use jiff::Timestamp;

use super::world::{CALL_TIMEOUT, Rds};
use crate::aurora::{denied, is_denied, trouble};

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
            Err(error) => {
                tracing::warn!(error = %DisplayErrorContext(&error), "the call for a failover was not accepted");
                answer(&error)
            }
        }
    }
}

/// What came of a call that was not accepted.
fn answer(error: &SdkError<FailoverDBClusterError>) -> Answer {
    let SdkError::ServiceError(service) = error else {
        return Answer::Unclear("the RDS API did not answer the call, or could not be asked: the operator's log says more".to_owned());
    };
    let status = service.raw().status().as_u16();
    match service.err().code() {
        // RDS itself has answered, also when it throttles: nothing was begun.
        Some(code) if (400..500).contains(&status) && status != 408 => Answer::Refused(refusal(code, service.err())),
        code => Answer::Unclear(format!("the answer was {status} {}", code.unwrap_or("without a code"))),
    }
}

/// Why the call was refused: in the words of AWS only where they are about the cluster. Others name account and role, which are not the
/// tenant's to know.
fn refusal(code: &str, error: &FailoverDBClusterError) -> String {
    use FailoverDBClusterError::{DbClusterNotFoundFault, InvalidDbClusterStateFault, InvalidDbInstanceStateFault};
    match error {
        DbClusterNotFoundFault(_) | InvalidDbClusterStateFault(_) | InvalidDbInstanceStateFault(_) => {
            format!("{code}: {}", error.message().unwrap_or("without a message"))
        }
        _ if is_denied(code) => denied(code, "rds:FailoverDBCluster under the condition of the cluster's tag"),
        _ => format!("{code}: the operator's log says more"),
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
    use std::sync::{Arc, Mutex};

    use aws_sdk_rds::config::interceptors::BeforeSerializationInterceptorContextRef;
    use aws_sdk_rds::config::{ConfigBag, Intercept};
    use aws_sdk_rds::error::BoxError;
    use axum::http::StatusCode;

    use super::*;
    use crate::aurora::tests::rds as server;
    use crate::aurora::{Clusters, Lookup};

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

    /// As AWS says it, and the SDK.
    const SAYS: &str = "User: arn:aws:sts::123456789012:assumed-role/durable-write/i-1 is not authorized to perform: rds:FailoverDBCluster";

    /// What comes of the call when RDS answers so; with how often it was made.
    async fn called(status: u16, body: String) -> (Answer, usize) {
        let calls = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&calls);
        let client = server(move |action, _| {
            assert_eq!(action, "FailoverDBCluster");
            *counted.lock().unwrap() += 1;
            (StatusCode::from_u16(status).unwrap(), body.clone())
        });
        let answer = RdsApi::new(&client.await).fail_over("orders", "orders-2").await;
        let calls = *calls.lock().unwrap();
        (answer, calls)
    }

    #[tokio::test]
    async fn what_rds_answers_to_the_call_is_told_apart_without_account_and_role_and_never_asked_twice() {
        let error = |code: &str| format!("<ErrorResponse><Error><Code>{code}</Code><Message>{SAYS}</Message></Error></ErrorResponse>");
        let accepted = "<FailoverDBClusterResponse><FailoverDBClusterResult/></FailoverDBClusterResponse>".to_owned();
        assert_eq!(called(200, accepted).await, (Answer::Accepted, 1));
        for (status, code, told) in [
            (403, "AccessDenied", "the operator may not ask the RDS API (AccessDenied): allow its identity rds:FailoverDBCluster"),
            (400, "Throttling", "Throttling: the operator's log says more"),
            (403, "ExpiredToken", "ExpiredToken: the operator's log says more"),
        ] {
            let (Answer::Refused(why), 1) = called(status, error(code)).await else { panic!("{status} {code}") };
            assert!(why.starts_with(told) && !why.contains("arn:"), "{why}");
        }
        for (status, code) in [(404, "DBClusterNotFoundFault"), (400, "InvalidDBClusterStateFault"), (400, "InvalidDBInstanceState")] {
            assert_eq!(called(status, error(code)).await, (Answer::Refused(format!("{code}: {SAYS}")), 1), "in RDS's own words");
        }
        for (status, body) in [
            (500, error("InternalFailure")),
            (503, error("ServiceUnavailable")),
            (408, error("RequestTimeout")),
            (400, "<html>a proxy</html>".to_owned()),
            (200, "<html>a proxy</html>".to_owned()),
        ] {
            let (Answer::Unclear(why), 1) = called(status, body).await else { panic!("{status}") };
            assert!(!why.contains("arn:") && !why.contains("html"), "{why}");
        }
    }

    /// Fails each request before it is sent, as missing credentials do.
    #[derive(Debug)]
    struct NoCredentials;

    impl Intercept for NoCredentials {
        fn name(&self) -> &'static str {
            "NoCredentials"
        }

        fn read_before_execution(&self, _: &BeforeSerializationInterceptorContextRef<'_>, _: &mut ConfigBag) -> Result<(), BoxError> {
            Err(SAYS.into())
        }
    }

    #[tokio::test]
    async fn what_the_sdk_says_of_the_operators_identity_is_for_its_log_only() {
        let client = server(|_, _| (StatusCode::OK, String::new())).await;
        let client = Client::from_conf(client.config().to_builder().interceptor(NoCredentials).build());
        let rds = RdsApi::new(&client);
        let Answer::Unclear(called) = rds.fail_over("orders", "orders-2").await else { panic!() };
        let told = [called, rds.cluster("orders").await.unwrap_err(), rds.events("orders", Timestamp::UNIX_EPOCH).await.unwrap_err()];
        for told in told {
            assert!(!told.contains("arn:") && told.contains("log says more"), "{told}");
        }
        let Lookup::Unknown(told) = Clusters::new(client).find("orders").await else { panic!() };
        assert!(!told.contains("arn:") && told.contains("AWS credentials"), "{told}");
    }
}
