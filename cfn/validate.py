#!/usr/bin/env python3
"""Checks a deployed estate, and sends one message through it when its queue is empty. Needs python3 and the AWS CLI ($AWS) with rights to read what
the stack made; $MESSAGE may say another body, $PATIENCE within how many seconds it must be written. Ends with 0 when nothing is found wrong, else 1."""

import datetime
import json
import os
import sys
import time
import urllib.error
import urllib.request

from estate import Refused, aws, stack

PATIENCE = float(os.environ.get("PATIENCE", 180))
# For how many seconds the queue must be seen empty: SQS's counts may be a minute late (its documentation of ApproximateNumberOfMessages).
LATE = float(os.environ.get("LATE", 60))


class Report:
    def __init__(self):
        self.bad = 0

    def check(self, what, well, hint):
        print(f"{'ok  ' if well else 'BAD '} {what}{'' if well else ': ' + hint}", flush=True)
        self.bad += not well

    def group(self, what, checks, *subject):
        """Checks of one thing. Where it cannot even be looked at, the rest is checked all the same."""
        try:
            checks(self, *subject)
        except Refused as refused:
            self.check(f"{what} can be looked at", False, str(refused))


def main():
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {sys.argv[0]} STACK")
    report, found = Report(), stack(sys.argv[1])
    outputs = found["Outputs"]
    report.check(f"the stack is {found['StackStatus']}", found["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE"), "see its events")
    if report.bad:
        raise SystemExit("Nothing else was checked. Deploy it again; delete it before when it was never complete")
    report.check("the stack is protected from deletion", found.get("EnableTerminationProtection"), "make -C cfn deploy protects it")
    report.group("the database", check_database, outputs)
    report.group("the queue", check_queues, outputs)
    if "IngestUrl" in outputs:
        check_ingest(report, outputs["IngestUrl"])
    report.group("the queue", send_one, outputs, found["Parameters"]["KeyField"])
    if report.bad:
        raise SystemExit(f"{report.bad} checks failed")


def check_database(report, outputs):
    (cluster,) = aws("rds", "describe-db-clusters", "--db-cluster-identifier", outputs["ClusterIdentifier"])["DBClusters"]
    report.check(f"the cluster is {cluster['Status']}", cluster["Status"] == "available", "wait, or see its events")
    report.check("the cluster is encrypted", cluster.get("StorageEncrypted"), "it was not made by this template")
    report.check("the cluster takes logins by IAM", cluster.get("IAMDatabaseAuthenticationEnabled"), "somebody has switched it off")
    report.check("the cluster is protected from deletion", cluster.get("DeletionProtection"), "set DeletionProtection to true")
    report.check("the cluster keeps backups", cluster.get("BackupRetentionPeriod", 0) >= 1, "set BackupRetentionDays")
    secret = cluster.get("MasterUserSecret", {}).get("SecretStatus")
    report.check("RDS rotates the master user's password", secret in ("active", "rotating"), f"its secret is {secret}; see the cluster's events")
    members = aws("rds", "describe-db-instances", "--filters", f"Name=db-cluster-id,Values={outputs['ClusterIdentifier']}")["DBInstances"]
    poor = [member["DBInstanceIdentifier"] for member in members if member["DBInstanceStatus"] != "available"]
    report.check(f"all {len(members)} instances are available", members and not poor, f"{', '.join(poor) or 'none'} are not")
    public = [member["DBInstanceIdentifier"] for member in members if member.get("PubliclyAccessible")]
    report.check("no instance is public", not public, f"somebody has opened {', '.join(public)}")
    zones = {member.get("AvailabilityZone") for member in members}
    # One alone is as it was asked for (Readers=0).
    if len(members) > 1:
        report.check("the instances are in more than one zone", len(zones) > 1, f"all are in {zones}; a zone that is lost takes the cluster along, and a drill asks for a reader")
    group = ["--db-cluster-parameter-group-name", cluster["DBClusterParameterGroup"], "--source", "user"]
    forced = {one["ParameterName"]: one.get("ParameterValue") for one in aws("rds", "describe-db-cluster-parameters", *group)["Parameters"]}
    report.check("the cluster takes no connection without TLS", forced.get("rds.force_ssl") == "1", "somebody has changed rds.force_ssl")


