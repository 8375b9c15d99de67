"""`make audit` and `make sbom`: what is known of the dependencies, and what they are."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

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


def test_it_goes_into_the_image_with_the_interpreter_and_each_library_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "rootfs.py").write_text((IMAGE / "rootfs.py").read_text())
    package = {"type": "library", "name": "a-package", "version": "1"}
    empty = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1}
    (tmp_path / "sbom.cdx.json").write_text(json.dumps({**empty, "components": [package]}))
    (tmp_path / "packages").mkdir()
    made = tmp_path / "rootfs"
    subprocess.run([sys.executable, "rootfs.py", str(made), str(tmp_path / "packages")], cwd=tmp_path, check=True)
    text = (made / "usr/share/sbom/secretbinding.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    first, python, *libraries = json.loads(text)["components"]
    assert first == package
    assert (python["name"], python["version"]) == ("cpython", platform.python_version())
    named = {component["bom-ref"].removeprefix("file:"): component for component in (python, *libraries)}
    for place, component in named.items():
        content = (made / place.lstrip("/")).read_bytes()
        assert component["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}]
    standard_library = Path(sysconfig.get_path("stdlib")).resolve()
    copied = {f"/{path.relative_to(made)}" for path in made.rglob("*.so*") if path.is_file()}
    assert {place for place in copied if not Path(place).is_relative_to(standard_library)} <= set(named)
    if shutil.which("dpkg-query"):
        (libc,) = [component for component in libraries if component["name"] == "libc.so.6"]
        assert libc["version"]
        assert libc["purl"].startswith("pkg:deb/")


def test_what_builds_the_controller_is_pinned_and_nothing_else_is_fetched_for_it(tmp_path: Path) -> None:
    wanted = tomllib.loads((PROJECT / "pyproject.toml").read_text())["build-system"]["requires"]
    pins = (IMAGE / "build-requirements.txt").read_text()
    for name in (re.split(r"[^A-Za-z0-9._-]", each)[0] for each in wanted):
        assert re.search(rf"^{re.escape(name)}==[0-9.]+ \\\n    --hash=sha256:[0-9a-f]{{64}}", pins, re.MULTILINE)
    assert "://" not in pins
    lines = (IMAGE / "Dockerfile").read_text().splitlines()
    installs = [line.removeprefix("RUN pip ").split() for line in lines if line.startswith("RUN pip install")]
    *fetched, own = installs
    assert all("--require-hashes" in install for install in fetched)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(PROJECT / name, tmp_path / name)
    shutil.copytree(PROJECT / "controller", tmp_path / "controller", ignore=shutil.ignore_patterns("*.egg-info"))
    here = [str(tmp_path / "site") if each == "/site" else each for each in own]
    nowhere = {**os.environ, "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [sys.executable, "-m", "pip", *here], cwd=tmp_path, env=nowhere, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "secretbinding" / "__main__.py").is_file()
