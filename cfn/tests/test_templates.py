"""What the templates promise: nothing hard-coded, nothing unused, nothing lost on deletion, and estates of every size."""

import hashlib
import json
import re

import pytest
import yaml

from estates import ALONE, FULL, KINDS, SMALL, alone, estate
from template import FOLDER, NAMES, NESTED, Refused, Stack, load, walk

KEPT = {
    "AWS::RDS::DBCluster": "Snapshot",
    "AWS::SQS::Queue": "RetainExceptOnCreate",
    # A queue that is kept is reached by TLS only, as before.
    "AWS::SQS::QueuePolicy": "RetainExceptOnCreate",
    # A setting of the account, which other APIs rely on once it is there.
    "AWS::ApiGateway::Account": "Retain",
}
# What nothing here asks for, but people may: to let more clients of theirs in.
FOR_PEOPLE_ALONE = {("proxy", "SecurityGroupId")}


@pytest.mark.parametrize("name", NAMES)
def test_no_region_account_or_partition_is_hard_coded(name):
    for path, value in walk(load(name)):
        # Patterns tell what is allowed, and descriptions give examples.
        if not isinstance(value, str) or path[-1] in ("AllowedPattern", "Description", "ConstraintDescription", "AlarmDescription"):
            continue
        assert not re.search(r"\b(af|ap|ca|cn|eu|il|me|mx|sa|us)-(gov-)?[a-z]+-\d", value), (path, value)
        assert not re.search(r"(?<![0-9a-f])\d{12}(?![0-9a-f])", value), (path, value)
        assert not re.search(r"\barn:(?!\$\{AWS::Partition\})", value.replace("role-arn:", "")), (path, value)
        # Names of services in policies, and the annotation of EKS: the same in every commercial region.
        endings = re.sub(r'"sts\.amazonaws\.com"|eks\.amazonaws\.com/role-arn|"(events|delivery\.logs)\.amazonaws\.com"', "", value)
        assert not re.search(r"amazonaws\.com(?!$)", endings), (path, value)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_resource_and_condition_that_is_named_exists_and_is_used(name):
    template = load(name)
    named, conditions = set(), set()
    for path, value in walk({key: template[key] for key in template if key not in ("Metadata", "Parameters")}):
        if isinstance(value, dict):
            named |= {value["Ref"]} if "Ref" in value else set()
            named |= {value["Fn::GetAtt"][0]} if "Fn::GetAtt" in value else set()
            conditions |= {value["Fn::If"][0]} if "Fn::If" in value else set()
            if isinstance(value.get("Condition"), str):
                conditions.add(value["Condition"])
            if "Fn::Sub" in value:
                text, more = value["Fn::Sub"] if isinstance(value["Fn::Sub"], list) else (value["Fn::Sub"], {})
                found = set(re.findall(r"\$\{([A-Za-z0-9:]+)[^}]*\}", text))
                assert more.keys() <= found, f"{path}: a value that the text does not use"
                named |= found - more.keys()
    parameters, resources = template["Parameters"].keys(), template["Resources"].keys()
    assert {one for one in named if "::" not in one} <= parameters | resources
    assert parameters <= named, "a parameter that nothing uses"
    assert conditions == template.get("Conditions", {}).keys()


