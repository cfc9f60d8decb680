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
    # A setting of the account, which names the role; there is nothing to delete.
    "AWS::ApiGateway::Account": None,
}


def main():
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {sys.argv[0]} STACK")
    name = sys.argv[1]
    found = stack(name)
    outputs = found["Outputs"]
    for url in (outputs["QueueUrl"], outputs["DeadLetterQueueUrl"]):
        print(f"{url} stays, with about {messages(url)} messages.")
    print(f"The Aurora cluster {outputs['ClusterIdentifier']} leaves a snapshot. All the rest of {name} is deleted.", flush=True)
    if not confirmed(name):
        raise SystemExit("Nothing was deleted.")
    nested = nested_stacks(found["StackId"])
    # None is there when this runs a second time.
    for cluster in aws("rds", "describe-db-clusters", "--filters", f"Name=db-cluster-id,Values={outputs['ClusterIdentifier']}")["DBClusters"]:
        aws("rds", "modify-db-cluster", "--db-cluster-identifier", cluster["DBClusterIdentifier"], "--no-deletion-protection", "--apply-immediately")
    aws("cloudformation", "update-termination-protection", "--no-enable-termination-protection", "--stack-name", name)
    aws("cloudformation", "delete-stack", "--stack-name", name)
    try:
        aws("cloudformation", "wait", "stack-delete-complete", "--stack-name", found["StackId"])
    except Refused as refused:
        failed = [event for one in (found["StackId"], *nested) for event in events(one, "DELETE_FAILED")]
        reasons = [f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}" for event in failed]
        raise SystemExit("\n".join(["The stack is not deleted yet:", *reasons, str(refused), "Run this again when that is mended."])) from None
    print("Deleted. These stay, and cost little; delete them when nothing in them is needed:")
    for line in dict.fromkeys(leftovers(name, nested, outputs)):
        print(f"  {line}")


def confirmed(name):
    """Whether somebody has said the stack's name. Nobody who answers is a no."""
    if "CONFIRM" in os.environ:
        return os.environ["CONFIRM"] == name
    print("Type the name of the stack to go on: ", end="", flush=True)
    return sys.stdin.readline().strip() == name


def leftovers(name, nested, outputs):
    """A line for each thing that is there still."""
    for one in nested:
        for event in events(one, "DELETE_SKIPPED"):
            command = COMMANDS.get(event["ResourceType"], f"{event['ResourceType']} {{}}")
            if command:
                yield command.format(event["PhysicalResourceId"])
    cluster = outputs["ClusterIdentifier"]
    for snapshot in aws("rds", "describe-db-cluster-snapshots", "--db-cluster-identifier", cluster, "--snapshot-type", "manual")["DBClusterSnapshots"]:
        yield f"aws rds delete-db-cluster-snapshot --db-cluster-snapshot-identifier {snapshot['DBClusterSnapshotIdentifier']}   # the last state"
    for group in logs_of_services(outputs):
        yield f"aws logs delete-log-group --log-group-name {group}"
    yield f"aws s3 rm --recursive s3://{os.environ['BUCKET']}/{name}/   # the templates"


def logs_of_services(outputs):
    """Log groups that API Gateway and RDS have made by themselves."""
    prefixes = [f"/aws/rds/cluster/{outputs['ClusterIdentifier']}/"]
    if "ProxyEndpoint" in outputs:
        prefixes.append(f"/aws/rds/proxy/{outputs['ClusterIdentifier']}")
    if "IngestUrl" in outputs:
        prefixes.append(f"API-Gateway-Execution-Logs_{outputs['IngestUrl'].split('//')[1].split('.')[0]}/")
    for prefix in prefixes:
        for group in aws("logs", "describe-log-groups", "--log-group-name-prefix", prefix)["logGroups"]:
            yield group["logGroupName"]


def nested_stacks(identifier):
    """The ids of the stacks in a stack: only by them is a stack known once it is deleted."""
    resources = aws("cloudformation", "list-stack-resources", "--stack-name", identifier)["StackResourceSummaries"]
    return [one["PhysicalResourceId"] for one in resources if one["ResourceType"] == "AWS::CloudFormation::Stack"]


def events(identifier, status):
    """A stack's events of one status, of its resources and not of itself."""
    found = aws("cloudformation", "describe-stack-events", "--stack-name", identifier)["StackEvents"]
    return [event for event in found if event["ResourceStatus"] == status and event["PhysicalResourceId"] != identifier]


def messages(url):
    found = aws("sqs", "get-queue-attributes", "--queue-url", url, "--attribute-names", "All")["Attributes"]
    return int(found["ApproximateNumberOfMessages"]) + int(found["ApproximateNumberOfMessagesNotVisible"])


if __name__ == "__main__":
    main()