def check_queues(report, outputs):
    queue, dead = attributes(outputs["QueueUrl"]), attributes(outputs["DeadLetterQueueUrl"])
    redrive = json.loads(queue.get("RedrivePolicy", "{}"))
    report.check("the queue has its dead-letter queue", redrive.get("deadLetterTargetArn") == dead["QueueArn"], "somebody has changed the redrive policy")
    for name, found in (("queue", queue), ("dead-letter queue", dead)):
        report.check(f"the {name} is encrypted", found.get("SqsManagedSseEnabled") == "true" or found.get("KmsMasterKeyId"), "somebody has switched it off")
        report.check(f"the {name} asks for TLS", "aws:SecureTransport" in found.get("Policy", ""), "somebody has changed its policy")
    report.check("the queue keeps messages for four days at least", int(queue["MessageRetentionPeriod"]) >= 345600, "set RetentionSeconds")
    waiting = int(dead["ApproximateNumberOfMessages"])
    report.check("there are no dead letters", waiting == 0, f"{waiting}: each says why in the attribute durable-write")


def check_ingest(report, url):
    """A stranger must be turned away."""
    request = urllib.request.Request(f"{url}?group=validate&deduplication=validate", data=b'{"id": "stranger"}', headers={"content-type": "application/json"})
    try:
        status = urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as error:
        status = error.code
    except OSError as error:
        return report.check("the ingest answers", False, str(error))
    report.check(f"the ingest turns strangers away ({status})", status in (401, 403), "anybody can send")


def send_one(report, outputs, field):
    """One message, by SQS: it must leave the queue, and not for the dead-letter queue."""
    # SQS does not say which messages it has, so one among others cannot be followed.
    if waiting := count(outputs["QueueUrl"]):
        return print(f"?    no message was sent, as {waiting} are in the queue already: whether they are written, the age of the oldest says (dashboard)", flush=True)
    key = f"validate-{datetime.datetime.now(datetime.timezone.utc):%Y%m%dT%H%M%S}"
    body = os.environ.get("MESSAGE") or json.dumps({field: key})
    fifo = ["--message-group-id", key, "--message-deduplication-id", key] if outputs["QueueUrl"].endswith(".fifo") else []
    before = count(outputs["DeadLetterQueueUrl"])
    sent = aws("sqs", "send-message", "--queue-url", outputs["QueueUrl"], "--message-body", body, *fifo)
    report.check(f"the queue has taken message {sent['MessageId']}", True, "")
    print(f"     {body}", flush=True)
    left = wait_until_empty(outputs["QueueUrl"])
    report.check("the message has left the queue", not left, f"{left} are there after {PATIENCE:.0f} s; is the pipeline applied, and what do its conditions say?")
    more = count(outputs["DeadLetterQueueUrl"]) - before
    report.check("it was not dead-lettered", more <= 0, "see the attribute durable-write of the dead letter; a table with more columns wants another MESSAGE")


def wait_until_empty(url):
    """How many messages are left when the queue was seen empty for long enough (none), or the patience is over."""
    start = filled = time.monotonic()
    while (left := count(url)) or time.monotonic() - filled < LATE:
        if left:
            filled = time.monotonic()
            if filled - start > PATIENCE:
                break
        time.sleep(min(LATE, 1))
    return left


def count(url):
    """How many messages wait or are being handled."""
    found = attributes(url)
    return int(found["ApproximateNumberOfMessages"]) + int(found["ApproximateNumberOfMessagesNotVisible"])


def attributes(url):
    return aws("sqs", "get-queue-attributes", "--queue-url", url, "--attribute-names", "All")["Attributes"]


if __name__ == "__main__":
    main()
