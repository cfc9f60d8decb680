"""Who may do what: tables of role, action, resource and context, over the templates' own statements."""

import json

import pytest

import policy
from estates import estate
from template import document, walk

HERE = "eu-central-2:111122223333"
QUEUE = f"arn:aws:sqs:{HERE}:orders.fifo"
DEAD = f"arn:aws:sqs:{HERE}:orders-dlq.fifo"
OTHER = f"arn:aws:sqs:{HERE}:parcels.fifo"
CLUSTER = f"arn:aws:rds:{HERE}:cluster:orders"
INSTANCE = f"arn:aws:rds:{HERE}:db:orders-1"
KEY = f"arn:aws:kms:{HERE}:key/00000000-0000-0000-0000-000000000000"
USER = f"arn:aws:rds-db:{HERE}:dbuser:cluster-ESTATE/durable_write"
MASTER = f"arn:aws:rds-db:{HERE}:dbuser:cluster-ESTATE/postgres"
ELSEWHERE = f"arn:aws:rds-db:{HERE}:dbuser:cluster-OTHER/durable_write"
PROXY = f"arn:aws:rds-db:{HERE}:dbuser:prx-0estate/durable_write"
INGEST = f"arn:aws:execute-api:{HERE}:api0/v1/POST/messages"
OPENED = {"aws:ResourceTag/durablewrite.dev/drills.prod": "shop billing"}
BY_SQS = {"kms:ViaService": "sqs.eu-central-2.amazonaws.com"}
BY_OTHERS = {"kms:ViaService": "s3.eu-central-2.amazonaws.com"}

# The operator: it sees, and fails over what is opened to it. Nothing else.
OPERATOR = [
    ("rds:DescribeDBClusters", CLUSTER, {}, True),
    ("rds:DescribeDBInstances", INSTANCE, {}, True),
    ("rds:DescribeEvents", "*", {}, True),
    ("rds:FailoverDBCluster", CLUSTER, OPENED, True),
    ("rds:FailoverDBCluster", CLUSTER, {"aws:ResourceTag/durablewrite.dev/drills.prod": "@all"}, True),
    ("rds:FailoverDBCluster", CLUSTER, {}, False),
    ("rds:FailoverDBCluster", CLUSTER, {"aws:ResourceTag/durablewrite.dev/drills.prod": ""}, False),
    ("rds:FailoverDBCluster", CLUSTER, {"aws:ResourceTag/durablewrite.dev/drills.test": "@all"}, False),
    ("rds:FailoverDBCluster", CLUSTER, {"aws:ResourceTag/durablewrite.dev/drills.prod2": "@all"}, False),
    ("rds:FailoverDBCluster", CLUSTER, {"aws:RequestTag/durablewrite.dev/drills.prod": "@all"}, False),
    ("rds:FailoverDBCluster", CLUSTER.replace("111122223333", "444455556666"), OPENED, False),
    ("rds:FailoverDBCluster", CLUSTER.replace("eu-central-2", "us-east-1"), OPENED, False),
    ("rds:FailoverGlobalCluster", CLUSTER, OPENED, False),
    ("rds:RebootDBInstance", INSTANCE, OPENED, False),
    ("rds:AddTagsToResource", CLUSTER, OPENED, False),
    ("rds:RemoveTagsFromResource", CLUSTER, OPENED, False),
    ("rds:ModifyDBCluster", CLUSTER, OPENED, False),
    ("rds:DeleteDBCluster", CLUSTER, OPENED, False),
    ("rds:DownloadDBLogFilePortion", INSTANCE, OPENED, False),
    ("rds-db:connect", USER, {}, False),
    ("sqs:SendMessage", QUEUE, {}, False),
    ("sqs:ReceiveMessage", QUEUE, {}, False),
    ("sqs:DeleteMessage", QUEUE, {}, False),
    ("sqs:GetQueueAttributes", QUEUE, {}, False),
    ("sqs:ListQueues", "*", {}, False),
    ("secretsmanager:GetSecretValue", "*", {}, False),
    ("secretsmanager:ListSecrets", "*", {}, False),
    ("kms:Decrypt", KEY, {}, False),
    ("iam:PassRole", "*", {}, False),
    ("sts:AssumeRole", "*", {}, False),
]