def test_every_output_of_a_nested_template_is_used_and_nothing_is_exported():
    used = {
        (value["Fn::GetAtt"][0].removesuffix("Stack").lower(), value["Fn::GetAtt"][1].removeprefix("Outputs."))
        for _, value in walk(load("main"))
        if isinstance(value, dict) and "Fn::GetAtt" in value
    }
    made = {(name, output) for name in NESTED for output in load(name)["Outputs"]}
    assert used <= made
    assert made - used == FOR_PEOPLE_ALONE, "an output that nothing uses"
    for name in NAMES:
        assert not [path for path, _ in walk(load(name)) if "Export" in path or "Fn::ImportValue" in path]


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_validated_described_and_in_a_group(name):
    template = load(name)
    grouped = [one for group in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"] for one in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])
    for parameter, spec in template["Parameters"].items():
        assert spec["Description"].endswith("."), parameter
        typed = spec["Type"].startswith(("AWS::", "List<AWS::"))
        assert typed or "ConstraintDescription" in spec, f"{parameter} takes anything"
        if not typed and "Default" in spec:
            Stack({"Parameters": {parameter: spec}, "Resources": {}, "Outputs": {}}, {})


@pytest.mark.parametrize("name", NAMES)
def test_no_password_is_asked_for(name):
    for parameter, spec in load(name)["Parameters"].items():
        assert not re.search(r"password|secret$|token", parameter, re.IGNORECASE) and "NoEcho" not in spec
    for path, _ in walk(load(name)["Resources"]):
        assert path[-1:] not in [("MasterUserPassword",), ("SecretString",)] and path[-3:] != ("ApiKey", "Properties", "Value")


@pytest.mark.parametrize("kind", KINDS)
def test_an_estate_of_each_kind_fits_together(kind):
    stacks = estate(kind).all()
    assert {"aurora", "queue", "access", "observability"} <= stacks.keys()
    assert ("proxy" in stacks) == (KINDS[kind].get("Proxy") == "true")
    assert ("network" in stacks) == (KINDS[kind].get("Network") == "New")


def test_the_nested_templates_stand_alone_one_after_the_other():
    outputs = {}
    for name in ALONE:
        outputs |= Stack(load(name), alone(name, outputs)).outputs
    assert ALONE.keys() == set(NESTED)


@pytest.mark.parametrize("readers", range(4))
def test_there_is_a_writer_and_as_many_readers_as_asked_for(readers):
    stacks = estate("full", Readers=readers).all()
    instances = stacks["aurora"].of_type("AWS::RDS::DBInstance")
    assert len(instances) == 1 + readers
    zones = [instance["Properties"]["AvailabilityZone"][-1] for instance in instances.values()]
    assert zones == ["a", "b", "c", "a"][: 1 + readers]
    assert ("Readers" in stacks["proxy"].resources) == (readers > 0)


def test_in_a_region_with_two_zones_the_readers_take_turns():
    instances = estate("two zones", Readers=3).all()["aurora"].of_type("AWS::RDS::DBInstance")
    assert [instance["Properties"]["AvailabilityZone"][-1] for instance in instances.values()] == ["a", "b", "a", "a"]


@pytest.mark.parametrize("instance_class", ["db.r7g.large", "db.r8g.2xlarge", "db.r6gd.16xlarge", "db.t4g.medium", "db.x2g.large", "db.r6i.large", "db.r7i.48xlarge", "db.r5.24xlarge", "db.t3.medium"])
def test_graviton_and_x86_are_both_taken(instance_class):
    for instance in estate("small", InstanceClass=instance_class).all()["aurora"].of_type("AWS::RDS::DBInstance").values():
        assert instance["Properties"]["DBInstanceClass"] == instance_class


REFUSED = [
    {"Name": "Orders"}, {"Name": "orders-"}, {"Name": "a--b"}, {"Name": "o" * 41}, {"Name": ""},
    {"Readers": "4"}, {"InstanceClass": "r7g.large"}, {"InstanceClass": "db.r7g.large; DROP"}, {"EngineVersion": "16"}, {"EngineVersion": "13.9"},
    {"VpcId": ""}, {"SubnetIds": "subnet-00000000000000001"}, {"ClientSecurityGroupId": ""}, {"EngineVersion": "19.1"},
    *({"ClientCidr": cidr} for cidr in (
        "0.0.0.0/0", "8.8.8.0/24", "10.0.0.0/0", "10.0.0.0/7", "10.0.0.0/33", "192.0.0.0/1", "192.168.0.0/15", "192.169.0.0/16", "172.0.0.0/2", "172.16.0.0/11",
        "172.15.0.0/16", "172.32.0.0/16", "100.64.0.0/9", "100.63.0.0/16", "100.128.0.0/16",
    )),
    {"InstanceZones": ""}, {"InstanceZones": "eu-central-2a"}, {"Proxy": "true", "DatabaseLogin": "Secret"}, {"Identity": "IRSA"}, {"Authorization": "Cognito"}, {"PeerVpcId": "vpc-0123456789abcdef0"},
    {"RetentionSeconds": "3600"}, {"MaxReceiveCount": "1"}, {"BackupRetentionDays": "0"}, {"DeletionProtection": "no"},
    {"DrillNamespaces": "shop, billing"}, {"DrillNamespaces": "@some"}, {"DrillNamespaces": "shop  billing"}, {"KubernetesClusterName": ""},
    {"DatabaseUser": "x; DROP"}, {"DatabaseUser": "Upper"}, {"KeyField": "a/b"}, {"AlarmEmail": "nobody"}, {"DemoDashboardUrl": "http://example.com"},
]


@pytest.mark.parametrize("more", REFUSED, ids=str)
def test_what_cannot_work_is_refused_before_anything_is_made(more):
    with pytest.raises(Refused):
        # The nested templates are not asked: a refusal there would come after half an hour.
        stack = load("main") | {"Resources": {}, "Outputs": {}}
        Stack(stack, SMALL | more)


@pytest.mark.parametrize("more", [
    *({"ClientCidr": cidr} for cidr in (
        "10.0.0.0/8", "10.1.2.3/32", "172.16.0.0/12", "172.31.0.0/16", "192.168.0.0/16", "192.168.7.0/24", "100.64.0.0/10", "100.127.255.0/24"
    )),
    {"EngineVersion": "14.22"}, {"EngineVersion": "18.3"},
], ids=str)
def test_what_can_work_is_taken(more):
    estate("full", **more)


@pytest.mark.parametrize("name", NAMES)
def test_what_holds_data_or_others_rely_on_outlives_its_stack(name):
    for logical, resource in load(name)["Resources"].items():
        if resource["Type"] in KEPT:
            assert resource["DeletionPolicy"] == KEPT[resource["Type"]], logical
            assert resource["UpdateReplacePolicy"] in ("Snapshot", "Retain"), logical
        # Without their key, snapshots and messages that were kept are noise.
        if resource["Type"] == "AWS::KMS::Key" and name in ("aurora", "queue"):
            assert resource["DeletionPolicy"] == "RetainExceptOnCreate" and resource["UpdateReplacePolicy"] == "Retain"
        if (name, logical) == ("ingest", "LogsRole"):
            assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize("kind", KINDS)
def test_the_database_is_protected_encrypted_and_reached_by_tls_and_iam(kind):
    stack = estate(kind).all()["aurora"]
    cluster = stack.resources["Cluster"]["Properties"]
    assert cluster["DeletionProtection"] == "true"
    assert cluster["StorageEncrypted"] is True and cluster["KmsKeyId"].startswith("arn:aws:kms:")
    assert cluster["ManageMasterUserPassword"] is True and "MasterUserPassword" not in cluster
    assert cluster["EnableIAMDatabaseAuthentication"] is True
    assert int(cluster["BackupRetentionPeriod"]) >= 1 and cluster["CopyTagsToSnapshot"] is True
    group = stack.resources["ParameterGroup"]["Properties"]
    assert group["Family"] == "aurora-postgresql16"
    assert group["Parameters"]["rds.force_ssl"] == "1"
    for instance in stack.of_type("AWS::RDS::DBInstance").values():
        assert instance["Properties"]["PubliclyAccessible"] is False
        assert instance["Properties"]["EnablePerformanceInsights"] is True


def test_the_proxy_takes_tls_and_iam_only():
    proxy = estate("full").all()["proxy"].resources["Proxy"]["Properties"]
    assert proxy["RequireTLS"] is True and proxy["DefaultAuthScheme"] == "IAM_AUTH" and "Auth" not in proxy


def test_security_groups_let_in_named_clients_on_one_port_only():
    for stack in estate("full").all().values():
        rules = [rule for group in stack.of_type("AWS::EC2::SecurityGroup").values() for rule in group["Properties"]["SecurityGroupIngress"]]
        rules += [rule["Properties"] for rule in stack.of_type("AWS::EC2::SecurityGroupIngress").values()]
        for rule in rules:
            assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 5432, 5432)
            assert "SourceSecurityGroupId" in rule or rule["CidrIp"] == "10.0.0.0/16"


