//! The Aurora clusters of the operator's account and region, as the RDS API describes them: asked once per interval for all pipelines,
//! and only while a pipeline wants to know. Reads only. When RDS does not answer, what was known stays.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_rds::Client;
use aws_sdk_rds::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_rds::types::{DbCluster, DbInstance};
use durable_write_crds::wire::{Topology, TopologyInstance};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The engine that pipelines write to; Neptune, DocumentDB and Aurora MySQL answer in the same API.
pub(crate) const ENGINE: &str = "aurora-postgresql";
/// What the operator's identity needs for it.
const RIGHTS: &str = "rds:DescribeDBClusters and rds:DescribeDBInstances";
/// How long an answer is used.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long an answer is waited for.
const DEADLINE: Duration = Duration::from_secs(8);

/// What is known of one identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The cluster.
    Found(Cluster),
    /// RDS has answered, and no such cluster is there.
    Missing,
    /// The cluster is of this other engine.
    OtherEngine(String),
    /// RDS has not answered since the operator started; the text says why.
    Unknown(String),
}

/// An Aurora PostgreSQL cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// The cluster endpoint, `host:port`.
    pub(crate) endpoint: String,
    /// Its resource identifier, `cluster-…`.
    pub(crate) resource_id: Option<String>,
    /// The instances, by name.
    pub(crate) members: Vec<Member>,
}

/// One instance of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// `host:port`; none while the instance is being made.
    pub(crate) endpoint: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) writer: bool,
}

impl Cluster {
    /// What the workers are told. Roles are not in it, so that a failover changes nothing.
    pub(crate) fn topology(&self) -> Topology {
        let instance = |member: &Member| Some(TopologyInstance { name: member.name.clone(), endpoint: member.endpoint.clone()? });
        Topology {
            writer: self.endpoint.clone(),
            instances: self.members.iter().filter_map(instance).collect(),
            resource_id: self.resource_id.clone(),
        }
    }
}

/// The clusters of an account and region.
pub(crate) struct Clusters {
    client: Client,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    asked: Option<Instant>,
    clusters: Option<HashMap<String, Lookup>>,
    trouble: Option<String>,
}

impl Clusters {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// What is known of `identifier`, asking RDS when the last answer is too old.
    pub(crate) async fn find(&self, identifier: &str) -> Lookup {
        let mut known = self.known.lock().await;
        if known.asked.is_none_or(|asked| asked.elapsed() >= INTERVAL) {
            known.refresh(&self.client).await;
        }
        match (&known.clusters, &known.trouble) {
            (Some(clusters), _) => clusters.get(identifier).cloned().unwrap_or(Lookup::Missing),
            (None, trouble) => Lookup::Unknown(trouble.clone().unwrap_or_default()),
        }
    }
}

impl Known {
    async fn refresh(&mut self, client: &Client) {
        match tokio::time::timeout(DEADLINE, describe(client)).await.unwrap_or_else(|_| Err(silent())) {
            Ok(clusters) => {
                self.clusters = Some(clusters);
                self.trouble = None;
            }
            Err(trouble) => {
                tracing::warn!(%trouble, "the RDS API was asked for Aurora clusters in vain; what is known stays in use");
                self.trouble = Some(trouble);
            }
        }
        self.asked = Some(Instant::now());
    }
}

/// Asks for all clusters and instances; the error says what to do.
async fn describe(client: &Client) -> Result<HashMap<String, Lookup>, String> {
    let clusters = client.describe_db_clusters().into_paginator().items().send();
    let instances = client.describe_db_instances().into_paginator().items().send();
    let (clusters, instances) = futures::join!(clusters.collect::<Result<Vec<_>, _>>(), instances.collect::<Result<Vec<_>, _>>());
    let clusters = clusters.map_err(|error| trouble(RIGHTS, &error))?;
    let instances = instances.map_err(|error| trouble(RIGHTS, &error))?;
    Ok(index(&clusters, &instances))
}

