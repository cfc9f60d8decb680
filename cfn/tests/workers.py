"""What a pipeline needs beside the stack's own queue and manifest: the worker's binary, and a PostgreSQL that takes itself for the Aurora cluster."""

import json
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request

import yaml

from local import free_port
from template import FOLDER

ROOT = FOLDER.parent
PROGRAMS = pathlib.Path("/usr/lib/postgresql/15/bin")
# Where this user logs in, RDS would ask IAM about the token that comes as password. Everybody else has a password.
ACCESS = """
local   all all                          trust
hostssl app durable_write 127.0.0.1/32   trust
hostssl all all           127.0.0.1/32   scram-sha-256
"""


def worker_binary():
    """The worker as `make build` leaves it; not an older one."""
    binary = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/durable-write-worker"
    assert binary.exists() and (PROGRAMS / "initdb").exists(), f"{binary} or {PROGRAMS} is missing: run `make tools` in {ROOT} first"
    sources = [path for folder in ("worker/src", "crds/src") for path in (ROOT / folder).rglob("*.rs")]
    newest = max(sources, key=lambda path: path.stat().st_mtime)
    assert newest.stat().st_mtime < binary.stat().st_mtime, f"{binary} is older than {newest}: run `make build` in {ROOT} first"
    return binary


class Postgres:
    """One server, which its own folder holds; the authority of its certificate is the certificate itself. Ends with `stop`."""

    def __init__(self):
        # Not below pytest's folder, which the user postgres cannot enter.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cfn-postgres-"))
        user = pwd.getpwnam("postgres")
        self.port = free_port()
        self.command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--pdeathsig=KILL"]
        key, self.authority, access = (self.folder / name for name in ("server.key", "server.crt", "pg_hba.conf"))
        run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=estate", "-keyout", key,
            "-out", self.authority, "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
        )
        access.write_text(ACCESS)
        for path in (self.folder, key, self.authority, access):
            os.chown(path, user.pw_uid, user.pw_gid)
        data = self.folder / "data"
        run(*self.command, PROGRAMS / "initdb", "--no-sync", "--no-instructions", "--username=rdsadmin", "--auth=trust", f"--pgdata={data}")
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder, "hba_file": access, "fsync": "off",
            "ssl": "on", "ssl_cert_file": self.authority, "ssl_key_file": key,
        }
        with open(self.folder / "log", "w") as log:
            words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
            self.process = subprocess.Popen([*self.command, PROGRAMS / "postgres", "-D", data, *words], stdout=log, stderr=log)
        until(lambda: subprocess.run([PROGRAMS / "pg_isready", "--quiet", "-h", self.folder, "-p", str(self.port)]).returncode == 0, "PostgreSQL is up")
        # The master user, with the rights that it has in Aurora: no superuser.
        self.sql("CREATE ROLE rds_iam; CREATE ROLE postgres LOGIN CREATEDB CREATEROLE; GRANT rds_iam TO postgres WITH ADMIN OPTION", "postgres", "rdsadmin")

    def sql(self, text, database, user="postgres"):
        """The rows of a script, as that user's psql prints them."""
        words = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "-U", user, "-h", self.folder, "-p", str(self.port)]
        return run(*words, database, stdin=text).split("\n")[:-1]

    def become(self, instance, database):
        """Makes a database in which it says that it is that Aurora instance."""
        self.sql(f'CREATE DATABASE "{database}"', "postgres")
        self.sql(f"CREATE FUNCTION aurora_db_instance_identifier() RETURNS text LANGUAGE sql AS $$ SELECT '{instance}' $$", database)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        shutil.rmtree(self.folder)


class Worker:
    """A worker with a stack's own manifest: to its database is only said where it is, and by whose authority."""

    def __init__(self, folder, server, postgres, manifest, secret=None):
        self.folder = folder
        manifest = yaml.safe_load(manifest)
        database = manifest["spec"]["database"]
        database["tls"] = {"ca": {"configMapKeyRef": {"name": "authority", "key": "ca.crt"}}}
        endpoint = f"127.0.0.1:{postgres.port}"
        instance = f"{database['aurora']['clusterIdentifier']}-1"
        self.write("pipeline.yaml", yaml.safe_dump(manifest))
        topology = {"writer": endpoint, "instances": [{"name": instance, "endpoint": endpoint}]}
        # As the operator writes it.
        self.write("topology.yaml", json.dumps(topology | ({"resourceId": "cluster-ESTATE"} if "iam" in database["credentials"] else {})))
        self.write("configmaps/authority/ca.crt", postgres.authority.read_text())
        for key, value in (secret or {"stringData": {}})["stringData"].items():
            self.write(f"secrets/{secret['metadata']['name']}/{key}", value)
        self.files = [folder / "pipeline.yaml", "--mounts", folder, "--topology", folder / "topology.yaml"]
        self.environment = server.environment | {"SSL_CERT_FILE": "/dev/null"}
        self.address = f"127.0.0.1:{free_port()}"
        self.process = None

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def check(self, *words):
        """What `durable-write-worker check` says."""
        done = subprocess.run([worker_binary(), "check", *self.files, *words], env=self.environment, capture_output=True, text=True)
        return done.stdout + done.stderr

    def start(self):
        with open(self.folder / "worker.log", "a") as log:
            self.process = subprocess.Popen([worker_binary(), "run", *self.files, "--listen", self.address], env=self.environment, stdout=log, stderr=log)

    def state(self):
        """What it says of itself; nothing as long as it has nothing to say."""
        assert self.process.poll() is None, self.log()
        try:
            return json.load(urllib.request.urlopen(f"http://{self.address}/state", timeout=5))
        except OSError:
            return {}

    def log(self):
        return (self.folder / "worker.log").read_text()[-3000:]

    def stop(self):
        """Ends it at once: asked to end, it would wait for its polls."""
        self.process.kill()
        self.process.wait()


def until(holds, what, seconds=60):
    """Waits until something holds, and says what it was."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.05)
    return found


def run(*words, stdin=None):
    done = subprocess.run([str(word) for word in words], input=stdin, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, f"{words[0]}: {done.stdout}{done.stderr}"
    return done.stdout
