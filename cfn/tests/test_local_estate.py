"""An estate on a local CloudFormation: made by `make deploy`, looked at through the services."""

import json

import pytest
import yaml
from botocore.exceptions import ClientError

import local
from estates import ALONE, alone


def test_the_templates_are_in_a_bucket_of_this_account(orders):
    bucket = f"durable-write-cfn-{local.ACCOUNT}-{local.REGION}"
    found = orders.server.client("s3").list_objects_v2(Bucket=bucket, Prefix="estate/")
    assert found["KeyCount"] == 8, "seven nested templates, and the main one"


def test_deploying_again_changes_nothing_and_keeps_the_protections(orders, tmp_path):
    before = orders.server.client("cloudformation").describe_stack_events(StackName="estate")["StackEvents"]
    file = tmp_path / "estate.json"
    file.write_text(json.dumps(["DrillNamespaces=shop billing", "AlarmEmail=oncall@example.com"]))
    done = orders.deploy(f"file://{file}")
    assert done.returncode == 0, done.stdout + done.stderr
    cloudformation = orders.server.client("cloudformation")
    assert cloudformation.describe_stack_events(StackName="estate")["StackEvents"] == before
    (found,) = cloudformation.describe_stacks(StackName="estate")["Stacks"]
    assert found["StackStatus"] == "CREATE_COMPLETE" and found["EnableTerminationProtection"]
    assert {one["ParameterKey"]: one["ParameterValue"] for one in found["Parameters"]}["DrillNamespaces"] == "shop billing"


def test_a_parameter_that_is_not_allowed_changes_nothing(orders):
    done = orders.deploy("Readers=4 OldestMessageSeconds=600")
    assert done.returncode != 0 and "Readers" in done.stdout + done.stderr
    (found,) = orders.server.client("cloudformation").describe_stacks(StackName="estate")["Stacks"]
    assert {one["ParameterKey"]: one["ParameterValue"] for one in found["Parameters"]}["Readers"] == "2"


def test_the_nested_templates_stand_alone_one_after_the_other(server):
    cloudformation, outputs = server.client("cloudformation"), {}
    # All of RDS Proxy is unknown here.
    for name in [name for name in ALONE if name != "proxy"]:
        stack = {"StackName": f"alone-{name}"}
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in alone(name, outputs).items()]
        cloudformation.create_stack(
            **stack, TemplateBody=(server.commands / f"{name}.yaml").read_text(), Parameters=given, Capabilities=["CAPABILITY_IAM"]
        )
        cloudformation.get_waiter("stack_create_complete").wait(**stack, WaiterConfig={"Delay": 0.1, "MaxAttempts": 300})
        outputs |= {one["OutputKey"]: one["OutputValue"] for one in cloudformation.describe_stacks(**stack)["Stacks"][0]["Outputs"]}


