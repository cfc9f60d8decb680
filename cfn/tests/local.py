"""MiniStack, a CloudFormation and the services below it in one local process, what of the templates it cannot make, and the commands against it."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request

import boto3

from template import FOLDER, NAMES, load

HERE = pathlib.Path(__file__).parent
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
    """A server of its own on a free port of this machine alone, and an AWS CLI for it. Ends with `stop`."""

    def __init__(self, folder):
        tools = pathlib.Path(os.environ["CFN_TOOLS"])
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(self.port), "DOCKER_HOST": "unix:///nonexistent", "IOT_MTLS_ENABLED": "0"}
        program, cli = folder / "aws", folder / "aws.socket"
        self.processes = [
            self.start("ministack", ["ministack_server.py"], environment | {"PYTHONPATH": str(tools / "ministack")}),
            self.start("aws", ["aws_cli.py", "serve", cli], {"PYTHONPATH": str(tools / "awscli")}),
        ]
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {HERE}/aws_cli.py call {cli} "$@"\n')
        program.chmod(0o755)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MAKE", "MFLAGS"))} | {
            "AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url, "AWS_EC2_METADATA_DISABLED": "true", "AWS_PAGER": "", "HOME": str(folder), "AWS": str(program),
        }
        self.wait(cli.exists)
        self.wait(self.answers)
        self.commands = templates(folder / "cfn")

    def start(self, name, words, more):
        with open(self.folder / f"{name}.log", "w") as log:
            return subprocess.Popen([sys.executable, HERE / words[0], *words[1:]], env=os.environ | more, cwd=self.folder, stdout=log, stderr=log)

    def answers(self):
        try:
            return urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=5).read()
        except OSError:
            return False

    def wait(self, ready):
        until = time.monotonic() + 60
        while not ready():
            if any(process.poll() is not None for process in self.processes) or time.monotonic() > until:
                raise RuntimeError(self.logs())
            time.sleep(0.05)

    def logs(self):
        return "\n".join(log.read_text()[-2000:] for log in self.folder.glob("*.log"))

    def client(self, service):
        """A client of that service, for what is no test of a command."""
        return boto3.client(service, region_name=REGION, endpoint_url=self.url, aws_access_key_id=ACCOUNT, aws_secret_access_key="local")

    def make(self, target, stdin="", environment=None, **variables):
        """A target of the Makefile, on the templates as MiniStack knows them."""
        words = ["make", "--silent", "-C", self.commands, target, f"AWS={self.environment['AWS']}", f"CACHE={self.folder}/cache"]
        words += [f"{name}={value}" for name, value in variables.items()]
        return subprocess.run(words, env=self.environment | (environment or {}), input=stdin, capture_output=True, text=True)

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()


class Estate:
    """An estate that `make deploy` has made, and its outputs."""

    def __init__(self, server, stack, parameters):
        self.server, self.stack = server, stack
        done = self.deploy(" ".join(f"{name}='{value}'" for name, value in parameters.items()))
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:] + server.logs()
        (found,) = server.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}
        # What MiniStack's RDS knows and its CloudFormation does not ask it for.
        group = next(group["DBClusterParameterGroupName"] for group in self.rds.describe_db_cluster_parameter_groups()["DBClusterParameterGroups"]
                     if group["Description"] == f"Aurora cluster {parameters['Name']}")
        self.rds.modify_db_cluster(DBClusterIdentifier=parameters["Name"], DBClusterParameterGroupName=group)

    @property
    def rds(self):
        return self.server.client("rds")

    def make(self, target, **more):
        return self.server.make(target, STACK=self.stack, **more)

    def deploy(self, parameters):
        return self.make("deploy", PARAMETERS=parameters)

    def output(self, name):
        """An output as `make output` prints it."""
        return self.make("output", NAME=name).stdout

    def attributes(self, output):
        """The attributes of a queue that is called so among the outputs."""
        return self.server.client("sqs").get_queue_attributes(QueueUrl=self.outputs[output], AttributeNames=["All"])["Attributes"]

    def receive(self, output="QueueUrl"):
        """All messages that wait there, taken away."""
        sqs, url, taken = self.server.client("sqs"), self.outputs[output], []
        names = {"AttributeNames": ["All"], "MessageAttributeNames": ["All"]}
        while found := sqs.receive_message(QueueUrl=url, WaitTimeSeconds=0, MaxNumberOfMessages=10, **names).get("Messages", []):
            taken += found
            for message in found:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return taken

    def post(self, query, body, kind="application/json"):
        """The status of a signed POST to the ingest, by the path that MiniStack has for it."""
        api = self.outputs["IngestUrl"].split("//", 1)[1].split(".", 1)[0]
        done = subprocess.run(
            ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--aws-sigv4", f"aws:amz:{REGION}:execute-api", "--user", f"{ACCOUNT}:local",
             "--header", f"content-type: {kind}", "--data-binary", body, f"{self.server.url}/restapis/{api}/v1/_user_request_/messages?{query}"],
            capture_output=True, text=True, check=True,
        )
        return int(done.stdout)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def templates(folder):
    """A copy of this folder's commands and templates, as far as MiniStack knows them."""
    for name in ["Makefile", *(program.name for program in FOLDER.glob("*.py")), "tests/requirements"]:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(FOLDER / name)
    for name in NAMES:
        (folder / f"{name}.yaml").write_text(json.dumps(without(load(name))))
    return folder