# Workers: their own queue, its dead-letter queue, their own user.
WORKER = [
    ("sqs:GetQueueUrl", QUEUE, {}, True),
    ("sqs:GetQueueAttributes", QUEUE, {}, True),
    ("sqs:ReceiveMessage", QUEUE, {}, True),
    ("sqs:DeleteMessage", QUEUE, {}, True),
    ("sqs:ChangeMessageVisibility", QUEUE, {}, True),
    ("sqs:SendMessage", QUEUE, {}, True),
    ("sqs:GetQueueUrl", DEAD, {}, True),
    ("sqs:GetQueueAttributes", DEAD, {}, True),
    ("sqs:SendMessage", DEAD, {}, True),
    ("sqs:ReceiveMessage", DEAD, {}, False),
    ("sqs:DeleteMessage", DEAD, {}, False),
    ("sqs:PurgeQueue", QUEUE, {}, False),
    ("sqs:PurgeQueue", DEAD, {}, False),
    ("sqs:SetQueueAttributes", QUEUE, {}, False),
    ("sqs:DeleteQueue", QUEUE, {}, False),
    ("sqs:StartMessageMoveTask", DEAD, {}, False),
    ("sqs:ReceiveMessage", OTHER, {}, False),
    ("sqs:SendMessage", OTHER, {}, False),
    ("sqs:ReceiveMessage", QUEUE.replace("111122223333", "444455556666"), {}, False),
    ("rds-db:connect", USER, {}, True),
    ("rds-db:connect", PROXY, {}, True),
    ("rds-db:connect", MASTER, {}, False),
    ("rds-db:connect", ELSEWHERE, {}, False),
    ("kms:Decrypt", KEY, BY_SQS, True),
    ("kms:GenerateDataKey", KEY, BY_SQS, True),
    ("kms:Decrypt", KEY, BY_OTHERS, False),
    ("kms:Decrypt", KEY, {}, False),
    ("kms:ScheduleKeyDeletion", KEY, BY_SQS, False),
    ("rds:DescribeDBClusters", CLUSTER, {}, False),
    ("rds:FailoverDBCluster", CLUSTER, OPENED, False),
    ("secretsmanager:GetSecretValue", "*", {}, False),
    ("execute-api:Invoke", INGEST, {}, False),
]

PRODUCER = [
    ("sqs:GetQueueUrl", QUEUE, {}, True),
    ("sqs:SendMessage", QUEUE, {}, True),
    ("execute-api:Invoke", INGEST, {}, True),
    ("execute-api:Invoke", INGEST.replace("POST", "GET"), {}, False),
    ("execute-api:Invoke", INGEST.replace("api0", "api1"), {}, False),
    ("kms:GenerateDataKey", KEY, BY_SQS, True),
    ("kms:Decrypt", KEY, BY_SQS, True),
    ("kms:GenerateDataKey", KEY, {}, False),
    ("sqs:ReceiveMessage", QUEUE, {}, False),
    ("sqs:DeleteMessage", QUEUE, {}, False),
    ("sqs:SendMessage", DEAD, {}, False),
    ("sqs:SendMessage", OTHER, {}, False),
    ("rds-db:connect", USER, {}, False),
    ("rds:DescribeDBClusters", CLUSTER, {}, False),
]

ROLES = {"OperatorRole": OPERATOR, "WorkerRole": WORKER, "ProducerRole": PRODUCER}
ROWS = [(role, *row) for role, rows in ROLES.items() for row in rows]


@pytest.mark.parametrize("kind", ["full", "irsa"])
@pytest.mark.parametrize("role, action, resource, context, expected", ROWS)
def test_a_role_may_do_what_the_table_says(kind, role, action, resource, context, expected):
    assert policy.allowed(statements(kind, role), action, resource, context) is expected


def test_the_table_has_every_action_that_a_role_is_given():
    for role, rows in ROLES.items():
        given = {action for statement in statements("full", role) for action in policy.listed(statement["Action"])}
        tried = {action for action, *_, expected in rows if expected}
        assert given == tried, f"{role}: the table must try each action, and no role has wildcards"


@pytest.mark.parametrize("kind, action, resource", [("small", "sqs:SendMessage", QUEUE), ("secret", "rds-db:connect", USER), ("small", "rds-db:connect", PROXY)])
def test_without_drills_iam_logins_and_proxy_workers_cannot_use_them(kind, action, resource):
    assert not policy.allowed(statements(kind, "WorkerRole"), action, resource)
    assert policy.allowed(statements("full", "WorkerRole"), action, resource)


def test_workers_log_in_by_iam_unless_a_secret_was_asked_for():
    assert policy.allowed(statements("small", "WorkerRole"), "rds-db:connect", USER)
    assert not policy.allowed(statements("small", "WorkerRole"), "rds-db:connect", MASTER)
    small, secret = (estate(kind).all()["access"].of_type("AWS::SecretsManager::Secret") for kind in ("small", "secret"))
    assert not small and secret.keys() == {"WorkerSecret"}


