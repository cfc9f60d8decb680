"""An estate on a local CloudFormation: made by `make deploy`, looked at through the services, and used."""

import json
import subprocess

import pytest
import yaml
from botocore.exceptions import ClientError

import local

PARAMETERS = {
    "Name": "orders", "KubernetesClusterName": "prod", "PipelineNamespace": "shop", "DrillNamespaces": "shop", "ProducerServiceAccount": "checkout",
    "Network": "New", "ClientCidr": "10.0.0.0/16", "AlarmEmail": "oncall@example.com",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """MiniStack, and the estate on it."""
    folder = tmp_path_factory.mktemp("local")
    server = local.MiniStack(folder)
    try:
        copy = folder / "cfn"
        copy.mkdir()
        local.templates(copy)
        deploy(server, copy)
        (found,) = server.client("cloudformation").describe_stacks(StackName="estate")["Stacks"]
        server.folder, server.outputs = copy, {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}
        yield server
    finally:
        server.stop()


def deploy(server, folder):
    server.client("s3").create_bucket(Bucket="templates", CreateBucketConfiguration={"LocationConstraint": local.REGION})
    done = server.make("deploy", folder, STACK="estate", BUCKET="templates", PARAMETERS=" ".join(f"{name}={value}" for name, value in PARAMETERS.items()))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:] + server.log.read_text()[-2000:]


def test_the_queues_are_as_the_template_says(stack):
    queue, dead = (attributes(stack, name) for name in ("QueueUrl", "DeadLetterQueueUrl"))
    redrive = json.loads(queue["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"] == dead["QueueArn"] and int(redrive["maxReceiveCount"]) == 10
    assert (queue["FifoQueue"], queue["FifoThroughputLimit"], queue["DeduplicationScope"]) == ("true", "perMessageGroupId", "messageGroup")
    assert queue["MessageRetentionPeriod"] == dead["MessageRetentionPeriod"] == "1209600"
    assert "aws:SecureTransport" in queue["Policy"] and "aws:SecureTransport" in dead["Policy"]


def test_the_cluster_has_a_writer_and_two_readers(stack):
    (cluster,) = stack.client("rds").describe_db_clusters(DBClusterIdentifier="orders")["DBClusters"]
    assert cluster["StorageEncrypted"] and cluster["DeletionProtection"] and cluster["IAMDatabaseAuthenticationEnabled"]
    assert [member["DBInstanceIdentifier"] for member in cluster["DBClusterMembers"]] == ["orders-1", "orders-2", "orders-3"]


def test_the_roles_hold_what_the_templates_say(stack):
    name = stack.outputs["OperatorRoleArn"].rsplit("/", 1)[1]
    assert stack.client("iam").list_role_policies(RoleName=name)["PolicyNames"] == ["see-databases"]
    trust = stack.client("iam").get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    assert trust["Statement"][0]["Principal"] == {"Service": "pods.eks.amazonaws.com"}


def test_the_workers_secret_has_a_user_and_a_password_that_nobody_typed(stack):
    secret = json.loads(stack.client("secretsmanager").get_secret_value(SecretId=stack.outputs["WorkerSecretArn"])["SecretString"])
    assert secret["username"] == "durable_write" and len(secret["password"]) == 40


def test_the_workers_credentials_become_sql_and_a_secret(stack):
    password = json.loads(stack.client("secretsmanager").get_secret_value(SecretId=stack.outputs["WorkerSecretArn"])["SecretString"])["password"]
    made = json.loads(stack.make("secret", stack.folder, STACK="estate").stdout)
    assert made["metadata"] == {"name": "orders-db", "namespace": "shop"} and made["stringData"] == {"username": "durable_write", "password": password}
    text = stack.make("sql", stack.folder, STACK="estate").stdout
    assert "ALTER ROLE durable_write LOGIN PASSWORD 'SCRAM-SHA-256$" in text and password not in text


def test_the_manifest_and_the_values_are_yaml(stack):
    manifest, values = (yaml.safe_load(stack.make("output", stack.folder, STACK="estate", NAME=name).stdout) for name in ("PipelineManifest", "HelmValues"))
    assert manifest["spec"]["queue"] == {"name": "orders.fifo"} and manifest["spec"]["database"]["aurora"] == {"clusterIdentifier": "orders"}
    assert values == {"clusterName": "prod", "aws": {"region": local.REGION}, "drills": {"enabled": True}}


def test_the_dashboard_and_the_alarms_are_there(stack):
    assert json.loads(stack.client("cloudwatch").get_dashboard(DashboardName=f"durable-write-orders-{local.REGION}")["DashboardBody"])["widgets"]
    alarms = {alarm["MetricName"] for alarm in stack.client("cloudwatch").describe_alarms()["MetricAlarms"]}
    assert {"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible", "WriteErrors", "TriggeredRules", "AuroraReplicaLagMaximum", "5XXError"} <= alarms


def post(server, query, body, kind="application/json"):
    """The status of a signed POST to the ingest, by the path that MiniStack has for it."""
    api = server.outputs["IngestUrl"].split("//", 1)[1].split(".", 1)[0]
    done = subprocess.run(
        ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--aws-sigv4", f"aws:amz:{local.REGION}:execute-api", "--user", f"{local.ACCOUNT}:local",
         "--header", f"content-type: {kind}", "--data-binary", body, f"{server.url}/restapis/{api}/v1/_user_request_/messages?{query}"],
        capture_output=True, text=True, check=True,
    )
    return int(done.stdout)


