#!/usr/bin/env python3
"""Deletes an estate, after asking for its name ($CONFIRM may say it). What may be the only copy of something stays, and is named at the end with the
command that deletes it. Needs python3 and the AWS CLI ($AWS); $BUCKET is where its templates were brought to."""

import os
import sys

from estate import Refused, aws, stack

# How to delete what CloudFormation was told to keep.
COMMANDS = {
    "AWS::SQS::Queue": "aws sqs delete-queue --queue-url {}",
    "AWS::KMS::Key": "aws kms schedule-key-deletion --key-id {}   # not before the snapshot and the queues: nobody could read them",
    "AWS::IAM::Role": "aws iam delete-role --role-name {}   # not while aws apigateway get-account names it: detach its policy first",
    # Of these there is nothing to delete: the one goes with its queue, the other is a setting of the account, which names the role.
    "AWS::SQS::QueuePolicy": None,
    "AWS::ApiGateway::Account": None,
}


def main():
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {sys.argv[0]} STACK")
    name = sys.argv[1]
    found = stack(name)
    # A stack that could not be made has no outputs, and perhaps nothing else.
    outputs = found["Outputs"]
    nested = of_type("AWS::CloudFormation::Stack", found["StackId"])
    # One that could not be made may have failed for somebody else's of that name, which stays protected.
    clusters = [cluster for one in nested for cluster in of_type("AWS::RDS::DBCluster", one, gone=("CREATE_FAILED", "DELETE_COMPLETE"))]
    for url in (outputs[queue] for queue in ("QueueUrl", "DeadLetterQueueUrl") if queue in outputs):
        print(f"{url} stays, with about {messages(url)} messages.")
    for cluster in clusters:
        print(f"The Aurora cluster {cluster} leaves a snapshot.")
    print(f"All the rest of {name} is deleted.", flush=True)
    if not confirmed(name):
        raise SystemExit("Nothing was deleted.")
    older = snapshots(found["Parameters"]["Name"])
    for cluster in clusters:
        aws("rds", "modify-db-cluster", "--db-cluster-identifier", cluster, "--no-deletion-protection", "--apply-immediately")
    aws("cloudformation", "update-termination-protection", "--no-enable-termination-protection", "--stack-name", name)
    aws("cloudformation", "delete-stack", "--stack-name", name)
    try:
        aws("cloudformation", "wait", "stack-delete-complete", "--stack-name", found["StackId"])
    except Refused as refused:
        failed = [event for one in (found["StackId"], *nested) for event in events(one, "DELETE_FAILED")]
        reasons = [f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}" for event in failed]
        raise SystemExit("\n".join(["The stack is not deleted yet:", *reasons, str(refused), "Run this again when that is mended."])) from None
    print("Deleted. These stay, and cost little; delete them when nothing in them is needed:")
    for line in dict.fromkeys(leftovers(found, nested, older)):
        print(f"  {line}")


def confirmed(name):
    """Whether somebody has said the stack's name. Nobody who answers is a no."""
    if "CONFIRM" in os.environ:
        return os.environ["CONFIRM"] == name
    print("Type the name of the stack to go on: ", end="", flush=True)
    return sys.stdin.readline().strip() == name


def leftovers(found, nested, older):
    """A line for each thing that is there still."""
    for one in nested:
        for event in events(one, "DELETE_SKIPPED"):
            command = COMMANDS.get(event["ResourceType"], f"{event['ResourceType']} {{}}")
            if command:
                yield command.format(event["PhysicalResourceId"])
    for snapshot in snapshots(found["Parameters"]["Name"]):
        which = "older than this deletion" if snapshot in older else "the last state"
        yield f"aws rds delete-db-cluster-snapshot --db-cluster-snapshot-identifier {snapshot}   # {which}"
    for group in logs_of_services(found["Parameters"]["Name"], found["Outputs"]):
        yield f"aws logs delete-log-group --log-group-name {group}"
    yield f"aws s3 rm --recursive s3://{os.environ['BUCKET']}/{found['StackName']}/   # the templates"


def snapshots(cluster):
    """Snapshots of clusters of that name: perhaps of an earlier one too."""
    found = aws("rds", "describe-db-cluster-snapshots", "--db-cluster-identifier", cluster, "--snapshot-type", "manual")["DBClusterSnapshots"]
    return [snapshot["DBClusterSnapshotIdentifier"] for snapshot in found]


def logs_of_services(cluster, outputs):
    """Log groups that API Gateway and RDS have made by themselves."""
    # With a stroke at the end, a folder of them.
    names = [f"/aws/rds/cluster/{cluster}/"]
    if "ProxyEndpoint" in outputs:
        names.append(f"/aws/rds/proxy/{cluster}")
    if "IngestUrl" in outputs:
        names.append(f"API-Gateway-Execution-Logs_{outputs['IngestUrl'].split('//')[1].split('.')[0]}/")
    for name in names:
        for group in aws("logs", "describe-log-groups", "--log-group-name-prefix", name)["logGroups"]:
            if name.endswith("/") or group["logGroupName"] == name:
                yield group["logGroupName"]


def of_type(kind, identifier, gone=()):
    """The ids of a stack's resources of a type, but for those in a state of `gone`. A stack that is deleted is known by its id alone."""
    resources = aws("cloudformation", "list-stack-resources", "--stack-name", identifier)["StackResourceSummaries"]
    return [one["PhysicalResourceId"] for one in resources if one["ResourceType"] == kind and one["ResourceStatus"] not in gone and "PhysicalResourceId" in one]


def events(identifier, status):
    """A stack's events of one status, of its resources and not of itself."""
    found = aws("cloudformation", "describe-stack-events", "--stack-name", identifier)["StackEvents"]
    return [event for event in found if event["ResourceStatus"] == status and event["PhysicalResourceId"] != identifier]


def messages(url):
    found = aws("sqs", "get-queue-attributes", "--queue-url", url, "--attribute-names", "All")["Attributes"]
    return int(found["ApproximateNumberOfMessages"]) + int(found["ApproximateNumberOfMessagesNotVisible"])


if __name__ == "__main__":
    main()
