"""Pipelines on the estates that a local CloudFormation has made: the real worker, with the manifest that the stack puts out, moves what is sent to the
stack's queue into PostgreSQL."""

import json

import pytest

import policy
from estates import KINDS, estate
from template import document
from workers import Worker, until

# MiniStack's CloudFormation lets RDS make no secret.
UNKNOWN = "RDS rotates the master user's password"
# What nobody may have twice, whatever way it came.
BY_QUEUE = [{"id": f"o-{number}", "customer": "ada" if number % 2 else "lin", "amount": number + 0.1} for number in range(20)]
BY_INGEST = [{"id": f"i-{number}", "customer": "ada", "note": "Grüße & =+%"} for number in range(3)]


@pytest.fixture(scope="module")
def worker_of_orders(orders, postgres, tmp_path_factory):
    """Logs in by IAM: the manifest is the stack's own."""
    postgres.become("orders-1", "app")
    postgres.sql(orders.make("sql").stdout, "app")
    postgres.sql("CREATE TABLE messages (id text PRIMARY KEY, payload jsonb, place bigint GENERATED ALWAYS AS IDENTITY);"
                 "GRANT SELECT, INSERT ON messages TO durable_write", "app")
    worker = Worker(tmp_path_factory.mktemp("orders"), orders.server, postgres, orders.output("PipelineManifest"))
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture(scope="module")
def worker_of_parcels(parcels, postgres, tmp_path_factory):
    """Logs in with the password that the stack has made, and PostgreSQL asks for it."""
    postgres.become("parcels-1", "parcels")
    postgres.sql(parcels.make("sql").stdout, "parcels")
    postgres.sql("CREATE TABLE parcels (number text PRIMARY KEY, payload jsonb); GRANT SELECT, INSERT ON parcels TO carrier", "parcels")
    secret = json.loads(parcels.make("secret").stdout)
    assert secret["metadata"] == {"name": "parcels-db", "namespace": "shop"}
    worker = Worker(tmp_path_factory.mktemp("parcels"), parcels.server, postgres, parcels.output("PipelineManifest"), secret)
    worker.start()
    yield worker
    worker.stop()


def test_what_is_sent_to_the_stacks_queue_and_through_its_ingest_becomes_one_row_each(orders, worker_of_orders, postgres):
    sqs, url = orders.server.client("sqs"), orders.outputs["QueueUrl"]
    for message in BY_QUEUE:
        # Twice, as a producer does that had no answer for long; SQS does not see that they are one.
        for attempt in (1, 2):
            sqs.send_message(QueueUrl=url, MessageBody=json.dumps(message), MessageGroupId=message["customer"], MessageDeduplicationId=f"{message['id']}-{attempt}")
    bad = sqs.send_message(QueueUrl=url, MessageBody='{"customer": "ada"}', MessageGroupId="ada", MessageDeduplicationId="bad")
    for message in BY_INGEST:
        assert orders.post(f"group=ada&deduplication={message['id']}", json.dumps(message, ensure_ascii=False)) == 202

    def empty():
        found = orders.attributes("QueueUrl")
        return found["ApproximateNumberOfMessages"] == found["ApproximateNumberOfMessagesNotVisible"] == "0"

    until(empty, worker_of_orders.log)
    rows = [json.loads(row) for row in postgres.sql("SELECT payload FROM messages ORDER BY place", "app")]
    assert sorted(row["id"] for row in rows) == sorted(message["id"] for message in BY_QUEUE + BY_INGEST)
    assert {row["id"]: row for row in rows} == {message["id"]: message for message in BY_QUEUE + BY_INGEST}
    for group in ("ada", "lin"):
        assert [row["id"] for row in rows if row["customer"] == group] == [one["id"] for one in BY_QUEUE + BY_INGEST if one["customer"] == group]
    (dead,) = orders.receive("DeadLetterQueueUrl")
    reason = json.loads(dead["MessageAttributes"]["durable-write"]["StringValue"])
    assert dead["Body"] == '{"customer": "ada"}' and reason["messageId"] == bad["MessageId"], reason


def test_the_password_that_the_stack_has_made_opens_the_database(parcels, worker_of_parcels, postgres):
    password = (worker_of_parcels.folder / "secrets/parcels-db/password").read_text()
    assert len(password) == 40 and password not in parcels.make("sql").stdout
    parcels.server.client("sqs").send_message(QueueUrl=parcels.outputs["QueueUrl"], MessageBody='{"number": "p-1"}')
    until(lambda: postgres.sql("SELECT number FROM parcels", "parcels") == ["p-1"], worker_of_parcels.log)
    assert password not in worker_of_parcels.log()


def test_validation_finds_a_good_estate_good(parcels, worker_of_parcels):
    done = parcels.make("validate", environment={"LATE": "0.5"})
    assert bad(done) == [UNKNOWN] and "1 checks failed" in done.stderr, done.stdout + done.stderr + worker_of_parcels.log()


def test_validation_says_what_is_wrong_with_a_broken_estate(parcels, worker_of_parcels):
    """Broken behind the stack's back, as somebody in a hurry does."""
    sqs, queue = parcels.server.client("sqs"), parcels.outputs["QueueUrl"]
    worker_of_parcels.stop()
    kept = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["RedrivePolicy", "Policy"])["Attributes"]
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": "", "Policy": ""})
    sqs.send_message(QueueUrl=parcels.outputs["DeadLetterQueueUrl"], MessageBody="{}")
    parcels.rds.modify_db_cluster(DBClusterIdentifier="parcels", DeletionProtection=False)
    try:
        done = parcels.make("validate", environment={"LATE": "0.5", "PATIENCE": "1"})
    finally:
        sqs.set_queue_attributes(QueueUrl=queue, Attributes=kept)
        parcels.rds.modify_db_cluster(DBClusterIdentifier="parcels", DeletionProtection=True)
        parcels.receive("DeadLetterQueueUrl")
        worker_of_parcels.start()
    assert bad(done) == [
        "the cluster is protected from deletion", UNKNOWN, "the queue has its dead-letter queue", "the queue asks for TLS", "there are no dead letters",
        "the message has left the queue",
    ], done.stdout
    assert done.returncode != 0 and "6 checks failed" in done.stderr


def bad(done):
    """What `make validate` has found wrong."""
    return [line[5:].split(":")[0] for line in done.stdout.splitlines() if line.startswith("BAD")]


@pytest.mark.parametrize("kind", KINDS)
def test_every_manifest_obeys_the_schema_and_the_rules_of_pipelines(kind, server, postgres, tmp_path):
    worker = Worker(tmp_path, server, postgres, estate(kind).outputs["PipelineManifest"])
    assert worker.check().startswith(f"ok   manifest: pipeline {KINDS[kind]['Name']} obeys schema and rules\n"), worker.check()


def test_the_workers_role_is_what_the_worker_itself_asks_for(worker_of_orders):
    """`check` prints the policy for the queues that it sees."""
    said = worker_of_orders.check("--drills")
    asked = document(said[said.index("{"):])["Statement"]
    statements = policy.roles(estate(DrillNamespaces="shop").all()["access"])["WorkerRole"]
    wanted = {(action, statement["Resource"]) for statement in asked for action in policy.listed(statement["Action"])}
    assert len(wanted) >= 9
    for action, resource in wanted:
        assert policy.allowed(statements, action, resource), (action, resource)
    assert {action for statement in statements for action in policy.listed(statement["Action"])} == {action for action, _ in wanted}

