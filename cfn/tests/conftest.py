"""What the tests on a local CloudFormation share: one MiniStack, one PostgreSQL, and the estates on it."""

import pytest

import local
import workers

# With everything that MiniStack knows, and logins by IAM.
ORDERS = {
    "Name": "orders", "KubernetesClusterName": "prod", "PipelineNamespace": "shop", "DrillNamespaces": "shop billing", "ProducerServiceAccount": "checkout",
    "Network": "New", "ClientCidr": "10.0.0.0/16", "AlarmEmail": "oncall@example.com",
}
# The second one of the same Kubernetes cluster, with a password.
PARCELS = {
    "Name": "parcels", "KubernetesClusterName": "prod", "PipelineNamespace": "shop", "WithOperator": "false", "Ingest": "false", "QueueType": "Standard",
    "DatabaseLogin": "Secret", "DatabaseName": "parcels", "DatabaseUser": "carrier", "TableName": "parcels", "KeyField": "number", "Readers": "1",
    "Network": "New", "ClientCidr": "10.0.0.0/16",
}


def pytest_collection_modifyitems(items):
    """What uses MiniStack runs in one process, and begins first, as it takes longest."""
    for item in items:
        if "server" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("local"))
    items.sort(key=lambda item: "server" not in item.fixturenames)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = local.MiniStack(tmp_path_factory.mktemp("local"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def orders(server):
    return local.Estate(server, "estate", ORDERS)


@pytest.fixture(scope="session")
def parcels(server):
    return local.Estate(server, "second", PARCELS)


@pytest.fixture(scope="session")
def postgres():
    postgres = workers.Postgres()
    yield postgres
    postgres.stop()