def test_the_operator_fails_over_what_carries_the_tag_whichever_estate_opened_it():
    without_drills = statements("small", "OperatorRole")
    tags = estate("second of the cluster", DrillNamespaces="shop").all()["aurora"].resources["Cluster"]["Properties"]["Tags"]
    context = {f"aws:ResourceTag/{tag['Key']}": tag["Value"] for tag in tags}
    assert policy.allowed(without_drills, "rds:FailoverDBCluster", CLUSTER.replace("orders", "parcels"), context)
    assert not policy.allowed(without_drills, "rds:FailoverDBCluster", CLUSTER)


def test_failover_is_bound_to_the_tag_of_the_cluster_that_the_stack_writes():
    stacks = estate("full").all()
    tags = stacks["aurora"].resources["Cluster"]["Properties"]["Tags"]
    context = {f"aws:ResourceTag/{tag['Key']}": tag["Value"] for tag in tags}
    assert policy.allowed(statements("full", "OperatorRole"), "rds:FailoverDBCluster", CLUSTER, context)
    assert {"Key": "durablewrite.dev/drills.prod", "Value": "shop billing"} in tags


def test_a_cluster_that_nobody_opened_has_no_tag_for_drills():
    tags = estate("small").all()["aurora"].resources["Cluster"]["Properties"]["Tags"]
    assert not [tag for tag in tags if "drills" in tag["Key"]]


def test_roles_of_pods_have_no_managed_policies():
    for role in estate("full").all()["access"].of_type("AWS::IAM::Role").values():
        assert "ManagedPolicyArns" not in role["Properties"]


def test_only_the_operator_asks_for_every_resource_and_only_to_see():
    wide = [
        (name, role, statement["Action"])
        for kind in ("small", "full")
        for name, stack in estate(kind).all().items()
        for role, found in policy.roles(stack).items()
        for statement in found
        if "*" in policy.listed(statement["Resource"])
    ]
    assert {(name, role) for name, role, _ in wide} == {("access", "OperatorRole")}
    assert all(action.startswith("rds:Describe") for *_, actions in wide for action in actions)


POD = {
    "aws:RequestTag/eks-cluster-arn": f"arn:aws:eks:{HERE}:cluster/prod",
    "aws:RequestTag/kubernetes-namespace": "shop",
    "aws:RequestTag/kubernetes-service-account": "orders",
}
EKS = {"Service": "pods.eks.amazonaws.com"}
TOKEN = {"oidc.example.com/id/ABCD:aud": "sts.amazonaws.com", "oidc.example.com/id/ABCD:sub": "system:serviceaccount:shop:orders"}
PROVIDER = {"Federated": "arn:aws:iam::111122223333:oidc-provider/oidc.example.com/id/ABCD"}
TRUST = [
    ("full", "sts:AssumeRole", EKS, POD, True),
    ("full", "sts:TagSession", EKS, POD, True),
    ("full", "sts:AssumeRole", EKS, POD | {"aws:RequestTag/kubernetes-namespace": "other"}, False),
    ("full", "sts:AssumeRole", EKS, POD | {"aws:RequestTag/kubernetes-service-account": "default"}, False),
    ("full", "sts:AssumeRole", EKS, POD | {"aws:RequestTag/eks-cluster-arn": f"arn:aws:eks:{HERE}:cluster/test"}, False),
    ("full", "sts:AssumeRole", EKS, POD | {"aws:RequestTag/eks-cluster-arn": "arn:aws:eks:eu-central-2:444455556666:cluster/prod"}, False),
    ("full", "sts:AssumeRole", EKS, {}, False),
    ("full", "sts:AssumeRole", {"AWS": "arn:aws:iam::111122223333:root"}, POD, False),
    ("full", "sts:AssumeRoleWithWebIdentity", PROVIDER, TOKEN, False),
    ("irsa", "sts:AssumeRoleWithWebIdentity", PROVIDER, TOKEN, True),
    ("irsa", "sts:AssumeRoleWithWebIdentity", PROVIDER, TOKEN | {"oidc.example.com/id/ABCD:sub": "system:serviceaccount:shop:default"}, False),
    ("irsa", "sts:AssumeRoleWithWebIdentity", PROVIDER, TOKEN | {"oidc.example.com/id/ABCD:aud": "other"}, False),
    ("irsa", "sts:AssumeRoleWithWebIdentity", PROVIDER, {}, False),
    ("irsa", "sts:AssumeRoleWithWebIdentity", {"Federated": "arn:aws:iam::111122223333:oidc-provider/other"}, TOKEN, False),
    ("irsa", "sts:AssumeRole", EKS, POD, False),
]


