"""Templates as CloudFormation reads them: their text with its functions, and what they become with given parameters."""

import copy
import functools
import json
import pathlib
import re

import yaml

FOLDER = pathlib.Path(__file__).parent.parent
NAMES = ["main", "network", "aurora", "proxy", "queue", "ingest", "access", "observability"]
NESTED = NAMES[1:]

PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-2",
    "AWS::AccountId": "111122223333",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "estate",
}
NOTHING = object()


class Loader(yaml.CSafeLoader):
    """YAML with the short forms of CloudFormation's functions."""


def function(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", function)


@functools.cache
def load(name):
    """The template as it is written."""
    return parse((FOLDER / f"{name}.yaml").read_text())


def parse(text):
    """A template's text, functions in their long form."""
    return yaml.load(text, Loader)


class Refused(Exception):
    """CloudFormation would not take these parameters."""


class Stack:
    """A template with parameters: what it makes of them. What only AWS knows is a name in its place."""

    def __init__(self, template, parameters, path="estate"):
        self.template, self.path = template, path
        declared = template["Parameters"]
        if unknown := parameters.keys() - declared.keys():
            raise Refused(f"{path}: no such parameters: {sorted(unknown)}")
        self.parameters = {name: self.parameter(name, spec, parameters) for name, spec in declared.items()}
        for name, rule in template.get("Rules", {}).items():
            if "RuleCondition" not in rule or self.value(rule["RuleCondition"]):
                for assertion in rule["Assertions"]:
                    if not self.value(assertion["Assert"]):
                        raise Refused(f"{path}: {name}: {assertion['AssertDescription']}")
        self.conditions = {}
        for name in template.get("Conditions", {}):
            self.condition(name)
        self.resources, self.nested = {}, {}
        for name, resource in template["Resources"].items():
            if "Condition" not in resource or self.condition(resource["Condition"]):
                self.resources[name] = self.resource(name, resource)
        self.outputs = {
            name: self.value(output["Value"])
            for name, output in template["Outputs"].items()
            if "Condition" not in output or self.condition(output["Condition"])
        }

    def parameter(self, name, spec, given):
        """The value of a parameter, if it is allowed."""
        if name not in given and "Default" not in spec:
            raise Refused(f"{self.path}: {name} is missing")
        value = str(given.get(name, spec.get("Default")))
        refuse = Refused(f"{self.path}: {name}={value!r}: {spec.get('ConstraintDescription', spec['Type'])}")
        # AllowedPattern in the form of Java: the same for what is used here.
        if "AllowedPattern" in spec and not re.fullmatch(spec["AllowedPattern"], value):
            raise refuse
        if "AllowedValues" in spec and value not in map(str, spec["AllowedValues"]):
            raise refuse
        if not spec.get("MinLength", 0) <= len(value) <= spec.get("MaxLength", 4096):
            raise refuse
        if spec["Type"] == "Number" and not spec.get("MinValue", float("-inf")) <= float(value) <= spec.get("MaxValue", float("inf")):
            raise refuse
        if "AWS::" in spec["Type"] and not value:
            raise refuse
        if spec["Type"].startswith("List<"):
            return value.split(",")
        return value

    def condition(self, name):
        if name not in self.conditions:
            self.conditions[name] = self.value(self.template["Conditions"][name])
        return self.conditions[name]

    def resource(self, name, resource):
        made = {key: value for key, value in copy.deepcopy(resource).items() if key != "Condition"}
        made["Properties"] = self.value(made.get("Properties", {}))
        if made["Type"] == "AWS::CloudFormation::Stack":
            template = made["Properties"]["TemplateURL"].removesuffix(".yaml")
            given = made["Properties"].get("Parameters", {})
            given = {key: ",".join(value) if isinstance(value, list) else value for key, value in given.items()}
            self.nested[name] = Stack(load(template), given, f"{self.path}/{template}")
        return made

    def value(self, value):
        """What a value becomes: functions carried out, AWS::NoValue left out."""
        if isinstance(value, list):
            return [made for item in value if (made := self.value(item)) is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (name, argument), = value.items()
            if name == "Ref":
                return self.ref(argument)
            if name == "Condition" and isinstance(argument, str):
                return self.condition(argument)
            if name.startswith("Fn::"):
                return getattr(self, name[4:].lower() + "_")(argument)
        return {key: made for key, item in value.items() if (made := self.value(item)) is not NOTHING}

    def ref(self, name):
        if name == "AWS::NoValue":
            return NOTHING
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.parameters:
            return self.parameters[name]
        return self.attribute(name, "Ref")

    def attribute(self, name, attribute):
        """What AWS would say of a resource: true to form where a pattern or a policy looks at it."""
        kind = self.template["Resources"][name]["Type"]
        here = f"{PSEUDO['AWS::Region']}:{PSEUDO['AWS::AccountId']}"
        if kind == "AWS::CloudFormation::Stack":
            return self.stack(name).outputs[attribute.removeprefix("Outputs.")]
        physical = self.resources[name]["Properties"] if name in self.resources else {}
        forms = {
            ("AWS::SQS::Queue", "Arn"): lambda: f"arn:aws:sqs:{here}:{physical['QueueName']}",
            ("AWS::SQS::Queue", "QueueName"): lambda: physical["QueueName"],
            ("AWS::SQS::Queue", "Ref"): lambda: f"https://sqs.{PSEUDO['AWS::Region']}.amazonaws.com/{PSEUDO['AWS::AccountId']}/{physical['QueueName']}",
            ("AWS::KMS::Key", "Arn"): lambda: f"arn:aws:kms:{here}:key/00000000-0000-0000-0000-000000000000",
            ("AWS::KMS::Key", "Ref"): lambda: "00000000-0000-0000-0000-000000000000",
            ("AWS::IAM::Role", "Arn"): lambda: f"arn:aws:iam::{PSEUDO['AWS::AccountId']}:role/{name}",
            ("AWS::SNS::Topic", "Ref"): lambda: f"arn:aws:sns:{here}:{name}",
            ("AWS::Logs::LogGroup", "Ref"): lambda: physical.get("LogGroupName", name),
            ("AWS::Logs::LogGroup", "Arn"): lambda: f"arn:aws:logs:{here}:log-group:{physical.get('LogGroupName', name)}:*",
            ("AWS::EC2::VPC", "Ref"): lambda: "vpc-0123456789abcdef0",
            ("AWS::EC2::Subnet", "Ref"): lambda: f"subnet-0000000000000000{name[-1]}",
            ("AWS::EC2::Subnet", "AvailabilityZone"): lambda: physical["AvailabilityZone"],
            ("AWS::EC2::SecurityGroup", "Ref"): lambda: "sg-0123456789abcdef0",
            ("AWS::EC2::SecurityGroup", "GroupId"): lambda: "sg-0123456789abcdef0",
            ("AWS::RDS::DBCluster", "Ref"): lambda: physical["DBClusterIdentifier"],
            ("AWS::RDS::DBCluster", "DBClusterArn"): lambda: f"arn:aws:rds:{here}:cluster:{physical['DBClusterIdentifier']}",
            ("AWS::RDS::DBCluster", "DBClusterResourceId"): lambda: "cluster-ESTATE",
            ("AWS::RDS::DBProxy", "Ref"): lambda: physical["DBProxyName"],
            ("AWS::RDS::DBProxy", "DBProxyArn"): lambda: f"arn:aws:rds:{here}:db-proxy:prx-0estate",
            ("AWS::ApiGateway::RestApi", "Ref"): lambda: "api0",
            ("AWS::ApiGateway::Stage", "Ref"): lambda: physical["StageName"],
            ("AWS::CloudWatch::Dashboard", "Ref"): lambda: physical["DashboardName"],
            ("AWS::SecretsManager::Secret", "Ref"): lambda: f"arn:aws:secretsmanager:{here}:secret:{name}",
        }
        return forms.get((kind, attribute), lambda: f"{name}.{attribute}")()

    def stack(self, name):
        if name not in self.nested:
            self.resources[name] = self.resource(name, self.template["Resources"][name])
        return self.nested[name]

    def getatt_(self, argument):
        return self.attribute(argument[0], ".".join(argument[1:]))

    def sub_(self, argument):
        text, more = argument if isinstance(argument, list) else (argument, {})
        more = {key: self.value(value) for key, value in more.items()}

        def replace(match):
            name = match.group(1)
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in more:
                return str(more[name])
            if "." in name:
                return str(self.attribute(*name.split(".", 1)))
            return str(self.ref(name))

        return re.sub(r"\$\{([^}]+)\}", replace, text)

    def if_(self, argument):
        return self.value(argument[1] if self.condition(argument[0]) else argument[2])

    def equals_(self, argument):
        return str(self.value(argument[0])) == str(self.value(argument[1]))

    def not_(self, argument):
        return not self.value(argument[0])

    def and_(self, argument):
        return all(self.value(item) for item in argument)

    def or_(self, argument):
        return any(self.value(item) for item in argument)

    def join_(self, argument):
        return argument[0].join(self.value(argument[1]))

    def split_(self, argument):
        return self.value(argument[1]).split(argument[0])

    def select_(self, argument):
        return self.value(argument[1])[int(argument[0])]

    def getazs_(self, _):
        return [PSEUDO["AWS::Region"] + letter for letter in "abc"]

    def cidr_(self, argument):
        return [f"10.80.{number}.0/24" for number in range(int(self.value(argument[1])))]

    def all(self):
        """This stack and all in it, by the name of the template."""
        found = {self.path.rsplit("/", 1)[-1]: self}
        for stack in self.nested.values():
            found |= stack.all()
        return found

    def of_type(self, kind):
        return {name: resource for name, resource in self.resources.items() if resource["Type"] == kind}

    def document(self):
        """The template without parameters, conditions and functions."""
        # Values are not looked at where a name stands for what only AWS knows.
        return {"AWSTemplateFormatVersion": "2010-09-09", "Resources": self.resources}


def walk(value, path=()):
    """All values below a value, each with its path."""
    yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from walk(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walk(item, (*path, index))


def document(text):
    """A policy, which may be a text."""
    return json.loads(text) if isinstance(text, str) else text
