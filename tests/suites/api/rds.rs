//! What the operator reads of the RDS API, with answers that a test sets; every other action is refused.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_sdk_rds::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_http_client::{Builder, tls};
use axum::http::StatusCode;
use axum::routing::post;

/// One Aurora cluster: its identifier, engine and instances, the first of which is the writer.
#[derive(Clone)]
pub(crate) struct Described {
    pub(crate) identifier: String,
    pub(crate) engine: &'static str,
    pub(crate) instances: Vec<String>,
    pub(crate) tags: Vec<(String, String)>,
}

/// A server of the RDS API.
pub(crate) struct Rds {
    address: SocketAddr,
    clusters: Arc<Mutex<Vec<Described>>>,
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl Rds {
    /// Starts it in a thread of its own, for all tests.
    pub(crate) fn start() -> Self {
        let clusters = Arc::<Mutex<Vec<Described>>>::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<BTreeSet<String>>>::default();
        let (served, noted) = (Arc::clone(&clusters), Arc::clone(&asked));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let answer = async move |body: String| {
                    noted.lock().unwrap().insert(parameter(&body, "Action").to_owned());
                    answer(&body, &served.lock().unwrap())
                };
                let router = axum::Router::new().route("/", post(answer));
                axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
            });
        });
        Self { address, clusters, asked }
    }

    /// The actions that were asked for so far.
    pub(crate) fn asked(&self) -> BTreeSet<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Describes `cluster` from now on, in place of one of its identifier.
    pub(crate) fn put(&self, cluster: Described) {
        self.remove(&cluster.identifier);
        self.clusters.lock().unwrap().push(cluster);
    }

    pub(crate) fn remove(&self, identifier: &str) {
        self.clusters.lock().unwrap().retain(|cluster| cluster.identifier != identifier);
    }

    pub(crate) fn client(&self) -> aws_sdk_rds::Client {
        let config = aws_sdk_rds::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url(format!("http://{}", self.address))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .http_client(Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build_https())
            .build();
        aws_sdk_rds::Client::from_conf(config)
    }
}

fn parameter<'a>(body: &'a str, name: &str) -> &'a str {
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next().unwrap_or_default()
}

fn answer(body: &str, clusters: &[Described]) -> (StatusCode, String) {
    let (action, identifier) = (parameter(body, "Action"), parameter(body, "DBClusterIdentifier"));
    let items: String = match action {
        "DescribeDBClusters" => {
            clusters.iter().filter(|cluster| identifier.is_empty() || cluster.identifier == identifier).map(cluster).collect()
        }
        "DescribeDBInstances" => clusters.iter().flat_map(|cluster| &cluster.instances).map(|name| instance(name)).collect(),
        other => {
            return (
                StatusCode::BAD_REQUEST,
                format!("<ErrorResponse><Error><Code>InvalidAction</Code><Message>{other}</Message></Error></ErrorResponse>"),
            );
        }
    };
    let list = action.trim_start_matches("Describe");
    (StatusCode::OK, format!("<{action}Response><{action}Result><{list}>{items}</{list}></{action}Result></{action}Response>"))
}

fn cluster(cluster: &Described) -> String {
    let Described { identifier, engine, instances, tags } = cluster;
    let member = |(index, name): (usize, &String)| {
        let writer = index == 0;
        format!(
            "<DBClusterMember><DBInstanceIdentifier>{name}</DBInstanceIdentifier><IsClusterWriter>{writer}</IsClusterWriter></DBClusterMember>"
        )
    };
    let members: String = instances.iter().enumerate().map(member).collect();
    let tags: String = tags.iter().map(|(key, value)| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>")).collect();
    format!(
        "<DBCluster><DBClusterIdentifier>{identifier}</DBClusterIdentifier><Engine>{engine}</Engine><Endpoint>{identifier}.cluster.example</Endpoint>\
         <Port>5432</Port><Status>available</Status><DbClusterResourceId>cluster-{identifier}</DbClusterResourceId>\
         <TagList>{tags}</TagList><DBClusterMembers>{members}</DBClusterMembers></DBCluster>"
    )
}

fn instance(name: &str) -> String {
    format!(
        "<DBInstance><DBInstanceIdentifier>{name}</DBInstanceIdentifier><DBInstanceStatus>available</DBInstanceStatus>\
         <AvailabilityZone>eu-west-1a</AvailabilityZone>\
         <Endpoint><Address>{name}.example</Address><Port>5432</Port></Endpoint></DBInstance>"
    )
}
