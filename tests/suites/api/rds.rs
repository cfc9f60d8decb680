//! The two calls of the RDS API that the operator makes, with answers that a test sets.

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
}

/// A server of the RDS API.
pub(crate) struct Rds {
    address: SocketAddr,
    clusters: Arc<Mutex<Vec<Described>>>,
}

impl Rds {
    /// Starts it in a thread of its own, for all tests.
    pub(crate) fn start() -> Self {
        let clusters = Arc::<Mutex<Vec<Described>>>::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::clone(&clusters);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let answer = async move |body: String| answer(&body, &served.lock().unwrap());
                let router = axum::Router::new().route("/", post(answer));
                axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
            });
        });
        Self { address, clusters }
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

fn answer(body: &str, clusters: &[Described]) -> (StatusCode, String) {
    let action = body.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default();
    let items: String = match action {
        "DescribeDBClusters" => clusters.iter().map(cluster).collect(),
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
    let Described { identifier, engine, instances } = cluster;
    let member = |(index, name): (usize, &String)| {
        let writer = index == 0;
        format!(
            "<DBClusterMember><DBInstanceIdentifier>{name}</DBInstanceIdentifier><IsClusterWriter>{writer}</IsClusterWriter></DBClusterMember>"
        )
    };
    let members: String = instances.iter().enumerate().map(member).collect();
    format!(
        "<DBCluster><DBClusterIdentifier>{identifier}</DBClusterIdentifier><Engine>{engine}</Engine><Endpoint>{identifier}.cluster.example</Endpoint>\
         <Port>5432</Port><DBClusterMembers>{members}</DBClusterMembers></DBCluster>"
    )
}

fn instance(name: &str) -> String {
    format!(
        "<DBInstance><DBInstanceIdentifier>{name}</DBInstanceIdentifier><AvailabilityZone>eu-west-1a</AvailabilityZone>\
         <Endpoint><Address>{name}.example</Address><Port>5432</Port></Endpoint></DBInstance>"
    )
}
