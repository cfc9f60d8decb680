"""What other people's tools find in the templates: cfn-lint, checkov, parliament. They look at the templates as written and at what becomes of them."""

import json
import pathlib
import subprocess
import sys

import parliament
import pytest
import yaml
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

import policy
from estates import KINDS, estate
from template import FOLDER, NAMES, load

BIN = pathlib.Path(sys.executable).parent
# The commercial regions.
REGIONS = [
    "af-south-1", "ap-east-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2", "ap-southeast-1", "ap-southeast-2",
    "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ca-central-1", "ca-west-1", "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1",
    "eu-west-2", "eu-west-3", "il-central-1", "me-central-1", "me-south-1", "mx-central-1", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2",
]
# Findings of parliament that are none, each with the reason.
REASONED = {
    ("RESOURCE_STAR", "OperatorRole"): "the operator asks for all clusters and instances of the region in one call, and may see them all",
}


def run(*words, **more):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)


def test_cfn_lint_finds_nothing():
    found = run(BIN / "cfn-lint", "--template", *(FOLDER / f"{name}.yaml" for name in NAMES))
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("region", REGIONS)
def test_every_commercial_region_has_all_that_the_templates_ask_for(region):
    known = set(PROVIDER_SCHEMA_MANAGER.get_resource_types(region))
    for name in NAMES:
        asked = {resource["Type"] for resource in load(name)["Resources"].values()}
        assert asked <= known, (name, asked - known)


def test_cfn_lint_would_find_a_mistake(tmp_path):
    template = load("queue") | {}
    broken = json.loads(json.dumps(template))
    broken["Resources"]["Queue"]["Properties"]["VisibilityTimout"] = 60
    (tmp_path / "queue.json").write_text(json.dumps(broken))
    assert run(BIN / "cfn-lint", "--template", tmp_path / "queue.json").returncode != 0


def made(folder, kinds):
    """What becomes of the templates with parameters, one file for each stack."""
    for kind in kinds:
        for name, stack in estate(kind).all().items():
            # What only AWS knows stands there as a name, which tools would take for a mistake: they see the rest.
            (folder / f"{kind.replace(' ', '-')}.{name}.yaml").write_text(yaml.safe_dump(stack.document(), sort_keys=False, width=10_000))
    return folder


@pytest.fixture(scope="module")
def checkov(tmp_path_factory):
    """What checkov says of two estates, and of a cluster that was made weak on purpose."""
    folder = made(tmp_path_factory.mktemp("checkov"), ["full", "small"])
    weak = json.loads(json.dumps(estate("full").all()["aurora"].document()))
    weak["Resources"]["Cluster"]["Properties"]["StorageEncrypted"] = False
    weak["Resources"]["Instance1"]["Properties"]["PubliclyAccessible"] = True
    (folder / "weak.yaml").write_text(yaml.safe_dump(weak))
    # No downloads: its rules are those of the version that is installed.
    found = run(BIN / "checkov", "--directory", folder, "--framework", "cloudformation", "--skip-download", "--compact", "--output", "json")
    reports = json.loads(found.stdout)
    (report,) = [report for report in (reports if isinstance(reports, list) else [reports]) if report["check_type"] == "cloudformation"]
    assert report["summary"]["parsing_errors"] == 0 and report["summary"]["passed"] > 100
    return report["results"]


def test_checkov_finds_nothing_that_is_not_reasoned_in_the_template(checkov):
    failed = {(check["check_id"], pathlib.Path(check["file_path"]).name, check["resource"], check["check_name"]) for check in checkov["failed_checks"]}
    assert not [one for one in failed if one[1] != "weak.yaml"], "\n".join(map(str, sorted(failed)))


def test_checkov_would_find_a_weakness(checkov):
    assert {"CKV_AWS_96", "CKV_AWS_17"} <= {check["check_id"] for check in checkov["failed_checks"] if check["file_path"].endswith("weak.yaml")}


def test_what_checkov_is_told_to_skip_has_a_reason_and_is_there_still(checkov):
    skips = [skip for name in NAMES for resource in load(name)["Resources"].values() for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])]
    assert all(len(skip["comment"]) > 30 for skip in skips)
    assert {skip["id"] for skip in skips} == {check["check_id"] for check in checkov["skipped_checks"]}


@pytest.mark.parametrize("kind", ["full", "irsa"])
def test_parliament_knows_every_action_resource_and_condition(kind):
    for name, stack in estate(kind).all().items():
        for role, statements in policy.roles(stack).items():
            if statements:
                found = parliament.analyze_policy_string(json.dumps({"Version": "2012-10-17", "Statement": statements})).findings
                assert not [one for one in found if (one.issue, role) not in REASONED], f"{name}.{role}: {found}"


def test_parliament_would_find_a_right_that_cannot_work():
    wrong = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "rds:FailoverDBCluster", "Resource": "arn:aws:rds:*:*:db:orders-1"}}
    assert [one.issue for one in parliament.analyze_policy_string(json.dumps(wrong)).findings] == ["RESOURCE_MISMATCH"]