fn silent() -> String {
    format!("the RDS API did not answer within {} s: check the operator's network and aws.endpointUrl.rds", DEADLINE.as_secs())
}

/// Why a read failed, and what to do. What the SDK says in full names accounts, roles and endpoints, which are not the tenants' to know: that is
/// for the log.
pub(crate) fn trouble<E: ProvideErrorMetadata + std::error::Error + 'static, R: std::fmt::Debug + 'static>(
    rights: &str,
    error: &SdkError<E, R>,
) -> String {
    tracing::warn!(error = %DisplayErrorContext(error), rights, "the RDS API was asked in vain");
    match error {
        SdkError::ServiceError(service) => match service.err().code() {
            Some(code) if is_denied(code) => denied(code, rights),
            code => format!("the RDS API refused {rights} with {}", code.unwrap_or("an unknown error")),
        },
        _ => "the operator cannot ask the RDS API: check its network, its AWS credentials, aws.region and aws.endpointUrl.rds; its log says more"
            .to_owned(),
    }
}

/// True for the codes with which AWS says that a right is missing.
pub(crate) fn is_denied(code: &str) -> bool {
    matches!(code, "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation")
}

/// What to do when AWS says with this code that these rights are missing.
pub(crate) fn denied(code: &str, rights: &str) -> String {
    format!("the operator may not ask the RDS API ({code}): allow its identity {rights}")
}

fn index(clusters: &[DbCluster], instances: &[DbInstance]) -> HashMap<String, Lookup> {
    let instances: HashMap<_, _> = instances.iter().filter_map(|instance| Some((instance.db_instance_identifier()?, instance))).collect();
    clusters.iter().filter_map(|cluster| Some((cluster.db_cluster_identifier()?.to_owned(), lookup(cluster, &instances)))).collect()
}

