"""MiniStack, a CloudFormation and the services below it in one local process, and what of the templates it cannot make."""

import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.request

import boto3

from template import FOLDER, NAMES, load

ACCOUNT, REGION = "111122223333", "eu-central-2"

# Resources that MiniStack 1.5.33 does not know: it fails the stack. They are checked by cfn-lint's copy of AWS's schemas alone.
UNKNOWN_TYPES = {
    "AWS::EC2::FlowLog": "EC2 is addresses without packets",
    "AWS::EC2::SecurityGroupIngress": "only rules within a security group are made",
    "AWS::EC2::VPCPeeringConnection": "EC2 is addresses without packets",
    "AWS::EKS::PodIdentityAssociation": "its EKS has clusters and node groups only",
    "AWS::IAM::RolePolicy": "only policies within a role, and AWS::IAM::Policy",
    "AWS::RDS::DBProxy": "there is no RDS Proxy",
    "AWS::RDS::DBProxyEndpoint": "there is no RDS Proxy",
    "AWS::RDS::DBProxyTargetGroup": "there is no RDS Proxy",
    "AWS::WAFv2::LoggingConfiguration": "its WAF has rules and no traffic",
    "AWS::WAFv2::WebACLAssociation": "its WAF has rules and no traffic",
}
# Attributes that it does not give.
UNKNOWN_ATTRIBUTES = {
    ("AWS::RDS::DBCluster", "MasterUserSecret.SecretArn"): "its RDS makes no secret of the master user",
}
# Properties that it refuses.
UNKNOWN_PROPERTIES = {
    ("AWS::CloudWatch::Alarm", "Metrics"): "alarms on metric math are not made",
}


def without(template):
    """The template without what MiniStack does not know, and without what names that."""
    kinds = {name: resource["Type"] for name, resource in template["Resources"].items()}
    gone = {name for name, resource in template["Resources"].items() if unknown(resource)}

    def names(value):
        if isinstance(value, list):
            return any(map(names, value))
        if not isinstance(value, dict):
            return False
        if value.get("Ref") in gone:
            return True
        if "Fn::GetAtt" in value:
            name, attribute = value["Fn::GetAtt"]
            return name in gone or (kinds[name], attribute) in UNKNOWN_ATTRIBUTES
        return any(map(names, value.values()))

    def kept(value):
        if isinstance(value, list):
            return [kept(item) for item in value if not names(item) or isinstance(item, (dict, list))]
        if isinstance(value, dict):
            if ("Ref" in value or "Fn::GetAtt" in value) and names(value):
                return "not-known-here"
            return {key: kept(item) for key, item in value.items()}
        return value

    resources = {}
    for name, resource in template["Resources"].items():
        if name in gone:
            continue
        resource = dict(resource)
        if resource.get("DependsOn") in gone:
            del resource["DependsOn"]
        resources[name] = resource
    return kept(template | {"Resources": resources})


def unknown(resource):
    return resource["Type"] in UNKNOWN_TYPES or any((resource["Type"], name) in UNKNOWN_PROPERTIES for name in resource.get("Properties", {}))


class MiniStack:
    """A server of its own, on a free port of this machine alone."""

    def __init__(self, folder):
        tools = pathlib.Path(os.environ["CFN_TOOLS"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "ministack.log"
        environment = os.environ | {
            "PYTHONPATH": str(tools / "ministack"), "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "DOCKER_HOST": "unix:///nonexistent", "IOT_MTLS_ENABLED": "0",
        }
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [tools / "venv/bin/python", "-c", "from ministack.app import main; main()"], env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT
            )
        program = folder / "aws"
        program.write_text(f'#!/bin/sh\nPYTHONPATH={tools}/awscli exec {tools}/venv/bin/python -m awscli "$@"\n')
        program.chmod(0o755)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MAKE", "MFLAGS"))} | {
            "AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url, "AWS_EC2_METADATA_DISABLED": "true", "AWS_PAGER": "", "PATIENCE": "1", "HOME": str(folder), "AWS": str(program),
        }
        self.wait()

    def wait(self):
        until = time.monotonic() + 60
        while True:
            try:
                return urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=5).read()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(self.log.read_text()[-2000:])
                time.sleep(0.1)

    def client(self, service):
        """A client of that service. The AWS CLI is slow to start: it is for what the Makefile does."""
        return boto3.client(service, region_name=REGION, endpoint_url=self.url, aws_access_key_id=ACCOUNT, aws_secret_access_key="local")

    def make(self, target, folder, **variables):
        """A target of the Makefile, on the templates in that folder."""
        words = ["make", "--silent", "-C", str(folder), target, f"AWS={self.environment['AWS']}", f"CACHE={folder}/cache"]
        return subprocess.run(words + [f"{name}={value}" for name, value in variables.items()], env=self.environment, capture_output=True, text=True)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def templates(folder):
    """A copy of this folder's commands and templates, as far as MiniStack knows them."""
    for name in NAMES:
        (folder / f"{name}.yaml").write_text(json.dumps(without(load(name))))
    for name in ("Makefile", "database.py", "validate.py", "delete.sh", "tests/requirements"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(FOLDER / name)
    return folder