@pytest.mark.parametrize("kind, suffix", [("full", ".fifo"), ("standard queue", "")])
def test_the_queue_and_its_dead_letter_queue_are_of_one_kind_and_know_each_other(kind, suffix):
    stack = estate(kind).all()["queue"]
    queue, dead = (stack.resources[name]["Properties"] for name in ("Queue", "DeadLetterQueue"))
    assert (queue["QueueName"], dead["QueueName"]) == (f"orders{suffix}", f"orders-dlq{suffix}")
    assert queue["RedrivePolicy"]["deadLetterTargetArn"].endswith(f":orders-dlq{suffix}")
    assert dead["RedriveAllowPolicy"] == {"redrivePermission": "byQueue", "sourceQueueArns": [queue["RedrivePolicy"]["deadLetterTargetArn"].replace("-dlq", "")]}
    assert queue.get("FifoThroughputLimit") == dead.get("FifoThroughputLimit") == ("perMessageGroupId" if suffix else None)
    assert queue.get("ContentBasedDeduplication") in (False, None)


def test_an_outage_cannot_spend_the_receives_of_a_message():
    # AWS's guidance: 25 receives of 5 seconds. Here an outage spends one, and each is a minute at least.
    queue = estate().all()["queue"].resources["Queue"]["Properties"]
    assert int(queue["MaxReceiveCount"] if "MaxReceiveCount" in queue else queue["RedrivePolicy"]["maxReceiveCount"]) >= 5
    assert queue["VisibilityTimeout"] >= 60


