//! Which tokens the local Aurora takes: those that the worker makes for this server, this user and now, and no others.

use std::time::{Duration, SystemTime};

use aws_sdk_rds::config::Credentials;
use durable_write_testbed::aurora::AwsIdentity;
use durable_write_testbed::sqs::REGION;
use durable_write_worker::database::iam::token;
use durable_write_worker::database::tls::Endpoint;
use sqlx::ConnectOptions;

use super::support::{run, sqlstate, start};

/// What a token is made of.
#[derive(Clone)]
struct Parts {
    endpoint: Endpoint,
    username: &'static str,
    region: &'static str,
    key: &'static str,
    secret: &'static str,
    session: Option<String>,
    now: SystemTime,
}

impl Parts {
    fn token(&self) -> String {
        let credentials = Credentials::new(self.key, self.secret, self.session.clone(), None, "test");
        token(&self.endpoint, self.username, self.region, &credentials, self.now).unwrap()
    }
}

#[tokio::test]
async fn a_token_is_good_for_one_server_one_user_and_a_quarter_of_an_hour() {
    let (aurora, mut owner) = start().await;
    run(&mut owner, "CREATE ROLE worker LOGIN; GRANT rds_iam TO worker; CREATE ROLE other LOGIN; GRANT rds_iam TO other").await;
    let session = Some("IQoJb3JpZ2luX2Vj//8aCWV1LXdlc3Q+".repeat(40));
    let identity = AwsIdentity { access_key_id: "ASIAPOD".into(), secret_access_key: "tiger".into(), session_token: session.clone() };
    aurora.allow_login(&identity, "worker");
    let of_instance = aurora.writer().unwrap().endpoint;
    let (instance, cluster) = (of_instance.parse::<Endpoint>().unwrap(), aurora.cluster_endpoint().parse::<Endpoint>().unwrap());
    let login = async |username: &str, password: &str| {
        let options = aurora.client_options(&of_instance).unwrap().username(username).password(password);
        options.disable_statement_logging().connect().await
    };
    let good =
        Parts { endpoint: instance, username: "worker", region: REGION, key: "ASIAPOD", secret: "tiger", session, now: SystemTime::now() };
    let (token, minutes) = (good.token(), |minutes: u64| Duration::from_secs(60 * minutes));
    assert!(token.len() > 1500, "no pod has so short a token");
    login("worker", &token).await.unwrap();
    login("worker", &Parts { now: good.now - minutes(14), ..good.clone() }.token()).await.unwrap();
    login("worker", &Parts { endpoint: cluster, ..good.clone() }.token()).await.unwrap();
    assert_eq!(aurora.refused_logins(), [""; 0]);

    let elsewhere = Endpoint { port: 5432, ..good.endpoint.clone() };
    let wrong = [
        ("worker", "it is for 127.0.0.1:5432", Parts { endpoint: elsewhere, ..good.clone() }.token()),
        ("worker", "it is for another user", Parts { username: "other", ..good.clone() }.token()),
        ("other", "ASIAPOD may not be this user", Parts { username: "other", ..good.clone() }.token()),
        ("worker", "it is signed for", Parts { region: "eu-west-2", ..good.clone() }.token()),
        ("worker", "it is of", Parts { now: good.now - minutes(16), ..good.clone() }.token()),
        ("worker", "it is of", Parts { now: good.now + minutes(6), ..good.clone() }.token()),
        ("worker", "ASIAOTHER may not", Parts { key: "ASIAOTHER", ..good.clone() }.token()),
        ("worker", "the signature does not fit", Parts { secret: "lion", ..good.clone() }.token()),
        ("worker", "the session is another", Parts { session: None, ..good.clone() }.token()),
        ("worker", "it is to last for 9000 s", token.replace("X-Amz-Expires=900", "X-Amz-Expires=9000")),
        ("worker", "the signature does not fit", token.replace("X-Amz-Expires=900", "X-Amz-Expires=899")),
        ("worker", "no token", "tiger".to_owned()),
    ];
    for (number, (username, why, token)) in wrong.iter().enumerate() {
        assert_eq!(sqlstate(login(username, token).await.map(drop)), "28000", "{why}");
        let refused = aurora.refused_logins();
        assert_eq!(refused.len(), number + 1);
        assert!(refused[number].contains(why), "{} is not for: {why}", refused[number]);
    }
}
