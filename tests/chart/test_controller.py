"""The controller takes what the chart gives it, and people what it tells them."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer

from secretbinding import __version__
from secretbinding.agent_settings import AgentSettings
from secretbinding.cli.application import app
from secretbinding.cli.running import parse_policies_option, parse_sources
from secretbinding.models.loading import parse_manifests
from secretbinding.settings import ConsulSettings, ControllerSettings, NomadSettings, Settings, VaultSettings
from tests.chart.rendering import (
    BASE,
    MATRIX,
    NAMESPACE,
    RELEASE,
    Json,
    chart,
    container,
    env,
    merged,
    of_kind,
    render,
)


def known_variables() -> set[str]:
    own = {f"SECRETBINDING_{field.upper()}" for field in ControllerSettings.model_fields}
    for model in (VaultSettings, NomadSettings, ConsulSettings, AgentSettings):
        for field in model.model_fields.values():
            alias = field.validation_alias
            own |= {str(one) for one in getattr(alias, "choices", (alias,))}
    return own


@pytest.mark.parametrize("name", list(MATRIX))
def test_the_controller_knows_every_variable_and_takes_its_value(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = env(name)
    assert set(given) - known_variables() == ({"A"} if name == "extended" else set())
    names = [row["name"] for row in container(name)["env"]]
    assert len(set(names)) == len(names)
    for variable in known_variables():
        monkeypatch.delenv(variable, raising=False)
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    if name == "several clusters":
        (file,) = of_kind(name, "ConfigMap")
        place = Path(given["SECRETBINDING_CONNECTIONS"])
        (tmp_path / place.name).write_text(file["data"][place.name])
        monkeypatch.setenv("SECRETBINDING_CONNECTIONS", str(tmp_path / place.name))
    settings = Settings()
    assert settings.controller.metrics_bind == ("0.0.0.0", 9464)
    assert settings.vault.address == merged(BASE, MATRIX[name])["vault"]["address"]
    assert settings.vault.token.get_secret_value() == settings.nomad.token.get_secret_value() == ""
    if name == "tuned":
        own = settings.controller
        assert (own.workers, own.poll_seconds, own.max_rolls, own.resync_seconds) == (4, 5.5, 1000000, 86400)
        assert (own.ungated_rolls, own.confirm_removals, own.log_format) == (True, "nomad,files", "text")
    if name == "several clusters":
        found = settings.connections["eu"]
        assert str(found.nomad.token_file) == "/etc/secretbinding/mounted/nomad-eu/token"
        assert found.vault.address == "https://vault.eu.example.com:8200"
    if name == "agents":
        assert settings.agent.args.split() == ["-log-level=warn", "-x"]
        assert settings.agent.memory_max == 128


@pytest.mark.parametrize("grace", [2, 3, 9, 10, 25, 60, 3600])
def test_passes_have_to_end_before_the_pod_is_killed(grace: int) -> None:
    given = {"terminationGracePeriodSeconds": grace}
    seconds = ControllerSettings(stop_seconds=float(env(given)["SECRETBINDING_STOP_SECONDS"])).stop_seconds
    assert grace / 2 - 0.5 <= seconds < grace
    assert grace - seconds <= 5
    mine = {"extraEnv": [{"name": "SECRETBINDING_STOP_SECONDS", "value": "1.5"}]}
    found = [row["value"] for row in container({**given, **mine})["env"] if row["name"] == "SECRETBINDING_STOP_SECONDS"]
    assert found == ["1.5"], "once, and as somebody says"


def parsed(args: list[str]) -> dict[str, Any]:
    """The flags of a command line of ours, as the program reads them."""
    group: Any = typer.main.get_command(app)
    flags: dict[str, Any] = group.commands[args[0]].make_context(args[0], args[1:]).params
    return flags


@pytest.mark.parametrize("name", list(MATRIX))
def test_the_program_knows_every_flag(name: str) -> None:
    flags = parsed(container(name)["args"])
    sources, _ = parse_sources(flags["source"])
    asked, paths = parse_policies_option(flags["policies"], sources)
    if env(name)["SECRETBINDING_TENANCY"] == "policies":
        assert asked
    assert bool(paths) == (name == "policies")
    for job in of_kind(name, "Job"):
        stopped = parsed(job["spec"]["template"]["spec"]["containers"][0]["args"])
        (deployment,) = of_kind(name, "Deployment")
        metadata = deployment["metadata"]
        assert stopped["deployment"] == f"{metadata['namespace']}/{metadata['name']}"
        assert not stopped["everything"]


def test_the_notes_say_what_comes_next() -> None:
    notes = render({})["secretbinding/templates/NOTES.txt"]
    assert "NOTHING IS ALLOWED YET" in notes
    assert 'paths: ["{{tenant}}/*"]' in notes
    (manifest,) = [part.partition("\n  EOF")[0] for part in notes.split("<<EOF\n")[1:]]
    assert [one.metadata.name for one in parse_manifests(manifest, file="NOTES")] == ["myapp"]
    for line in notes.splitlines():
        if line.startswith("  secretbinding "):
            assert parsed(line.split()[1:])["service_account"] == f"{NAMESPACE}/{RELEASE}-secretbinding"
    assert "EVERYTHING IS ALLOWED" in render({"tenancy": {"mode": "open"}})["secretbinding/templates/NOTES.txt"]
    assert "finalizer" not in render(MATRIX["cleaned up"])["secretbinding/templates/NOTES.txt"]


@pytest.fixture
def answering() -> Iterator[tuple[str, list[int]]]:
    """Where a server answers with the last of these statuses."""
    statuses = [200]

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[-1] if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(b"ready")

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Ready)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/readyz", statuses
    server.shutdown()
    server.server_close()
    thread.join()


def test_helm_test_passes_when_the_controller_is_ready_and_fails_when_not(answering: tuple[str, list[int]]) -> None:
    (test,) = of_kind("defaults", "Pod")
    _, *command, url = test["spec"]["containers"][0]["command"]
    assert url == f"http://{RELEASE}-secretbinding.{NAMESPACE}.svc:9464/readyz"
    here, statuses = answering
    ran = subprocess.run([sys.executable, *command, here], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "ready\n")
    statuses.append(503)
    ran = subprocess.run([sys.executable, *command, here], capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    assert "503" in ran.stderr


def test_the_charts_version_is_the_programs() -> None:
    metadata: Json = chart().metadata
    assert metadata["appVersion"] == __version__