@pytest.mark.parametrize("kind, action, principal, context, expected", TRUST)
def test_a_role_is_taken_only_by_its_own_service_account(kind, action, principal, context, expected):
    statements = policy.trust(estate(kind).all()["access"], "WorkerRole")
    assert policy.allowed(statements, action, context=context, principal=principal) is expected


ACCOUNTS = [("OperatorRole", "durable-write-system", "durable-write"), ("ProducerRole", "web", "checkout")]


@pytest.mark.parametrize("role, namespace, account", ACCOUNTS)
def test_operator_and_producers_have_accounts_of_their_own_by_irsa(role, namespace, account):
    trust = policy.trust(estate("irsa").all()["access"], role)
    theirs = TOKEN | {"oidc.example.com/id/ABCD:sub": f"system:serviceaccount:{namespace}:{account}"}
    assert policy.allowed(trust, "sts:AssumeRoleWithWebIdentity", context=theirs, principal=PROVIDER)
    assert not policy.allowed(trust, "sts:AssumeRoleWithWebIdentity", context=TOKEN, principal=PROVIDER)


@pytest.mark.parametrize("role, namespace, account", ACCOUNTS)
def test_operator_and_producers_have_accounts_of_their_own(role, namespace, account):
    stack = estate("full").all()["access"]
    theirs = POD | {"aws:RequestTag/kubernetes-namespace": namespace, "aws:RequestTag/kubernetes-service-account": account}
    assert policy.allowed(policy.trust(stack, role), "sts:AssumeRole", context=theirs, principal=EKS)
    assert not policy.allowed(policy.trust(stack, role), "sts:AssumeRole", context=POD, principal=EKS)


def test_pods_are_bound_to_their_roles_only_where_eks_does_it():
    def bound(kind):
        return {
            (found["Properties"]["Namespace"], found["Properties"]["ServiceAccount"])
            for found in estate(kind).all()["access"].of_type("AWS::EKS::PodIdentityAssociation").values()
        }

    assert bound("full") == {("durable-write-system", "durable-write"), ("shop", "orders"), ("web", "checkout")}
    assert bound("second of the cluster") == {("shop", "parcels")}
    assert bound("irsa") == set()


@pytest.mark.parametrize("queue", ["QueuePolicy", "DeadLetterQueuePolicy"])
def test_a_queue_is_reached_by_tls_only(queue):
    found = document(estate().all()["queue"].resources[queue]["Properties"]["PolicyDocument"])["Statement"]
    anyone = [{"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}]
    arn = QUEUE if queue == "QueuePolicy" else DEAD
    assert not policy.allowed(found + anyone, "sqs:SendMessage", arn, {"aws:SecureTransport": "false"})
    assert policy.allowed(found + anyone, "sqs:SendMessage", arn, {"aws:SecureTransport": "true"})


def test_no_policy_of_a_resource_lets_strangers_in():
    for stack in estate("full").all().values():
        for name, resource in stack.resources.items():
            # Some policies are written as text.
            texts = [json.loads(value) for _, value in walk(resource) if isinstance(value, str) and value.startswith("{") and '"Statement"' in value]
            for path, value in walk([resource, *texts]):
                if isinstance(value, dict) and value.get("Effect") == "Allow" and "Principal" in value:
                    assert value["Principal"] != "*" and value["Principal"] != {"AWS": "*"}, (name, path)


def test_the_ingest_may_send_and_nothing_else():
    found = policy.roles(estate("full").all()["ingest"])["Role"]
    assert policy.allowed(found, "sqs:SendMessage", QUEUE)
    assert {action for statement in found for action in policy.listed(statement["Action"])} == {"sqs:SendMessage", "kms:Decrypt", "kms:GenerateDataKey"}


def test_the_proxy_logs_in_as_one_user_of_one_cluster():
    found = policy.roles(estate("full").all()["proxy"])["Role"]
    assert policy.allowed(found, "rds-db:connect", USER)
    assert not policy.allowed(found, "rds-db:connect", MASTER)
    assert not policy.allowed(found, "secretsmanager:GetSecretValue")


def statements(kind, role):
    return policy.roles(estate(kind).all()["access"])[role]
