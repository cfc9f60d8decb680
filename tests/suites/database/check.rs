//! `check` names what is wrong and what to do, and touches nothing.

use std::path::Path;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use durable_write_crds::DurableWritePipeline;
use durable_write_testbed::aurora::{Aurora, AuroraOptions, AwsIdentity};
use durable_write_testbed::sqs::{QueueOptions, REGION, Sqs, create_queue, create_queue_with_dead_letters};
use durable_write_worker::check::{Finding, Verdict, examine};
use durable_write_worker::manifest::{self, Mounts};
use durable_write_worker::schema;

use super::support::{connect, run, start, write_file};

/// A pipeline into `shop.orders` that fills `id` and `amount`.
pub fn manifest(queue: &str, database: &str) -> DurableWritePipeline {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "apiVersion: durablewrite.dev/v1alpha1
kind: DurableWritePipeline
metadata: {{name: orders}}
spec:
  queue: {{name: {queue}}}
  database: {database}
  target:
    table: {{schema: shop, name: orders}}
    columns: [{{name: id, from: {{body: /id}}}}, {{name: amount, from: {{body: /amount}}}}]
  idempotency: {{targetKey: {{columns: [id]}}}}
"
    );
    write_file(folder.path(), "pipeline.yaml", &text);
    manifest::load(&folder.path().join("pipeline.yaml")).unwrap()
}

const AURORA: &str = "{aurora: {clusterIdentifier: orders}, name: postgres, credentials: {secretRef: {name: orders-db}}, \
                      tls: {ca: {configMapKeyRef: {name: ca, key: ca.pem}}}}";

async fn aws(sqs: &Sqs) -> SdkConfig {
    let credentials = aws_sdk_sqs::config::Credentials::new("test", "test", None, None, "test");
    let http = aws_smithy_http_client::Builder::new().build_http();
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).region(Region::new(REGION)).credentials_provider(credentials);
    loader.http_client(http).endpoint_url(sqs.endpoint()).load().await
}

/// Fills the pods' layout as the operator and the user would.
fn mount(folder: &Path, aurora: &Aurora) {
    write_file(folder, "secrets/orders-db/username", "worker\n");
    write_file(folder, "secrets/orders-db/password", "tiger\n");
    write_file(folder, "configmaps/ca/ca.pem", aurora.ca_pem());
    let instances = aurora.instances();
    let instances: Vec<String> = instances.iter().map(|one| format!("- {{name: {}, endpoint: '{}'}}", one.name, one.endpoint)).collect();
    let (writer, instances, resource_id) = (aurora.cluster_endpoint(), instances.join("\n"), aurora.resource_id());
    write_file(folder, "topology/topology.yaml", &format!("writer: {writer}\ninstances:\n{instances}\nresourceId: {resource_id}\n"));
}

struct Ground {
    aurora: Aurora,
    sqs: Sqs,
    folder: tempfile::TempDir,
}

impl Ground {
    async fn start() -> Self {
        let addresses = [std::net::Ipv4Addr::LOCALHOST.into()];
        let (aurora, sqs) = tokio::join!(Aurora::start(AuroraOptions::default()), Sqs::start(&addresses, 0));
        let ground = Self { aurora: aurora.unwrap(), sqs: sqs.unwrap(), folder: tempfile::tempdir().unwrap() };
        mount(ground.folder.path(), &ground.aurora);
        let mut owner = connect(&ground.aurora).await;
        run(
            &mut owner,
            "CREATE ROLE worker LOGIN PASSWORD 'tiger'; CREATE SCHEMA shop; CREATE TABLE shop.orders (id bigint PRIMARY KEY, amount numeric(10,2));
             GRANT USAGE ON SCHEMA shop TO worker; GRANT INSERT, SELECT (id) ON shop.orders TO worker",
        )
        .await;
        create_queue_with_dead_letters(&ground.sqs.client(), "orders", 100).await.unwrap();
        ground
    }

    async fn examine(&self, pipeline: &DurableWritePipeline) -> Vec<Finding> {
        examine(pipeline, &Mounts::new(self.folder.path(), None), &aws(&self.sqs).await, false).await.0
    }

    /// What fails, as it is printed.
    async fn failures(&self, pipeline: &DurableWritePipeline) -> String {
        lines(&self.examine(pipeline).await, Verdict::Fail)
    }
}

fn lines(findings: &[Finding], verdict: Verdict) -> String {
    findings.iter().filter(|finding| finding.verdict == verdict).map(|finding| format!("{finding}\n")).collect()
}

