"""What the commands do where no local AWS can show it: answers of the AWS CLI are made up."""

import json
import os
import subprocess
import sys

import pytest

from estates import estate
from template import FOLDER

sys.path.insert(0, str(FOLDER))
import validate  # noqa: E402
from estate import Refused  # noqa: E402

OUTPUTS = estate(Ingest="false").outputs
QUEUE = {
    "QueueArn": "arn:queue", "RedrivePolicy": '{"deadLetterTargetArn": "arn:dead"}', "SqsManagedSseEnabled": "true", "Policy": "aws:SecureTransport",
    "MessageRetentionPeriod": "1209600", "ApproximateNumberOfMessages": "0", "ApproximateNumberOfMessagesNotVisible": "0",
}
MEMBER = {"DBInstanceStatus": "available", "PubliclyAccessible": False}
GOOD = {
    "describe-stacks": {"Stacks": [{
        "StackStatus": "UPDATE_COMPLETE", "EnableTerminationProtection": True,
        "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in OUTPUTS.items()],
        "Parameters": [{"ParameterKey": "KeyField", "ParameterValue": "number"}],
    }]},
    "describe-db-clusters": {"DBClusters": [{
        "Status": "available", "StorageEncrypted": True, "IAMDatabaseAuthenticationEnabled": True, "DeletionProtection": True, "BackupRetentionPeriod": 14,
        "MasterUserSecret": {"SecretStatus": "active"}, "DBClusterParameterGroup": "orders",
    }]},
    "describe-db-instances": {"DBInstances": [
        MEMBER | {"DBInstanceIdentifier": "orders-1", "AvailabilityZone": "a"}, MEMBER | {"DBInstanceIdentifier": "orders-2", "AvailabilityZone": "b"},
    ]},
    "describe-db-cluster-parameters": {"Parameters": [{"ParameterName": "rds.force_ssl", "ParameterValue": "1"}]},
    "queue": QUEUE,
    "dead": QUEUE | {"QueueArn": "arn:dead"},
    # How many messages are in the queue from then on.
    "send-message": {"MessageId": "5fea7756", "Left": "0"},
}
# Where the good answers are changed, to what, and what is said of it.
BROKEN = [
    ("describe-stacks/Stacks/0/EnableTerminationProtection", False, "the stack is protected from deletion"),
    ("describe-db-clusters/DBClusters/0/Status", "failing-over", "the cluster is failing-over"),
    ("describe-db-clusters/DBClusters/0/StorageEncrypted", False, "the cluster is encrypted"),
    ("describe-db-clusters/DBClusters/0/IAMDatabaseAuthenticationEnabled", False, "the cluster takes logins by IAM"),
    ("describe-db-clusters/DBClusters/0/DeletionProtection", False, "the cluster is protected from deletion"),
    ("describe-db-clusters/DBClusters/0/BackupRetentionPeriod", 0, "the cluster keeps backups"),
    ("describe-db-clusters/DBClusters/0/MasterUserSecret", {}, "RDS rotates the master user's password"),
    ("describe-db-clusters/DBClusters/0/MasterUserSecret/SecretStatus", "impaired", "RDS rotates the master user's password"),
    ("describe-db-clusters", Refused("DBClusterNotFoundFault"), "the database can be looked at"),
    ("describe-db-instances/DBInstances", [], "all 0 instances are available"),
    ("describe-db-instances/DBInstances/1/DBInstanceStatus", "rebooting", "all 2 instances are available"),
    ("describe-db-instances/DBInstances/0/PubliclyAccessible", True, "no instance is public"),
    ("describe-db-instances/DBInstances/1/AvailabilityZone", "a", "the instances are in more than one zone"),
    ("describe-db-cluster-parameters/Parameters/0/ParameterValue", "0", "the cluster takes no connection without TLS"),
    ("queue/RedrivePolicy", '{"deadLetterTargetArn": "arn:other"}', "the queue has its dead-letter queue"),
    ("queue/SqsManagedSseEnabled", "false", "the queue is encrypted"),
    ("queue/Policy", "", "the queue asks for TLS"),
    ("dead/Policy", "", "the dead-letter queue asks for TLS"),
    ("queue/MessageRetentionPeriod", "3600", "the queue keeps messages for four days at least"),
    ("dead/ApproximateNumberOfMessages", "2", "there are no dead letters"),
    ("send-message/Left", "1", "the message has left the queue"),
    ("queue", Refused("QueueDoesNotExist"), "the queue can be looked at"),
    ("send-message", Refused("AccessDenied"), "the queue can be looked at"),
]


def validated(monkeypatch, capsys, answers):
    """What `validate` finds bad with these answers, and how it ends."""

    def aws(*words):
        if words[1] == "send-message" and not isinstance(answers["send-message"], Refused):
            answers["queue"]["ApproximateNumberOfMessages"] = answers["send-message"]["Left"]
        asks_a_queue = words[1] == "get-queue-attributes"
        answer = answers[("dead" if "-dlq" in words[3] else "queue") if asks_a_queue else words[1]]
        if isinstance(answer, Refused):
            raise answer
        return {"Attributes": answer} if asks_a_queue else answer

    monkeypatch.setattr(validate, "aws", aws)
    monkeypatch.setattr("estate.aws", aws)
    monkeypatch.setattr(validate, "LATE", 0.02)
    monkeypatch.setattr(validate, "PATIENCE", 0.05)
    monkeypatch.setattr(sys, "argv", ["validate.py", "estate"])
    status = ""
    try:
        validate.main()
    except SystemExit as end:
        status = str(end)
    lines = capsys.readouterr().out.splitlines()
    return [line[5:].split(":")[0] for line in lines if line.startswith("BAD")], status, lines