def test_the_ingest_puts_a_body_on_the_queue_byte_for_byte(stack):
    body = '{"id": "a&MessageGroupId=other", "amount": 1.10, "text": "Grüße"}'
    assert post(stack, "group=customer-1&deduplication=a-1", body) == 202
    (message,) = receive(stack)
    assert message["Body"] == body
    assert message["Attributes"]["MessageGroupId"] == "customer-1" and message["Attributes"]["MessageDeduplicationId"] == "a-1"


def test_the_ingest_refuses_what_is_no_json(stack):
    assert post(stack, "group=g&deduplication=d", "<id>1</id>", "text/xml") == 415


def test_the_ingest_says_no_when_the_queue_does(stack):
    # SQS refuses a message without a group. (AWS would have refused it before: MiniStack checks no parameters.)
    assert post(stack, "deduplication=d", '{"id": "x"}') in (400, 503)
    assert receive(stack) == []


def test_validation_sends_one_message_and_misses_the_pipeline(stack):
    done = stack.make("validate", stack.folder, STACK="estate")
    said = done.stdout + done.stderr
    assert "ok   the queue has its dead-letter queue" in said and "ok   the cluster is encrypted" in said, said
    # There are no workers here, and it must notice.
    assert "BAD  the message has left the queue" in said and done.returncode != 0
    assert [message["Body"] for message in receive(stack) if "validate-" in message["Body"]]


@pytest.mark.parametrize("kind", sorted(local.UNKNOWN_TYPES))
def test_what_is_said_to_be_unknown_here_is_unknown(stack, kind):
    """When MiniStack learns it, the list must be cut."""
    name, cloudformation = kind.replace("::", "-"), stack.client("cloudformation")
    template = json.dumps({"Resources": {"One": {"Type": kind, "Properties": {}}}})
    with pytest.raises(ClientError) as error:
        cloudformation.create_stack(StackName=name, TemplateBody=template)
    assert f"Unrecognized resource types: [{kind}]" in str(error.value)


def attributes(server, output):
    return server.client("sqs").get_queue_attributes(QueueUrl=server.outputs[output], AttributeNames=["All"])["Attributes"]


def receive(server):
    """All messages that wait, taken away."""
    sqs, url = server.client("sqs"), server.outputs["QueueUrl"]
    found = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=0, MaxNumberOfMessages=10, AttributeNames=["All"]).get("Messages", [])
    for message in found:
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found
