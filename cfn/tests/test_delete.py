"""What `delete` does where no local AWS can show it: answers of the AWS CLI are made up."""

import sys

import pytest

from template import FOLDER

sys.path.insert(0, str(FOLDER))
import delete  # noqa: E402

# Of a stack whose first deployment has failed: no outputs, queues and network gone again, and stacks that were never begun.
FAILED = {"StackName": "estate", "StackId": "id", "StackStatus": "ROLLBACK_FAILED", "Parameters": [{"ParameterKey": "Name", "ParameterValue": "orders"}]}
NESTED = [
    {"ResourceType": "AWS::CloudFormation::Stack", "PhysicalResourceId": "aurora", "ResourceStatus": "DELETE_FAILED"},
    {"ResourceType": "AWS::CloudFormation::Stack", "PhysicalResourceId": "queue", "ResourceStatus": "DELETE_COMPLETE"},
    {"ResourceType": "AWS::CloudFormation::Stack", "ResourceStatus": "DELETE_COMPLETE"},
]
LOGS = [
    "/aws/rds/cluster/orders/postgresql", "/aws/rds/cluster/orders-eu/postgresql", "/aws/rds/proxy/orders", "/aws/rds/proxy/orders-eu",
    "API-Gateway-Execution-Logs_api0/v1",
]


class Aws:
    """The AWS CLI: what it was asked to change, and what it knows."""

    def __init__(self, cluster="DELETE_FAILED", outputs=()):
        self.changed, self.cluster, self.snapshots = [], {"ResourceType": "AWS::RDS::DBCluster", "PhysicalResourceId": "orders", "ResourceStatus": cluster}, ["older"]
        self.stack = FAILED | {"Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in dict(outputs).items()]}

    def __call__(self, _, command, *words):
        match command, *words:
            case "describe-stacks", *_:
                return {"Stacks": [self.stack]}
            case "list-stack-resources", _, identifier:
                return {"StackResourceSummaries": {"id": NESTED, "aurora": [self.cluster], "queue": []}[identifier]}
            case "describe-stack-events", *_:
                return {"StackEvents": []}
            case "describe-db-cluster-snapshots", _, "orders", *_:
                return {"DBClusterSnapshots": [{"DBClusterSnapshotIdentifier": name} for name in self.snapshots]}
            case "describe-log-groups", _, prefix:
                return {"logGroups": [{"logGroupName": name} for name in LOGS if name.startswith(prefix)]}
            case "delete-stack", *_:
                self.snapshots = ["older", "final"]
        self.changed.append((command, *words))


def deleted(monkeypatch, capsys, aws):
    """What `delete` says of an estate, and of what stays."""
    monkeypatch.setattr(delete, "aws", aws)
    monkeypatch.setattr("estate.aws", aws)
    monkeypatch.setattr(sys, "argv", ["delete.py", "estate"])
    monkeypatch.setenv("CONFIRM", "estate")
    monkeypatch.setenv("BUCKET", "bucket")
    delete.main()
    return capsys.readouterr().out


def test_a_stack_that_could_not_be_made_is_deleted_with_its_protected_cluster(monkeypatch, capsys):
    aws = Aws()
    assert "The Aurora cluster orders leaves a snapshot." in deleted(monkeypatch, capsys, aws)
    assert [command for command, *_ in aws.changed] == ["modify-db-cluster", "update-termination-protection", "delete-stack", "wait"]
    assert aws.changed[0][1:4] == ("--db-cluster-identifier", "orders", "--no-deletion-protection")


@pytest.mark.parametrize("state", ["CREATE_FAILED", "DELETE_COMPLETE"])
def test_a_cluster_that_the_stack_has_not_made_stays_protected(monkeypatch, capsys, state):
    aws = Aws(cluster=state)
    assert "The Aurora cluster" not in deleted(monkeypatch, capsys, aws)
    assert [command for command, *_ in aws.changed] == ["update-termination-protection", "delete-stack", "wait"]


def test_what_is_named_at_the_end_is_of_this_estate(monkeypatch, capsys):
    said = deleted(monkeypatch, capsys, Aws(outputs={"ProxyEndpoint": "e", "IngestUrl": "https://api0.execute-api"}))
    assert "orders-eu" not in said and all(f"delete-log-group --log-group-name {name}\n" in said for name in LOGS if "-eu" not in name)
    assert "older   # older than this deletion" in said and "final   # the last state" in said
