"""Nomad over the Unix socket in which its client serves the API to a task, with the task's workload identity."""

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from secretbinding.adapters.connection import NomadConnection, TokenFile
from secretbinding.adapters.nomad import NomadAdapter
from secretbinding.devstack.nomad_agent import NomadAgent
from secretbinding.errors import Denied, Unreachable, UsageError


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "socket"

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path, "token": self.headers.get("X-Nomad-Token"), "ID": "app"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def socket_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "api.sock"
    server = _Server(str(path), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield path
    server.shutdown()
    server.server_close()


def test_requests_go_to_the_socket_with_the_token(socket_file: Path) -> None:
    nomad = NomadAdapter(NomadConnection(address=f"unix://{socket_file}", token="opensesame"))
    job = nomad.job("default", "app")
    assert job == {"path": "/v1/job/app?namespace=default", "token": "opensesame", "ID": "app"}
    nomad.close()


def test_a_socket_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    connection = NomadConnection(address=f"unix://{tmp_path}/api.sock", retry_seconds=0.0)
    with pytest.raises(Unreachable, match="no such file or directory"):
        NomadAdapter(connection).job("default", "app")


def test_an_address_that_is_no_path_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unix:///path"):
        NomadAdapter(NomadConnection(address="unix://api.sock"))


def _secrets(agent: NomadAgent, job: str) -> Path:
    """The secrets directory of the job's only task, once the socket is in it."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for row in agent.api.get(f"/v1/job/{job}/allocations").expect().json():
            for found in agent.data_dir.rglob(f"{row['ID']}/t/secrets/api.sock"):
                if row["ClientStatus"] == "running" and (found.parent / "nomad_token").exists():
                    return found.parent
        time.sleep(0.2)
    pytest.fail("the task has no socket")


@pytest.mark.real_nomad
def test_a_real_client_serves_its_api_to_a_task_that_has_an_identity(agent: NomadAgent, unique: str) -> None:
    rules = 'namespace "default" { capabilities = ["read-job"] }'
    policy = {"Name": unique, "Rules": rules, "JobACL": {"Namespace": "default", "JobID": unique}}
    agent.api.put(f"/v1/acl/policy/{unique}", policy).expect()
    task = {
        "Name": "t",
        "Driver": "raw_exec",
        "Config": {"command": "/bin/sleep", "args": ["600"]},
        "Identities": [{"Name": "default", "File": True}],
        "Resources": {"CPU": 10, "MemoryMB": 16},
    }
    job = {"ID": unique, "Type": "service", "Datacenters": ["*"], "TaskGroups": [{"Name": "g", "Tasks": [task]}]}
    agent.api.put("/v1/jobs", {"Job": job}).expect()
    try:
        secrets = _secrets(agent, unique)
        nomad = NomadAdapter(
            NomadConnection(address=f"unix://{secrets}/api.sock", token=TokenFile(secrets / "nomad_token"))
        )
        found = nomad.job("default", unique)
        assert found is not None
        assert found["ID"] == unique
        with pytest.raises(Denied):
            nomad.job("other", unique)
        nomad.close()
    finally:
        agent.api.delete(f"/v1/job/{unique}", purge="true")