fn lookup(cluster: &DbCluster, instances: &HashMap<&str, &DbInstance>) -> Lookup {
    match (cluster.engine(), cluster.endpoint(), cluster.port()) {
        (Some(engine), ..) if engine != ENGINE => Lookup::OtherEngine(engine.to_owned()),
        (_, Some(host), Some(port)) => {
            let mut members: Vec<_> = cluster
                .db_cluster_members()
                .iter()
                .filter_map(|member| {
                    let name = member.db_instance_identifier()?;
                    let instance = instances.get(name);
                    let endpoint = instance.and_then(|instance| instance.endpoint());
                    let endpoint = endpoint.and_then(|endpoint| Some(format!("{}:{}", endpoint.address()?, endpoint.port()?)));
                    let zone = instance.and_then(|instance| instance.availability_zone()).map(str::to_owned);
                    Some(Member { name: name.to_owned(), endpoint, zone, writer: member.is_cluster_writer() == Some(true) })
                })
                .collect();
            members.sort_by(|a, b| a.name.cmp(&b.name));
            let resource_id = cluster.db_cluster_resource_id().map(str::to_owned);
            Lookup::Found(Cluster { endpoint: format!("{host}:{port}"), resource_id, members })
        }
        _ => Lookup::Unknown("the Aurora cluster has no endpoint yet: it is still being made".to_owned()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex as StdMutex};

    use aws_sdk_rds::config::retry::RetryConfig;
    use aws_sdk_rds::config::{BehaviorVersion, Credentials, Region};
    use aws_smithy_http_client::{Builder, tls};
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::post;

    use super::*;

    /// An RDS API that gives those answers in turn, by action.
    pub(crate) async fn rds(answer: impl Fn(&str, Option<&str>) -> (StatusCode, String) + Clone + Send + Sync + 'static) -> Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler = async move |body: String| {
            let value = |key: &str| body.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            answer(value("Action").unwrap_or_default(), value("Marker"))
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(handler))).await.unwrap() });
        let config = aws_sdk_rds::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url(format!("http://{address}"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .http_client(Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build_https())
            .build();
        Client::from_conf(config)
    }

    /// Two clusters on two pages, and the instances of the first, of which one is still being made.
    fn pages(action: &str, marker: Option<&str>) -> (StatusCode, String) {
        let result = match (action, marker) {
            ("DescribeDBClusters", None) => {
                "<DBClusters><DBCluster><DBClusterIdentifier>orders</DBClusterIdentifier><Engine>aurora-postgresql</Engine>\
                 <Endpoint>orders.example</Endpoint><Port>5432</Port><DbClusterResourceId>cluster-ABC</DbClusterResourceId><DBClusterMembers>\
                 <DBClusterMember><DBInstanceIdentifier>orders-2</DBInstanceIdentifier><IsClusterWriter>false</IsClusterWriter></DBClusterMember>\
                 <DBClusterMember><DBInstanceIdentifier>orders-1</DBInstanceIdentifier><IsClusterWriter>true</IsClusterWriter></DBClusterMember>\
                 </DBClusterMembers></DBCluster></DBClusters><Marker>next</Marker>"
            }
            ("DescribeDBClusters", Some(_)) => {
                "<DBClusters><DBCluster><DBClusterIdentifier>graph</DBClusterIdentifier><Engine>neptune</Engine></DBCluster></DBClusters>"
            }
            _ => {
                "<DBInstances><DBInstance><DBInstanceIdentifier>orders-1</DBInstanceIdentifier><AvailabilityZone>eu-west-1a</AvailabilityZone>\
                 <Endpoint><Address>orders-1.example</Address><Port>5432</Port></Endpoint></DBInstance>\
                 <DBInstance><DBInstanceIdentifier>orders-2</DBInstanceIdentifier></DBInstance></DBInstances>"
            }
        };
        (StatusCode::OK, format!("<{action}Response><{action}Result>{result}</{action}Result></{action}Response>"))
    }

    #[tokio::test]
    async fn all_pages_are_read_and_engines_told_apart() {
        let clusters = Clusters::new(rds(pages).await);
        let Lookup::Found(cluster) = clusters.find("orders").await else { panic!("not found") };
        assert_eq!(
            cluster.members.iter().map(|member| (member.name.as_str(), member.writer)).collect::<Vec<_>>(),
            [("orders-1", true), ("orders-2", false)]
        );
        let topology = cluster.topology();
        assert_eq!((topology.writer.as_str(), topology.resource_id.as_deref()), ("orders.example:5432", Some("cluster-ABC")));
        assert_eq!(topology.instances, [TopologyInstance { name: "orders-1".to_owned(), endpoint: "orders-1.example:5432".to_owned() }]);
        assert_eq!(clusters.find("graph").await, Lookup::OtherEngine("neptune".to_owned()));
        assert_eq!(clusters.find("other").await, Lookup::Missing);
    }

    #[tokio::test]
    async fn one_answer_serves_all_pipelines_of_an_interval() {
        let calls = Arc::new(StdMutex::new(0));
        let counted = Arc::clone(&calls);
        let counting = move |action: &str, marker: Option<&str>| {
            *counted.lock().unwrap() += 1;
            pages(action, marker)
        };
        let clusters = Clusters::new(rds(counting).await);
        for _ in 0..100 {
            clusters.find("orders").await;
        }
        assert_eq!(*calls.lock().unwrap(), 3);
    }

    #[tokio::test]
    async fn a_missing_right_is_named_and_what_was_known_stays() {
        let denied = |_: &str, _: Option<&str>| {
            (
                StatusCode::FORBIDDEN,
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>".to_owned(),
            )
        };
        let denying = rds(denied).await;
        let mut known = Known::default();
        known.refresh(&denying).await;
        assert!(known.trouble.as_ref().unwrap().contains("rds:DescribeDBClusters"), "{:?}", known.trouble);
        known.refresh(&rds(pages).await).await;
        assert!(known.trouble.is_none());
        known.refresh(&denying).await;
        assert!(known.clusters.unwrap().contains_key("orders"));
    }
}