def test_the_queues_are_as_the_template_says(orders):
    queue, dead = (orders.attributes(name) for name in ("QueueUrl", "DeadLetterQueueUrl"))
    redrive = json.loads(queue["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"] == dead["QueueArn"] and int(redrive["maxReceiveCount"]) == 10
    assert json.loads(dead["RedriveAllowPolicy"]) == {"redrivePermission": "byQueue", "sourceQueueArns": [queue["QueueArn"]]}
    assert (queue["FifoQueue"], queue["FifoThroughputLimit"], queue["DeduplicationScope"]) == ("true", "perMessageGroupId", "messageGroup")
    assert queue["MessageRetentionPeriod"] == dead["MessageRetentionPeriod"] == "1209600"
    assert "aws:SecureTransport" in queue["Policy"] and "aws:SecureTransport" in dead["Policy"]


def test_the_cluster_has_a_writer_and_two_readers_in_other_zones(orders):
    (cluster,) = orders.rds.describe_db_clusters(DBClusterIdentifier="orders")["DBClusters"]
    assert cluster["StorageEncrypted"] and cluster["DeletionProtection"] and cluster["IAMDatabaseAuthenticationEnabled"]
    found = orders.rds.describe_db_instances(Filters=[{"Name": "db-cluster-id", "Values": ["orders"]}])["DBInstances"]
    assert {one["DBInstanceIdentifier"]: one["AvailabilityZone"][-1] for one in found} == {"orders-1": "a", "orders-2": "b", "orders-3": "c"}


def test_the_roles_hold_what_the_templates_say(orders):
    name = orders.outputs["OperatorRoleArn"].rsplit("/", 1)[1]
    assert orders.server.client("iam").list_role_policies(RoleName=name)["PolicyNames"] == ["see-databases"]
    trust = orders.server.client("iam").get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    assert trust["Statement"][0]["Principal"] == {"Service": "pods.eks.amazonaws.com"}


def test_where_users_log_in_by_iam_there_is_no_password_anywhere(orders, parcels):
    stacks = [secret["Name"].split("-")[0] for secret in orders.server.client("secretsmanager").list_secrets()["SecretList"]]
    assert "estate" not in stacks and "second" in stacks
    assert "WorkerSecretArn" not in orders.outputs and parcels.outputs["WorkerSecretArn"]
    said = orders.make("sql").stdout
    assert "GRANT rds_iam TO durable_write;" in said and "ALTER ROLE durable_write LOGIN PASSWORD NULL" in said and "SCRAM" not in said
    done = orders.make("secret")
    assert done.returncode != 0 and "by IAM" in done.stderr and not done.stdout


def test_the_manifest_and_the_values_are_yaml(orders):
    manifest, values = (yaml.safe_load(orders.output(name)) for name in ("PipelineManifest", "HelmValues"))
    assert manifest["spec"]["queue"] == {"name": "orders.fifo"} and manifest["spec"]["database"]["aurora"] == {"clusterIdentifier": "orders"}
    assert manifest["spec"]["database"]["credentials"] == {"iam": {"username": "durable_write"}}
    assert values == {"clusterName": "prod", "aws": {"region": local.REGION}, "drills": {"enabled": True}}


def test_the_dashboard_and_the_alarms_are_there(orders):
    cloudwatch = orders.server.client("cloudwatch")
    assert json.loads(cloudwatch.get_dashboard(DashboardName=f"durable-write-orders-{local.REGION}")["DashboardBody"])["widgets"]
    alarms = {alarm["MetricName"] for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}
    assert {"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible", "WriteErrors", "TriggeredRules", "AuroraReplicaLagMaximum", "5XXError"} <= alarms


def test_the_ingest_puts_a_body_on_the_queue_byte_for_byte(orders):
    body = '{"id": "a&MessageGroupId=other", "amount": 1.10, "text": "Grüße"}'
    assert orders.post("group=customer-1&deduplication=a-1", body) == 202
    (message,) = orders.receive()
    assert message["Body"] == body
    assert message["Attributes"]["MessageGroupId"] == "customer-1" and message["Attributes"]["MessageDeduplicationId"] == "a-1"


def test_the_ingest_refuses_what_is_no_json(orders):
    assert orders.post("group=g&deduplication=d", "<id>1</id>", "text/xml") == 415


def test_the_ingest_says_no_when_the_queue_does(orders):
    # SQS refuses a message without a group. (AWS would have refused it before: MiniStack checks no parameters.)
    assert orders.post("deduplication=d", '{"id": "x"}') in (400, 503)
    assert orders.receive() == []


@pytest.mark.parametrize("kind", sorted(local.UNKNOWN_TYPES))
def test_what_is_said_to_be_unknown_here_is_unknown(server, kind):
    """When MiniStack learns it, the list must be cut."""
    name, cloudformation = kind.replace("::", "-"), server.client("cloudformation")
    template = json.dumps({"Resources": {"One": {"Type": kind, "Properties": {}}}})
    with pytest.raises(ClientError) as error:
        cloudformation.create_stack(StackName=name, TemplateBody=template)
    assert f"Unrecognized resource types: [{kind}]" in str(error.value)
