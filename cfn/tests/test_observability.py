"""Dashboard and alarms: that they ask for what CloudWatch has, and tell people."""

import json

import pytest

import policy
from estates import KINDS, estate
from template import document

# What is asked for, with the dimensions that AWS documents for it (the guides of SQS, Aurora, RDS Proxy, EventBridge, API Gateway and WAF). A metric with
# other dimensions does not exist, and an alarm on it would be silent for ever.
DOCUMENTED = {
    ("AWS/SQS", "ApproximateAgeOfOldestMessage"): {"QueueName"},
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): {"QueueName"},
    ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible"): {"QueueName"},
    ("AWS/SQS", "NumberOfMessagesSent"): {"QueueName"},
    ("AWS/SQS", "NumberOfMessagesDeleted"): {"QueueName"},
    ("AWS/RDS", "AuroraReplicaLagMaximum"): {"DBClusterIdentifier"},
    ("AWS/RDS", "CommitThroughput"): {"DBClusterIdentifier", "Role"},
    ("AWS/RDS", "CommitLatency"): {"DBClusterIdentifier", "Role"},
    ("AWS/RDS", "CPUUtilization"): {"DBClusterIdentifier", "Role"},
    ("AWS/RDS", "DatabaseConnections"): {"DBClusterIdentifier", "Role"},
    ("AWS/RDS", "DatabaseConnectionsBorrowLatency"): {"ProxyName"},
    ("AWS/RDS", "ClientConnections"): {"ProxyName"},
    ("AWS/RDS", "DatabaseConnectionsCurrentlySessionPinned"): {"ProxyName"},
    ("AWS/RDS", "AvailabilityPercentage"): {"ProxyName", "TargetGroup", "TargetRole"},
    ("AWS/Events", "TriggeredRules"): {"RuleName"},
    ("AWS/ApiGateway", "Count"): {"ApiName", "Stage"},
    ("AWS/ApiGateway", "4XXError"): {"ApiName", "Stage"},
    ("AWS/ApiGateway", "5XXError"): {"ApiName", "Stage"},
    ("AWS/ApiGateway", "Latency"): {"ApiName", "Stage"},
    ("AWS/WAFV2", "BlockedRequests"): {"WebACL", "Region", "Rule"},
    # Of our own, from the log's filter.
    ("DurableWrite/orders", "WriteErrors"): set(),
}


def of_alarms(stack):
    for alarm in stack.of_type("AWS::CloudWatch::Alarm").values():
        properties = alarm["Properties"]
        for metric in [one["MetricStat"]["Metric"] for one in properties.get("Metrics", []) if "MetricStat" in one] or [properties]:
            yield metric["Namespace"], metric["MetricName"], {one["Name"] for one in metric.get("Dimensions", [])}


def of_dashboard(stack):
    for widget in json.loads(stack.resources["Dashboard"]["Properties"]["DashboardBody"])["widgets"]:
        for namespace, name, *dimensions in widget["properties"].get("metrics", []):
            yield namespace, name, {one for one in dimensions[::2] if isinstance(one, str)}


@pytest.mark.parametrize("metrics", [of_alarms, of_dashboard])
def test_only_metrics_are_asked_for_that_there_are(metrics):
    asked = list(metrics(estate("full").all()["observability"]))
    assert len(asked) >= 10
    for namespace, name, dimensions in asked:
        documented = DOCUMENTED[namespace, name]
        # Connections have the same name on clusters and proxies.
        assert dimensions == documented or (name == "DatabaseConnections" and dimensions == {"ProxyName"}), (namespace, name, dimensions)


