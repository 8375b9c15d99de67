"""Commands that find Vault in Consul, on the simulator and on a real Nomad, with a real OpenBao."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.commandline import CommandLine
from tests.support.discovery import Consul, consul_server
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest


@pytest.fixture
def consul(stack: Stack, cli: CommandLine) -> Iterator[Consul]:
    """A Consul that knows the stack's Vault, and the settings to find it there."""
    with consul_server() as running:
        running.token = "consul-token"
        running.put("vault", ("127.0.0.1", urlsplit(stack.openbao.address).port or 0), tags=("active",))
        address = f"consul+http://{running.address}/vault?tag=active&scheme=http"
        cli.use(stack)
        cli.setenv(VAULT_ADDR=address, CONSUL_HTTP_TOKEN="consul-token")
        yield running


def test_a_binding_is_applied_with_a_vault_that_is_found_in_consul(
    stack: Stack, cli: CommandLine, consul: Consul, tmp_path: Path, unique: str
) -> None:
    world = World(stack)
    world.secret(unique, username="app", password="first")
    world.register(a_job(unique))
    path = tmp_path / "binding.yaml"
    path.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    ran = cli("apply", "-f", str(path), "--timeout", "30s")
    assert ran.code == 0, ran.err
    assert len(world.policies(having=unique)) == 1
    assert {service for service, _ in consul.asked} == {"vault"}
    consul.instances.clear()
    ran = cli("plan", "-f", str(path))
    assert ran.code == 1
    assert "lists no healthy service vault (tag active)" in ran.err
    assert "consul-token" not in ran.out + ran.err


def test_doctor_names_the_service_and_the_setting(cli: CommandLine, consul: Consul) -> None:
    report = json.loads(cli("doctor", "-o", "json").out)
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["vault-reachable"]["findings"] == []
    (clear,) = checks["vault-tls"]["findings"]
    assert clear["subject"] == "Vault at http://vault.service.consul:8200"
    assert consul.address in clear["evidence"]
