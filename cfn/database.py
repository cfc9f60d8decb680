#!/usr/bin/env python3
"""What the database and Kubernetes must know of the workers' user of an estate: `sql STACK` prints SQL for the master user's psql, `secret STACK` a Secret
for kubectl apply. Needs python3 and the AWS CLI ($AWS). The SQL holds no password, only what PostgreSQL checks one with, so it may be logged."""

import base64
import hashlib
import hmac
import json
import secrets
import sys

from estate import aws, stack


def verifier(password, salt, iterations=4096):
    """What PostgreSQL keeps of a password (RFC 7677). The password has letters and digits only, so SASLprep leaves it as it is."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt, stored, server = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${iterations}:{salt}${stored}:{server}"


def sql(user, database, password):
    """The user, and what it may do before it is given rights on a table."""
    yield "\\set ON_ERROR_STOP on"
    login = f"LOGIN PASSWORD '{verifier(password, secrets.token_bytes(16))}'" if password else "LOGIN PASSWORD NULL"
    yield f"SELECT 'CREATE ROLE {user}' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{user}') \\gexec"
    # NOSUPERUSER is CREATE ROLE's default. Only a superuser may say it here, and Aurora's master user is none.
    yield f"ALTER ROLE {user} {login} NOCREATEDB NOCREATEROLE;"
    yield f"GRANT CONNECT ON DATABASE {database} TO {user};"
    # A user with this role logs in by IAM and by nothing else.
    yield f"{'REVOKE' if password else 'GRANT'} rds_iam {'FROM' if password else 'TO'} {user};"


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("sql", "secret"):
        raise SystemExit(f"usage: {sys.argv[0]} sql|secret STACK")
    found = stack(sys.argv[2])
    outputs, parameters = found["Outputs"], found["Parameters"]
    login = {"username": outputs["DatabaseUser"], "password": None}
    if "WorkerSecretArn" in outputs:
        login = json.loads(aws("secretsmanager", "get-secret-value", "--secret-id", outputs["WorkerSecretArn"])["SecretString"])
    if sys.argv[1] == "sql":
        print("\n".join(sql(login["username"], outputs["DatabaseName"], login["password"])))
    elif not login["password"]:
        raise SystemExit("Users log in by IAM here: there is no secret")
    else:
        metadata = {"name": f"{parameters['Name']}-db", "namespace": parameters["PipelineNamespace"]}
        print(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": login}))


if __name__ == "__main__":
    main()
