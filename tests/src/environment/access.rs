//! How database and queues are reached, from this machine and from pods alike.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_sdk_rds::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_rds::error::DisplayErrorContext;
use aws_smithy_http_client::Builder;
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, PgConnection};

use crate::sqs::{self, REGION};
use crate::wait;

/// A failover of the local Aurora takes seconds.
const FAIL_OVER: Duration = Duration::from_secs(60);

/// Endpoints and credentials of the local Aurora and the local SQS.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Access {
    /// The address of this machine that pods reach.
    pub address: IpAddr,
    /// URL of SQS.
    pub sqs: String,
    /// URL of the RDS API.
    pub rds: String,
    /// The identifier of the Aurora cluster.
    pub aurora: String,
    /// `host:port` of the cluster endpoint.
    pub endpoint: String,
    /// The superuser of the database.
    pub username: String,
    /// Of the superuser.
    pub password: String,
    /// The certificate authority of the database, PEM.
    pub ca: String,
}

/// An instance and its role, as the RDS API describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The instance's identifier.
    pub instance: String,
    /// `host:port` of its endpoint.
    pub endpoint: String,
    /// Its availability zone.
    pub zone: String,
    /// Whether it is the writer.
    pub writer: bool,
}

impl Access {
    /// A client of SQS.
    #[must_use]
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        sqs::client(&self.sqs)
    }

    /// A client of the RDS API: the unchanged AWS SDK.
    #[must_use]
    pub fn rds(&self) -> aws_sdk_rds::Client {
        let configuration = aws_sdk_rds::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::from_static(REGION))
            .credentials_provider(Credentials::new("testbed", "testbed", None, None, "testbed"))
            .endpoint_url(&self.rds)
            .http_client(Builder::new().build_http())
            .build();
        aws_sdk_rds::Client::from_conf(configuration)
    }

    /// The roles of all instances.
    ///
    /// # Errors
    /// The RDS API does not answer as documented.
    pub async fn roles(&self) -> anyhow::Result<Vec<Role>> {
        let rds = self.rds();
        let (clusters, instances) =
            tokio::try_join!(async { Ok(rds.describe_db_clusters().db_cluster_identifier(&self.aurora).send().await?) }, async {
                anyhow::Ok(rds.describe_db_instances().send().await?)
            })
            .context("ask the RDS API for roles")?;
        let cluster = clusters.db_clusters().first().with_context(|| format!("no cluster {}", self.aurora))?;
        let members = cluster.db_cluster_members().iter().filter(|member| member.is_cluster_writer() == Some(true));
        let writers: Vec<_> = members.filter_map(|member| member.db_instance_identifier()).collect();
        let role = |instance: &aws_sdk_rds::types::DbInstance| {
            let (name, endpoint) = (instance.db_instance_identifier()?, instance.endpoint()?);
            Some(Role {
                instance: name.to_owned(),
                endpoint: format!("{}:{}", endpoint.address()?, endpoint.port()?),
                zone: instance.availability_zone().unwrap_or_default().to_owned(),
                writer: writers.contains(&name),
            })
        };
        let instances = instances.db_instances().iter().filter(|instance| instance.db_cluster_identifier() == Some(&self.aurora));
        Ok(instances.filter_map(role).collect())
    }

    /// The identifier of the writer.
    ///
    /// # Errors
    /// The RDS API does not answer, or names no writer.
    pub async fn writer(&self) -> anyhow::Result<Role> {
        let Some(writer) = self.roles().await?.into_iter().find(|role| role.writer) else { bail!("the RDS API names no writer") };
        Ok(writer)
    }

    /// Calls `FailoverDBCluster` as a person would, and waits until another instance is the writer, which it returns.
    ///
    /// # Errors
    /// The call is refused, or the writer stays.
    pub async fn fail_over(&self) -> anyhow::Result<Role> {
        let old = self.writer().await?;
        let call = self.rds().failover_db_cluster().db_cluster_identifier(&self.aurora).send().await;
        call.map_err(|error| anyhow::anyhow!("FailoverDBCluster: {}", DisplayErrorContext(error)))?;
        let what = format!("another writer than {}; the log of the local Aurora may say why there is none", old.instance);
        wait::until(&what, FAIL_OVER, async || {
            let writer = self.writer().await?;
            if writer.instance == old.instance { bail!("{} is still the writer", old.instance) } else { Ok(writer) }
        })
        .await
    }

    /// A connection of the superuser to the writer, over TLS, everything verified.
    ///
    /// # Errors
    /// There is no writer that accepts a connection.
    pub async fn connect(&self, database: &str) -> anyhow::Result<PgConnection> {
        let writer = self.writer().await?;
        let (host, port) = host_and_port(&writer.endpoint)?;
        let options = PgConnectOptions::new_without_pgpass().host(host).port(port).database(database);
        let options = options.username(&self.username).password(&self.password);
        let options = options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert_from_pem(self.ca.clone().into_bytes());
        options.disable_statement_logging().connect().await.with_context(|| format!("connect to the writer {}", writer.instance))
    }
}

/// The parts of `host:port`.
pub(crate) fn host_and_port(endpoint: &str) -> anyhow::Result<(&str, u16)> {
    let parts = endpoint.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    parts.with_context(|| format!("{endpoint} is no host:port"))
}
