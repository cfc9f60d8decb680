"""Estates of various kinds: sets of parameters that the tests deploy in thought."""

import functools

from template import Stack, load

SMALL = {
    "Name": "orders",
    "VpcId": "vpc-0123456789abcdef0",
    "SubnetIds": "subnet-00000000000000001,subnet-00000000000000002",
    "InstanceZones": "eu-central-2a,eu-central-2b,eu-central-2a",
    "ClientSecurityGroupId": "sg-0fedcba9876543210",
    "KubernetesClusterName": "prod",
    "PipelineNamespace": "shop",
}
# Nothing left out.
FULL = {
    "Name": "orders",
    "Network": "New",
    "PeerVpcId": "vpc-0123456789abcdef1",
    "PeerCidr": "10.0.0.0/16",
    "ClientCidr": "10.0.0.0/16",
    "Proxy": "true",
    "Readers": "3",
    "Encryption": "KMS",
    "KubernetesClusterName": "prod",
    "PipelineNamespace": "shop",
    "ProducerNamespace": "web",
    "ProducerServiceAccount": "checkout",
    "DrillNamespaces": "shop billing",
    "AlarmEmail": "oncall@example.com",
    "DemoDashboardUrl": "https://dashboard.example.com/durable-write",
}
KINDS = {
    "small": SMALL,
    "full": FULL,
    "irsa": FULL | {"Identity": "IRSA", "OidcProvider": "oidc.example.com/id/ABCD"},
    "standard queue": FULL | {"QueueType": "Standard"},
    "no reader": FULL | {"Readers": "0"},
    "secret": SMALL | {"DatabaseLogin": "Secret"},
    "api key": SMALL | {"Authorization": "ApiKey", "ProducerServiceAccount": "checkout"},
    "cognito": SMALL | {"Authorization": "Cognito", "UserPoolArn": "arn:aws:cognito-idp:eu-central-2:111122223333:userpool/eu-central-2_abc", "UserPoolScope": "orders/send"},
    "second of the cluster": SMALL | {"Name": "parcels", "WithOperator": "false", "Ingest": "false"},
    "two zones": FULL | {"ZoneCount": "2", "Identity": "PodIdentity"},
}


@functools.cache
def estate(kind="small", **more):
    """An estate of that kind, with other parameters in place of some."""
    return Stack(load("main"), KINDS[kind] | more)

# What each nested template asks for when it stands alone, beside what the ones before it put out under the same name.
ALONE = {
    "network": {},
    "queue": {"Name": "alone"},
    "aurora": {"Name": "alone", "InstanceZones": "eu-central-2a,eu-central-2b,eu-central-2c", "ClientCidr": "10.0.0.0/16"},
    "proxy": {"Name": "alone", "ClientCidr": "10.0.0.0/16", "ReaderEndpoint": "true", "ClusterSecurityGroupId": SMALL["ClientSecurityGroupId"]},
    "ingest": {"Name": "alone"},
    "access": {"Name": "alone", "KubernetesClusterName": "prod"},
    "observability": {"Name": "alone"},
}


def alone(name, outputs):
    """The parameters of a nested template that stands alone."""
    return {parameter: outputs[parameter] for parameter in load(name)["Parameters"] if parameter in outputs} | ALONE[name]