def test_queues_are_always_encrypted():
    for kind in ("small", "full"):
        for queue in estate(kind).all()["queue"].of_type("AWS::SQS::Queue").values():
            assert queue["Properties"].get("SqsManagedSseEnabled") is True or queue["Properties"]["KmsMasterKeyId"].startswith("arn:")


def test_the_outputs_are_the_guidances_and_ours():
    wanted = {"CloudWatchDashboardUrl", "DemoDashboardUrl", "QueueUrl", "IngestUrl", "PipelineManifest", "HelmValues"}
    assert wanted <= estate("full").outputs.keys()
    assert wanted - estate("small").outputs.keys() == {"DemoDashboardUrl"}
    assert estate("full").outputs["DemoDashboardUrl"] == FULL["DemoDashboardUrl"]


def test_names_that_look_like_other_things_are_names_in_the_manifest_and_the_values():
    odd = {"Name": "null", "PipelineNamespace": "2024", "DatabaseName": "on", "TableSchema": "yes", "TableName": "true", "KeyField": "off", "DatabaseUser": "no"}
    outputs = estate(KubernetesClusterName="2025", **odd).outputs
    manifest, values = (yaml.safe_load(outputs[name]) for name in ("PipelineManifest", "HelmValues"))
    leaves = {value for _, value in walk(manifest) if not isinstance(value, (dict, list))}
    assert odd.keys() - {name for name, value in odd.items() if value in leaves} == set() and all(isinstance(value, str) for value in leaves), manifest
    assert values["clusterName"] == "2025"


def test_a_message_is_taken_only_when_the_queue_has_confirmed_it():
    integration = load("ingest")["Resources"]["Post"]["Properties"]["Integration"]
    success, other = integration["IntegrationResponses"]
    assert (success["SelectionPattern"], success["StatusCode"]) == ("200", "202")
    assert "MessageId" in success["ResponseTemplates"]["application/json"] and "responseOverride.status = 503" in success["ResponseTemplates"]["application/json"]
    assert "SelectionPattern" not in other and other["StatusCode"] == "503", "what matches no pattern must be no success"
    overrides = re.findall(r"responseOverride\.status = (\d+)", json.dumps(integration))
    assert all(int(status) >= 400 for status in overrides)
    assert integration["PassthroughBehavior"] == "NEVER"


def test_no_value_of_a_request_can_add_a_parameter_to_the_call_of_sqs():
    for variant in load("ingest")["Resources"]["Post"]["Properties"]["Integration"]["RequestTemplates"]["application/json"]["Fn::If"][1:]:
        fields = dict(part.split("=", 1) for part in variant.split("&"))
        assert fields.pop("Action") == "SendMessage" and fields.pop("Version") == "2012-11-05"
        assert {"MessageBody"} <= fields.keys() <= {"MessageBody", "MessageGroupId", "MessageDeduplicationId"}
        assert all(re.fullmatch(r"\$util\.urlEncode\(\$input\.[^&=]+\)", value) for value in fields.values()), fields