#[tokio::test]
async fn a_pipeline_that_works_has_no_fault_and_its_policy_is_printed() {
    let ground = Ground::start().await;
    let pipeline = manifest("orders", AURORA);
    let (findings, policy) = examine(&pipeline, &Mounts::new(ground.folder.path(), None), &aws(&ground.sqs).await, false).await;
    assert_eq!(lines(&findings, Verdict::Fail) + &lines(&findings, Verdict::Warn), "");
    let well = lines(&findings, Verdict::Ok);
    for expected in [
        "leads to orders-1, which is the writer",
        "leads to orders-2, which is a reader",
        "can be written: 2 columns",
        "queue: orders is there: standard",
        "orders-dlq is there",
    ] {
        assert!(well.contains(expected), "{well} does not say {expected:?}");
    }
    assert!(policy["Statement"][0]["Resource"].as_str().unwrap().ends_with(":orders"), "{policy}");
    assert!(policy["Statement"][1]["Resource"].as_str().unwrap().ends_with(":orders-dlq"), "{policy}");
    let mut owner = connect(&ground.aurora).await;
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM shop.orders").fetch_one(&mut owner).await.unwrap();
    assert_eq!(count, 0, "nothing was written");
}

#[tokio::test]
async fn each_fault_is_named_with_what_to_do() {
    let ground = Ground::start().await;
    let folder = ground.folder.path();
    let pipeline = manifest("orders", AURORA);
    let mut owner = connect(&ground.aurora).await;
    let broken = async |expected: &[&str]| {
        let said = ground.failures(&pipeline).await;
        assert!(expected.iter().all(|expected| said.contains(expected)), "{said} does not say {expected:?}");
        assert!(!said.contains("tiger") && !said.contains("lion"), "{said} shows a password");
    };

    write_file(folder, "secrets/orders-db/password", "lion");
    broken(&["FAIL database.credentials: ", "(SQLSTATE 28P01)", "correct user name and password"]).await;
    std::fs::remove_file(folder.join("secrets/orders-db/password")).unwrap();
    broken(&["FAIL database.credentials.secretRef: the Secret orders-db or its key password is missing", "kubectl create secret"]).await;
    write_file(folder, "secrets/orders-db/password", "tiger");

    let (other, _) = start().await;
    write_file(folder, "configmaps/ca/ca.pem", other.ca_pem());
    broken(&["FAIL database.tls: ", "no authority that is trusted issued the server's certificate"]).await;
    write_file(folder, "configmaps/ca/ca.pem", ground.aurora.ca_pem());

    run(&mut owner, "ALTER TABLE shop.orders RENAME COLUMN amount TO price").await;
    broken(&["FAIL target.columns[amount]: \"shop\".\"orders\" has no such column", "the table has id, price"]).await;
    run(&mut owner, "ALTER TABLE shop.orders RENAME COLUMN price TO amount; ALTER TABLE shop.orders DROP CONSTRAINT orders_pkey").await;
    broken(&["FAIL idempotency.targetKey.columns: no unique index", "run CREATE UNIQUE INDEX ON \"shop\".\"orders\" (\"id\")"]).await;
    run(&mut owner, "ALTER TABLE shop.orders ADD PRIMARY KEY (id); REVOKE INSERT ON shop.orders FROM worker").await;
    broken(&[
        "FAIL target.columns: the user worker may not do this: run GRANT INSERT (\"id\", \"amount\") ON \"shop\".\"orders\" TO \"worker\"",
    ])
    .await;
    run(&mut owner, "GRANT INSERT ON shop.orders TO worker; ALTER ROLE worker SET synchronous_commit = off").await;
    broken(&["FAIL database: synchronous_commit is off"]).await;
    run(&mut owner, "ALTER ROLE worker RESET synchronous_commit; ALTER TABLE shop.orders RENAME TO other").await;
    broken(&["FAIL target.table: there is no table \"shop\".\"orders\""]).await;
    run(&mut owner, "ALTER TABLE shop.other RENAME TO orders").await;

    assert_eq!(ground.failures(&pipeline).await, "", "all is mended");
    let database = |name| AURORA.replace("name: postgres", name);
    assert!(ground.failures(&manifest("orders", &database("name: shops"))).await.contains("FAIL database.name: "));
}

