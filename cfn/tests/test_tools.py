"""What other people's tools find in the templates: cfn-lint, checkov, parliament. They look at the templates as written and at what becomes of them."""

import importlib.resources
import json
import pathlib
import subprocess
import sys

import cfnlint.data.schemas.extensions as extensions
import parliament
import pytest
from cfnlint.config import ConfigMixIn
from cfnlint.helpers import REGIONS
from cfnlint.runner import Runner
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

import policy
from estates import KINDS, estate
from template import FOLDER, NAMES, load

BIN = pathlib.Path(sys.executable).parent
# China, the European Sovereign Cloud and those for governments are partitions of their own.
COMMERCIAL = [region for region in REGIONS if not region.startswith(("cn-", "us-gov-", "us-iso", "eu-iso", "eusc-"))]
# Where the default instance class is not to be had, by AWS's price list as cfn-lint has it; and which templates have a resource that is not to be had.
OTHER_CLASS = {"ap-southeast-4"}
WITHOUT = {"ap-east-2": {"proxy"}}
# Findings of parliament that are none, each with the reason.
REASONED = {
    ("RESOURCE_STAR", "OperatorRole"): "the operator asks for all clusters and instances of the region in one call, and may see them all",
}


def cfn_lint(*templates):
    return list(Runner(ConfigMixIn([], templates=[str(template) for template in templates])).run())


def test_cfn_lint_finds_nothing():
    assert cfn_lint(*(FOLDER / f"{name}.yaml" for name in NAMES)) == []


def test_cfn_lint_would_find_mistakes(tmp_path):
    text = (FOLDER / "queue.yaml").read_text()
    mistakes = {"VisibilityTimeout:": "VisibilityTimout:", "- !Equals [!Ref": "- !Equals [!Rof", "[!Ref Queue]": "[!Ref Quoue]", "!GetAtt Queue.Arn": "!GetAtt Queue.Name"}
    for right, wrong in mistakes.items():
        text = text.replace(right, wrong)
    (tmp_path / "queue.yaml").write_text(text)
    assert {"E3002", "E1020", "E1010"} <= {found.rule.id for found in cfn_lint(tmp_path / "queue.yaml")}


@pytest.mark.parametrize("region", COMMERCIAL)
def test_every_commercial_region_has_all_that_the_templates_ask_for(region):
    known = set(PROVIDER_SCHEMA_MANAGER.get_resource_types(region))
    lacking = {name for name in NAMES if not {resource["Type"] for resource in load(name)["Resources"].values()} <= known}
    assert lacking == WITHOUT.get(region, set())


def test_the_readme_names_the_regions_that_lack_something():
    assert all(region in (FOLDER / "README.md").read_text() for region in OTHER_CLASS | WITHOUT.keys())


def test_the_regions_are_all_that_there_are():
    assert len(COMMERCIAL) >= 34 and {"us-east-1", "eu-central-2", "ap-southeast-7", "mx-central-1"} <= set(COMMERCIAL)


def test_the_default_instance_class_is_to_be_had_in_every_region_but_these():
    file = importlib.resources.files(extensions) / "aws_rds_dbinstance" / "dbinstanceclass_enum.json"
    default, found = load("aurora")["Parameters"]["InstanceClass"]["Default"], set()
    for region, schema in json.loads(file.read_text()).items():
        offers = [one["then"]["properties"]["DBInstanceClass"]["enum"] for one in schema["allOf"]
                  if one["if"]["properties"].get("Engine") == {"const": "aurora-postgresql"}]
        if any(default in offer for offer in offers):
            found.add(region)
    assert set(COMMERCIAL) - found == OTHER_CLASS


def made(folder, kinds):
    """What becomes of the templates with parameters, one file for each stack that differs."""
    seen = set()
    for kind in kinds:
        for name, stack in estate(kind).all().items():
            # What only AWS knows stands there as a name, which tools would take for a mistake: they see the rest.
            text = json.dumps(stack.document(), indent=1)
            if text not in seen:
                (folder / f"{kind.replace(' ', '-')}.{name}.json").write_text(text)
            seen.add(text)
    return folder


@pytest.fixture(scope="module")
def checkov(tmp_path_factory):
    """What checkov says of estates of all kinds, and of a cluster that was made weak on purpose."""
    folder = made(tmp_path_factory.mktemp("checkov"), KINDS)
    weak = json.loads(json.dumps(estate("full").all()["aurora"].document()))
    weak["Resources"]["Cluster"]["Properties"]["StorageEncrypted"] = False
    weak["Resources"]["Instance1"]["Properties"]["PubliclyAccessible"] = True
    (folder / "weak.json").write_text(json.dumps(weak, indent=1))
    # No downloads: its rules are those of the version that is installed.
    words = [BIN / "checkov", "--directory", folder, "--framework", "cloudformation", "--skip-download", "--compact", "--output", "json"]
    found = subprocess.run(words, capture_output=True, text=True)
    reports = json.loads(found.stdout)
    (report,) = [report for report in (reports if isinstance(reports, list) else [reports]) if report["check_type"] == "cloudformation"]
    assert report["summary"]["parsing_errors"] == 0 and report["summary"]["passed"] > 100
    return report["results"]


def test_checkov_finds_nothing_that_is_not_reasoned_in_the_template(checkov):
    failed = {(check["check_id"], pathlib.Path(check["file_path"]).name, check["resource"], check["check_name"]) for check in checkov["failed_checks"]}
    assert not [one for one in failed if one[1] != "weak.json"], "\n".join(map(str, sorted(failed)))


def test_checkov_would_find_a_weakness(checkov):
    assert {"CKV_AWS_96", "CKV_AWS_17"} <= {check["check_id"] for check in checkov["failed_checks"] if check["file_path"].endswith("weak.json")}


def test_what_checkov_is_told_to_skip_has_a_reason_and_is_there_still(checkov):
    skips = [skip for name in NAMES for resource in load(name)["Resources"].values() for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])]
    assert all(len(skip["comment"]) > 30 for skip in skips)
    assert {skip["id"] for skip in skips} == {check["check_id"] for check in checkov["skipped_checks"]}


@pytest.mark.parametrize("kind", KINDS)
def test_parliament_knows_every_action_resource_and_condition(kind):
    for name, stack in estate(kind).all().items():
        for role, statements in policy.roles(stack).items():
            if statements:
                found = parliament.analyze_policy_string(json.dumps({"Version": "2012-10-17", "Statement": statements})).findings
                assert not [one for one in found if (one.issue, role) not in REASONED], f"{name}.{role}: {found}"


def test_parliament_would_find_a_right_that_cannot_work():
    wrong = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "rds:FailoverDBCluster", "Resource": "arn:aws:rds:*:*:db:orders-1"}}
    assert [one.issue for one in parliament.analyze_policy_string(json.dumps(wrong)).findings] == ["RESOURCE_MISMATCH"]
