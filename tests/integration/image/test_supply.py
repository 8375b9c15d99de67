"""`make audit` and `make sbom`: what is known of the dependencies, and what they are."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.integration.image.test_image import IMAGE, PROJECT, pinned

MAKE = shutil.which("make")
pytestmark = [
    pytest.mark.xdist_group("image"),
    pytest.mark.skipif(MAKE is None, reason="no `make`: its targets are not tried"),
]


class Weaknesses(ThreadingHTTPServer):
    """OSV's `POST /v1/query`, with the weaknesses that a test gives it: package to identifier."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Query)
        self.known: dict[str, str] = {}
        self.asked: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/query"


class _Query(BaseHTTPRequestHandler):
    server: Weaknesses

    def do_POST(self) -> None:
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
        self.server.asked.add(name)
        answer: dict[str, object] = {}
        if identifier := self.server.known.get(name):
            affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": []}]
            answer = {"vulns": [{"id": identifier, "summary": "a weakness", "affected": affected}]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is told."""


@pytest.fixture
def weaknesses() -> Iterator[Weaknesses]:
    server = Weaknesses()
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield server
    server.shutdown()
    serving.join()
    server.server_close()


def make(target: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The target, with the programs of the environment that runs the tests."""
    return subprocess.run(
        [str(MAKE), "--no-print-directory", "-o", ".venv/.ready", target, f"BIN={Path(sys.executable).parent}"],
        cwd=PROJECT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def audit(weaknesses: Weaknesses) -> subprocess.CompletedProcess[str]:
    return make("audit", PIP_AUDIT_VULNERABILITY_SERVICE="osv", PIP_AUDIT_OSV_URL=weaknesses.url)


def test_each_dependency_is_asked_for_and_nothing_known_is_fine(weaknesses: Weaknesses) -> None:
    done = audit(weaknesses)
    assert done.returncode == 0, done.stderr
    assert weaknesses.asked == {name.lower().replace("_", "-").replace(".", "-") for name in pinned()}


def test_a_known_weakness_is_refused_by_name(weaknesses: Weaknesses) -> None:
    weaknesses.known["requests"] = "GHSA-test-test-test"
    done = audit(weaknesses)
    assert done.returncode != 0
    assert "GHSA-test-test-test" in done.stdout


def test_silence_is_not_taken_for_safety(weaknesses: Weaknesses) -> None:
    weaknesses.shutdown()
    weaknesses.server_close()
    assert audit(weaknesses).returncode != 0


def test_the_bill_of_materials_names_each_pin_with_its_hashes() -> None:
    assert make("sbom").returncode == 0
    bill = json.loads((PROJECT / "build" / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "secretbinding"
    components = {component["name"]: component for component in bill["components"]}
    assert set(components) == set(pinned())
    for component in components.values():
        assert component["purl"].startswith("pkg:pypi/")
        assert component["externalReferences"][0]["hashes"]


def test_it_goes_into_the_image(tmp_path: Path) -> None:
    (tmp_path / "rootfs.py").write_text((IMAGE / "rootfs.py").read_text())
    (tmp_path / "sbom.cdx.json").write_text("{}")
    (tmp_path / "packages").mkdir()
    made = tmp_path / "rootfs"
    subprocess.run([sys.executable, "rootfs.py", str(made), str(tmp_path / "packages")], cwd=tmp_path, check=True)
    assert (made / "usr/share/sbom/secretbinding.cdx.json").read_text() == "{}"