def test_the_log_of_failovers_takes_every_kind_of_failover_event_of_this_cluster_alone():
    stack = estate("full").all()["observability"]
    rule = stack.resources["FailoverRule"]["Properties"]
    assert rule["EventPattern"] == {
        "source": ["aws.rds"], "detail-type": ["RDS DB Cluster Event"], "resources": ["arn:aws:rds:eu-central-2:111122223333:cluster:orders"],
        "detail": {"EventCategories": ["failover", "failure"]},
    }
    (target,) = rule["Targets"]
    assert target["Arn"] == "arn:aws:logs:eu-central-2:111122223333:log-group:/aws/events/durable-write/orders-failovers"
    statements, log = document(stack.resources["FailoverLogPolicy"]["Properties"]["PolicyDocument"])["Statement"], target["Arn"] + ":*"
    for service in ("events.amazonaws.com", "delivery.logs.amazonaws.com"):
        events = {"Service": service}
        assert policy.allowed(statements, "logs:CreateLogStream", log, principal=events)
        assert policy.allowed(statements, "logs:PutLogEvents", log, {"aws:SourceArn": "FailoverRule.Arn"}, events)
        assert not policy.allowed(statements, "logs:PutLogEvents", log, {"aws:SourceArn": "arn:aws:events:eu-central-2:444455556666:rule/theirs"}, events)


def test_alarms_of_other_accounts_use_neither_topic_nor_key():
    stack, alarms = estate("full").all()["observability"], {"Service": "cloudwatch.amazonaws.com"}
    key, topic = (document(stack.resources[name]["Properties"][text])["Statement"] for name, text in (("Key", "KeyPolicy"), ("TopicPolicy", "PolicyDocument")))
    for account, ours in (("111122223333", True), ("444455556666", False)):
        context = {"aws:SourceAccount": account}
        assert policy.allowed(key, "kms:GenerateDataKey", context=context, principal=alarms) is ours
        assert policy.allowed(topic, "sns:Publish", "arn:aws:sns:eu-central-2:111122223333:Topic", context, alarms) is ours


@pytest.mark.parametrize("kind", KINDS)
def test_the_dashboard_is_json_and_shows_what_there_is(kind):
    stack = estate(kind).all()["observability"]
    widgets = json.loads(stack.resources["Dashboard"]["Properties"]["DashboardBody"])["widgets"]
    titles = " ".join(widget["properties"]["title"] for widget in widgets)
    assert ("Proxy" in titles) == (KINDS[kind].get("Proxy") == "true")
    assert ("Ingest" in titles) == (KINDS[kind].get("Ingest") != "false")
    places = [(x, y) for widget in widgets for x in range(widget["x"], widget["x"] + widget["width"]) for y in range(widget["y"], widget["y"] + widget["height"])]
    assert len(places) == len(set(places)), "widgets overlap"
    assert "${" not in stack.resources["Dashboard"]["Properties"]["DashboardBody"]


def test_there_is_an_alarm_for_each_way_to_fail_and_each_tells_people():
    alarms = estate("full").all()["observability"].of_type("AWS::CloudWatch::Alarm")
    assert alarms.keys() == {
        "OldestMessage", "NearRetention", "DeadLetters", "DeadLettersNearEnd", "WriteErrorAlarm", "Failover", "ReplicaLag", "ProxyWaits", "ProxyUnavailable",
        "IngestErrors",
    }
    assert all(alarm["Properties"]["AlarmActions"] for alarm in alarms.values())
    small = estate("second of the cluster").all()["observability"].of_type("AWS::CloudWatch::Alarm")
    assert alarms.keys() - small.keys() == {"ProxyWaits", "ProxyUnavailable", "IngestErrors"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_metrics_of_the_ingest_are_those_of_its_api_and_stage(kind):
    stacks = estate(kind).all()
    if "ingest" not in stacks:
        return
    alarm = stacks["observability"].resources["IngestErrors"]["Properties"]["Dimensions"]
    api, stage = (stacks["ingest"].resources[name]["Properties"] for name in ("Api", "Stage"))
    assert alarm == [{"Name": "ApiName", "Value": api["Name"]}, {"Name": "Stage", "Value": stage["StageName"]}]