#[tokio::test]
async fn a_login_by_iam_is_tried_at_every_server_and_its_right_stands_in_the_policy() {
    let ground = Ground::start().await;
    std::fs::remove_dir_all(ground.folder.path().join("secrets")).unwrap();
    let pipeline = manifest("orders", &AURORA.replace("{secretRef: {name: orders-db}}", "{iam: {username: worker}}"));
    let mut owner = connect(&ground.aurora).await;
    schema::apply(&mut owner, &pipeline.spec, "worker").await.unwrap();

    let said = ground.failures(&pipeline).await;
    let refused = "FAIL database.credentials.iam: orders-3 (";
    assert!(said.contains(refused) && said.contains("SQLSTATE 28000") && said.contains("rds-db:connect as worker"), "{said}");
    assert!(!said.contains("X-Amz-"), "{said} shows a token");

    let identity = AwsIdentity { access_key_id: "test".to_owned(), secret_access_key: "test".to_owned(), session_token: None };
    ground.aurora.allow_login(&identity, "worker");
    let mounts = Mounts::new(ground.folder.path(), None);
    let (findings, policy) = examine(&pipeline, &mounts, &aws(&ground.sqs).await, false).await;
    assert_eq!(lines(&findings, Verdict::Fail) + &lines(&findings, Verdict::Warn), "");
    let well = lines(&findings, Verdict::Ok);
    let login = format!("database.credentials: user worker by IAM, with tokens for {REGION} that the AWS access key test signs");
    assert!(well.contains(&login) && well.contains("leads to orders-2, which is a reader"), "{well}");
    let resource = format!("arn:aws:rds-db:{REGION}:000000000000:dbuser:{}/worker", ground.aurora.resource_id());
    assert_eq!(policy["Statement"][2]["Action"][0], "rds-db:connect");
    assert_eq!(policy["Statement"][2]["Resource"], resource);

    // Who has the role already is granted it no more: the table's owner need not be able to.
    run(
        &mut owner,
        "CREATE ROLE owner LOGIN; GRANT CREATE ON DATABASE postgres TO owner; ALTER TABLE shop.orders OWNER TO owner;
                     ALTER SCHEMA shop OWNER TO owner; ALTER DATABASE postgres OWNER TO owner; SET ROLE owner",
    )
    .await;
    schema::apply(&mut owner, &pipeline.spec, "worker").await.unwrap();

    let mut nobody = aws(&ground.sqs).await.into_builder();
    nobody.set_credentials_provider(None);
    let (findings, _) = examine(&pipeline, &mounts, &nobody.build(), false).await;
    assert!(lines(&findings, Verdict::Fail).contains("FAIL database.credentials.iam: no AWS credentials were found"), "{findings:?}");
}

#[tokio::test]
async fn faults_of_the_queue_are_named_and_risks_are_warned_of() {
    let ground = Ground::start().await;
    let client = ground.sqs.client();
    assert!(ground.failures(&manifest("nowhere", AURORA)).await.contains("FAIL queue: the queue does not exist"));
    create_queue(&client, "alone", &QueueOptions::default()).await.unwrap();
    assert!(ground.failures(&manifest("alone", AURORA)).await.contains("the manifest names no deadLetterQueue"));
    create_queue_with_dead_letters(&client, "few", 3).await.unwrap();
    let findings = ground.examine(&manifest("few", AURORA)).await;
    assert!(lines(&findings, Verdict::Warn).contains("warn queue: the redrive policy gives up after 3 receives"));
    assert_eq!(lines(&findings, Verdict::Fail), "");

    let mut nowhere = aws(&ground.sqs).await.into_builder();
    nowhere.set_region(None);
    let mounts = Mounts::new(ground.folder.path(), None);
    let (findings, _) = examine(&manifest("orders", AURORA), &mounts, &nowhere.build(), false).await;
    assert!(lines(&findings, Verdict::Fail).contains("set AWS_REGION"));
}

#[tokio::test]
async fn a_stock_server_must_have_a_standby_and_a_silent_one_is_only_a_warning() {
    let ground = Ground::start().await;
    // Where no operator has written a topology, the manifest says where the servers are.
    std::fs::remove_file(ground.folder.path().join("topology/topology.yaml")).unwrap();
    let postgres = |instances: &str| {
        let servers = format!("postgres: {{writer: '{}', instances: [{instances}]}}", ground.aurora.cluster_endpoint());
        manifest("orders", &AURORA.replace("aurora: {clusterIdentifier: orders}", &servers))
    };
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    drop(silent);
    let findings = ground.examine(&postgres(&format!("'{address}'"))).await;
    assert_eq!(lines(&findings, Verdict::Fail), "");
    assert!(lines(&findings, Verdict::Warn).contains(&format!("{address}")), "{findings:?}");
    assert!(lines(&ground.examine(&postgres("")).await, Verdict::Warn).contains("database.postgres.instances: none are listed"));

    let (single, mut owner) = start().await;
    run(&mut owner, "CREATE ROLE worker LOGIN PASSWORD 'tiger'").await;
    let standbys: String = sqlx::query_scalar("SELECT current_setting('synchronous_standby_names')").fetch_one(&mut owner).await.unwrap();
    assert_eq!(standbys, "", "one instance has no standby");
    mount(ground.folder.path(), &single);
    let pipeline = AURORA.replace("aurora: {clusterIdentifier: orders}", &format!("postgres: {{writer: '{}'}}", single.cluster_endpoint()));
    let said = ground.failures(&manifest("orders", &pipeline)).await;
    assert!(said.contains("FAIL database: synchronous_standby_names is empty"), "{said}");
}
