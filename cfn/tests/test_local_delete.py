"""`make delete` on a local CloudFormation: it deletes nothing without being told to, keeps what may be the only copy, and names all that stays."""

import io
import sys

import pytest

import local
from template import FOLDER

sys.path.insert(0, str(FOLDER))
import delete  # noqa: E402

DOOMED = {
    "Name": "doomed", "KubernetesClusterName": "test", "Network": "New", "ClientCidr": "10.0.0.0/16", "Readers": "0", "Encryption": "KMS",
    "DatabaseLogin": "Secret",
}
# Everything that a service has of us: its call, and the path to each name.
KINDS = {
    "queue": ("sqs", "list_queues", "QueueUrls"),
    "key": ("kms", "list_keys", "Keys.KeyId"),
    "role": ("iam", "list_roles", "Roles.RoleName"),
    "cluster": ("rds", "describe_db_clusters", "DBClusters.DBClusterIdentifier"),
    "instance": ("rds", "describe_db_instances", "DBInstances.DBInstanceIdentifier"),
    "snapshot": ("rds", "describe_db_cluster_snapshots", "DBClusterSnapshots.DBClusterSnapshotIdentifier"),
    "parameter group": ("rds", "describe_db_cluster_parameter_groups", "DBClusterParameterGroups.DBClusterParameterGroupName"),
    "subnet group": ("rds", "describe_db_subnet_groups", "DBSubnetGroups.DBSubnetGroupName"),
    "secret": ("secretsmanager", "list_secrets", "SecretList.Name"),
    "log group": ("logs", "describe_log_groups", "logGroups.logGroupName"),
    "topic": ("sns", "list_topics", "Topics.TopicArn"),
    "alarm": ("cloudwatch", "describe_alarms", "MetricAlarms.AlarmName"),
    "dashboard": ("cloudwatch", "list_dashboards", "DashboardEntries.DashboardName"),
    "rule": ("events", "list_rules", "Rules.Name"),
    "API": ("apigateway", "get_rest_apis", "items.name"),
    "network": ("ec2", "describe_vpcs", "Vpcs.VpcId"),
    "security group": ("ec2", "describe_security_groups", "SecurityGroups.GroupId"),
}


def inventory(server):
    """All that is there, as (kind, name)."""
    found = set()
    for kind, (service, call, path) in KINDS.items():
        client = server.client(service)
        names = getattr(client, call)().get(path.split(".")[0], [])
        names = [name[path.split(".")[1]] for name in names] if "." in path else names
        if kind == "queue":
            # MiniStack has more than one name of itself.
            names = [name.split("/", 3)[3] for name in names]
        if kind == "key":
            names = [name for name in names if client.describe_key(KeyId=name)["KeyMetadata"]["KeyState"] == "Enabled"]
        found |= {(kind, name) for name in names}
    return found


@pytest.fixture(scope="module")
def doomed(server):
    before = inventory(server)
    estate = local.Estate(server, "doomed", DOOMED)
    # API Gateway makes this with the first request.
    api = estate.outputs["IngestUrl"].split("//")[1].split(".")[0]
    server.client("logs").create_log_group(logGroupName=f"API-Gateway-Execution-Logs_{api}/v1")
    estate.made = inventory(server) - before
    server.client("sqs").send_message(QueueUrl=estate.outputs["QueueUrl"], MessageBody="{}", MessageGroupId="g", MessageDeduplicationId="d")
    return estate


@pytest.mark.parametrize("answer, variable, yes", [
    ("doomed\n", None, True), ("", None, False), ("\n", None, False), ("yes\n", None, False), ("doome\n", None, False), ("DOOMED\n", None, False),
    ("", "doomed", True), ("doomed\n", "yes", False), ("doomed\n", "", False),
])
def test_only_the_stacks_name_is_a_yes(monkeypatch, answer, variable, yes):
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    monkeypatch.delenv("CONFIRM", raising=False)
    if variable is not None:
        monkeypatch.setenv("CONFIRM", variable)
    assert delete.confirmed("doomed") is yes


@pytest.mark.parametrize("answer", ["", "yes\n"])
def test_nothing_is_deleted_without_the_stacks_name(doomed, answer):
    done = doomed.make("delete", stdin=answer)
    assert done.returncode != 0 and "Nothing was deleted." in done.stderr, done.stdout + done.stderr
    assert "doomed.fifo stays, with about 1 messages" in done.stdout
    assert inventory(doomed.server) >= doomed.made
    (stack,) = doomed.server.client("cloudformation").describe_stacks(StackName="doomed")["Stacks"]
    (cluster,) = doomed.rds.describe_db_clusters(DBClusterIdentifier="doomed")["DBClusters"]
    assert stack["StackStatus"] == "CREATE_COMPLETE" and stack["EnableTerminationProtection"] and cluster["DeletionProtection"]


def test_deleted_it_leaves_what_may_be_the_only_copy_and_names_all_that_is_left(doomed):
    before = inventory(doomed.server)
    done = doomed.make("delete", stdin="doomed\n")
    assert done.returncode == 0, done.stdout + done.stderr
    after = inventory(doomed.server)
    assert before - after <= doomed.made, "it took something of another estate along"
    left = (after - (before - doomed.made))
    kinds = [kind for kind, _ in left]
    assert sorted(set(kinds)) == ["key", "log group", "queue", "role", "snapshot"] and kinds.count("queue") == kinds.count("key") == 2, left
    said = done.stdout[done.stdout.index("These stay"):]
    unnamed = {(kind, name) for kind, name in left if name not in said}
    assert not unnamed, said
    assert f"aws s3 rm --recursive s3://durable-write-cfn-{local.ACCOUNT}-{local.REGION}/doomed/" in said
    # Nothing is named that is gone.
    named = [line.split("   ")[0].split()[-1] for line in said.splitlines()[1:-1]]
    assert len(named) == len(left) and all(any(one.endswith(name) for _, name in left) for one in named)
    assert doomed.attributes("QueueUrl")["ApproximateNumberOfMessages"] == "1"


def test_an_estate_that_is_not_there_is_said_so(server):
    for target in ("delete", "validate", "sql"):
        done = server.make(target, stdin="nowhere\n", STACK="nowhere")
        assert done.returncode != 0 and "nowhere does not exist" in done.stderr and "Traceback" not in done.stderr, done.stderr