def test_the_ingest_is_behind_waf_throttled_and_speaks_no_old_tls():
    resources = estate().all()["ingest"].resources
    assert resources["Api"]["Properties"]["SecurityPolicy"] == "SecurityPolicy_TLS13_1_2_2021_06"
    assert resources["WebAclOfStage"]["Properties"]["ResourceArn"].endswith("/restapis/api0/stages/v1")
    (settings,) = resources["Stage"]["Properties"]["MethodSettings"]
    assert settings["ResourcePath"] == "/*" and int(settings["ThrottlingRateLimit"]) == 500 and int(settings["ThrottlingBurstLimit"]) == 1000
    rules = {rule["Name"]: rule for rule in resources["WebAcl"]["Properties"]["Rules"]}
    assert rules.keys() == {"requests-per-address", "bad-addresses", "bad-inputs", "common"}
    assert rules["requests-per-address"]["Action"] == {"Block": {"CustomResponse": {"ResponseCode": 429}}}
    assert all(rules[name]["OverrideAction"] == {"None": {}} for name in ("bad-addresses", "bad-inputs", "common"))


def test_one_address_reaches_the_limit_of_the_stage_before_that_of_waf():
    parameters = load("ingest")["Parameters"]
    assert parameters["RequestsPerAddress"]["Default"] >= 300 * parameters["RequestsPerSecond"]["Default"]


def test_the_log_of_waf_has_no_credential_and_no_query():
    redacted = estate().all()["ingest"].resources["WebAclLogging"]["Properties"]["RedactedFields"]
    headers = {field["SingleHeader"]["Name"] for field in redacted if "SingleHeader" in field}
    assert headers == {"authorization", "x-api-key", "x-amz-security-token"} and {"QueryString": {}} in redacted


def test_waf_counts_what_a_body_may_look_like_and_blocks_all_else():
    rules = {rule["Name"]: rule for rule in estate().all()["ingest"].resources["WebAcl"]["Properties"]["Rules"]}
    group = rules["common"]["Statement"]["ManagedRuleGroupStatement"]
    counted = {override["Name"] for override in group["RuleActionOverrides"] if override["ActionToUse"] == {"Count": {}}}
    # Those of the core rule set that look into the body (its documentation), and the one for callers without a name.
    assert counted == {"SizeRestrictions_BODY", "EC2MetaDataSSRF_BODY", "GenericLFI_BODY", "GenericRFI_BODY", "CrossSiteScripting_BODY", "NoUserAgent_HEADER"}
    assert "RuleActionOverrides" not in rules["bad-inputs"]["Statement"]["ManagedRuleGroupStatement"]


@pytest.mark.parametrize("authorization, kind, api_key", [("IAM", "AWS_IAM", False), ("ApiKey", "NONE", True), ("Cognito", "COGNITO_USER_POOLS", False)])
def test_nobody_sends_without_authorisation(authorization, kind, api_key):
    method = estate("cognito", Authorization=authorization).all()["ingest"].resources["Post"]["Properties"]
    assert (method["AuthorizationType"], method["ApiKeyRequired"]) == (kind, api_key)
    assert ("AuthorizerId" in method) == (kind == "COGNITO_USER_POOLS")


def test_a_change_of_the_api_makes_a_new_deployment():
    resources = load("ingest")["Resources"]
    shaping = {name: resources[name] for name in ("Api", "Messages", "Validator", "Body", "Authorizer", "Post")}
    expected = "Deployment" + hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:8]
    found = {name[:18] for name in resources if name.startswith("Deployment")}
    assert found == {expected}, f"the API has changed, so its deployments must be renamed: sed --in-place s/{min(found)}/{expected}/g {FOLDER}/ingest.yaml"


def test_each_kind_of_queue_and_authorization_has_a_deployment_of_its_own_which_the_stage_serves():
    served = set()
    for queue in ("FIFO", "Standard"):
        for authorization in ("IAM", "ApiKey", "Cognito"):
            stack = estate("cognito", QueueType=queue, Authorization=authorization).all()["ingest"]
            (deployment,) = stack.of_type("AWS::ApiGateway::Deployment")
            assert stack.resources["Stage"]["Properties"]["DeploymentId"] == f"{deployment}.Ref"
            served.add(deployment)
    assert len(served) == 6


@pytest.mark.parametrize("name", NESTED)
def test_the_main_template_and_the_nested_ones_agree_on_shared_parameters(name):
    main, nested = load("main")["Parameters"], load(name)["Parameters"]
    for parameter in (main.keys() & nested.keys()) - {"Name", "KeyField", "VpcId", "SubnetIds", "KubernetesClusterName", "RetentionSeconds"}:
        for field in ("Default", "AllowedPattern", "AllowedValues", "MinValue", "MaxValue"):
            assert main[parameter].get(field) == nested[parameter].get(field), (parameter, field)