def test_a_good_estate_is_good(monkeypatch, capsys):
    bad, status, lines = validated(monkeypatch, capsys, GOOD)
    assert (bad, status) == ([], "") and len([line for line in lines if line.startswith("ok")]) >= 20
    assert any(line.startswith('     {"number": "validate-') for line in lines), "the message has the pipeline's key"


@pytest.mark.parametrize("kind", ["", "NotVisible"])
def test_a_good_estate_with_traffic_is_good_and_what_cannot_be_seen_is_said(monkeypatch, capsys, kind):
    queue = QUEUE | {f"ApproximateNumberOfMessages{kind}": "7"}
    bad, status, lines = validated(monkeypatch, capsys, GOOD | {"queue": queue})
    assert (bad, status) == ([], "") and "no message was sent, as 7 are in the queue already" in lines[-1]


def test_a_good_estate_of_one_instance_is_good(monkeypatch, capsys):
    bad, status, lines = validated(monkeypatch, capsys, GOOD | {"describe-db-instances": {"DBInstances": GOOD["describe-db-instances"]["DBInstances"][:1]}})
    assert (bad, status) == ([], "") and not any("zone" in line for line in lines)


@pytest.mark.parametrize("path, value, said", BROKEN, ids=[f"{path}={value}" for path, value, _ in BROKEN])
def test_each_thing_that_is_broken_is_said_and_fails(monkeypatch, capsys, path, value, said):
    answers = json.loads(json.dumps(GOOD))
    *folders, last = [int(name) if name.isdigit() else name for name in path.split("/")]
    place = answers
    for name in folders:
        place = place[name]
    place[last] = value
    bad, status, lines = validated(monkeypatch, capsys, answers)
    assert said in bad and status == f"{len(bad)} checks failed", lines
    assert set(bad) == {said}
    if isinstance(value, Refused):
        assert any(line.endswith(str(value)) for line in lines)


@pytest.mark.parametrize("state", ["ROLLBACK_FAILED", "ROLLBACK_COMPLETE", "CREATE_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"])
def test_where_the_stack_itself_is_bad_nothing_else_is_looked_at(monkeypatch, capsys, state):
    bad, status, lines = validated(monkeypatch, capsys, {"describe-stacks": {"Stacks": [{"StackStatus": state}]}})
    assert bad == [f"the stack is {state}"] and status.startswith("Nothing else was checked.") and len(lines) == 1


def test_a_late_count_is_not_taken_for_an_empty_queue(monkeypatch):
    counts = iter([0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    clock = iter(range(1000))
    monkeypatch.setattr(validate, "count", lambda url: next(counts))
    monkeypatch.setattr(validate.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(validate.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(validate, "LATE", 4)
    assert validate.wait_until_empty("url") == 0
    assert len(list(counts)) < 5, "it has looked on after the first nothing"


BUCKETS = """#!/bin/sh
echo "$@" >> "$LOG"
case "$1 $2" in
  "sts get-caller-identity") echo 111122223333 ;;
  "s3api head-bucket") [ "$OWNER" = 111122223333 ] || exit 254 ;;
  "s3 mb") echo "make_bucket failed: BucketAlreadyExists" >&2; [ "$OWNER" = nobody ] ;;
esac
"""


def deployed(folder, owner, *words):
    """How `make deploy` ended, and the calls of the AWS CLI."""
    program, log = folder / "aws", folder / "log"
    program.write_text(BUCKETS)
    program.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "LOG": str(log), "OWNER": owner, "AWS_REGION": "eu-central-2"}
    command = ["make", "--silent", "-C", FOLDER, "deploy", "STACK=estate", f"AWS={program}", f"CACHE={folder}", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True), log.read_text()


@pytest.mark.parametrize("owner, brought", [("111122223333", True), ("nobody", True), ("somebody", False)])
def test_templates_are_not_brought_to_a_bucket_of_somebody_else(tmp_path, owner, brought):
    done, said = deployed(tmp_path, owner)
    assert "s3api head-bucket --bucket durable-write-cfn-111122223333-eu-central-2 --expected-bucket-owner 111122223333" in said
    assert ("cloudformation package" in said) == ("cloudformation deploy" in said) == brought, said
    assert (done.returncode == 0) == brought


def test_parameters_may_stand_on_more_than_one_line(tmp_path):
    done, said = deployed(tmp_path, "111122223333", "PARAMETERS=Name=orders Readers=1\n  DrillNamespaces='shop billing'\n")
    assert done.returncode == 0 and "--parameter-overrides Name=orders Readers=1 DrillNamespaces=shop billing\n" in said, said
