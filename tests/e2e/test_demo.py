"""`secretbinding demo` as people run it: a process of its own, which tells each act, and leaves nothing behind."""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest
import yaml

from secretbinding.devstack.api import Api
from secretbinding.devstack.nomad_agent import find_nomad
from secretbinding.devstack.openbao import find_openbao
from tests.support.commandline import environment

NO_NOMAD = "no `nomad` on PATH: the demo is not tried on a real Nomad"
ACTS = [
    "Servers",
    "a. A secret in Vault, and a job that knows nothing of Vault",
    "b. A SecretBinding",
    "c. A rotation: a new version is written",
    "d. Two bad rotations",
    "e. The binding is deleted",
    "All of it happened, in ",
]
SEEN = [
    "its tasks see no DB_USER and no DB_PASS",
    '+path "secret/data/myapp" {',
    "Ready; both tasks see `app first-password`",
    "one sees version 2, one version 1",
    "both see version 2; status: servingVersion 2, RotationHealthy UpToDate",
    "of 2 allocations served version 1 or 2",
    "version 3 of secret myapp has no field password",
    "the deployment with myapp version 4 failed",
    "of 2 allocations served version 2; version 4 is not tried again",
    "no policy and no role of ours is left",
    "the job is exactly as in (a)",
]
OUTER = {
    "VAULT_ADDR": "http://127.0.0.1:1",
    "VAULT_NAMESPACE": "elsewhere",
    "VAULT_CACERT": "/nonexistent/ca.pem",
    "VAULT_TOKEN_FILE": "/nonexistent/token",
    "BAO_TOKEN": "stale",
    "NOMAD_ADDR": "http://127.0.0.1:1",
    "NOMAD_TOKEN": "stale",
    "NOMAD_REGION": "elsewhere",
    "SECRETBINDING_INSTANCE": "Not A Label",
    "SECRETBINDING_JWT_MOUNT": "elsewhere",
}


@dataclass
class Demo:
    """A demo on its way. `temporary` is all that it may write to."""

    process: subprocess.Popen[bytes]
    temporary: Path
    text: str = field(default="")

    @property
    def out(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def read_until(self, wanted: str, *, timeout_seconds: float = 90.0) -> None:
        """Read what it tells until the text has come; fails with all that came when it does not."""
        deadline = time.monotonic() + timeout_seconds
        while wanted not in self.text:
            ready, _, _ = select.select([self.out], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self.out.fileno(), 65536) if ready else b""
            if not chunk:
                pytest.fail(f"`{wanted}` was not told:\n{self.text}")
            self.text += chunk.decode()

    def end(self, *, timeout_seconds: float = 90.0) -> int:
        """Its exit code, once it has ended and closed its output, which its children have too."""
        rest, _ = self.process.communicate(timeout=timeout_seconds)
        self.text += rest.decode()
        return self.process.returncode

    def leftovers(self) -> list[str]:
        """Processes whose command line or environment names its folder, and what is in that folder."""
        marker = os.fsencode(self.temporary)
        found = [str(path.relative_to(self.temporary)) for path in self.temporary.iterdir()]
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                except OSError:
                    continue
                if marker in told:
                    found.append(f"process {entry.name}")
        return found


class Starter:
    """Starts demos, each with a folder for temporary files and a PATH of its own."""

    def __init__(self, directory: Path) -> None:
        self.temporary = directory / "t"
        self.programs = directory / "bin"
        self.temporary.mkdir()
        self.programs.mkdir()
        self.started: list[Demo] = []
        openbao = find_openbao()
        assert openbao is not None
        self.link("bao", openbao)

    def link(self, name: str, program: str) -> None:
        """Put a program on the demo's PATH, which else holds the system's own directories only."""
        (self.programs / name).symlink_to(program)

    def __call__(self, *arguments: str, **variables: str) -> Demo:
        directories = [
            str(self.programs),
            *(name for name in ("/usr/bin", "/bin") if not shutil.which("nomad", path=name)),
        ]
        env = environment(PATH=os.pathsep.join(directories), TMPDIR=str(self.temporary), COLUMNS="200", **variables)
        process = subprocess.Popen(
            [sys.executable, "-m", "secretbinding", "demo", *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.started.append(Demo(process, self.temporary))
        return self.started[-1]

    def stop(self) -> None:
        for demo in self.started:
            if demo.process.poll() is None:
                demo.process.kill()
            demo.process.wait()
            demo.out.close()


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    starter = Starter(tmp_path_factory.mktemp("demo"))
    yield starter
    starter.stop()


@pytest.fixture(params=["simulator", pytest.param("nomad", marks=pytest.mark.real_nomad)])
def nomad(request: pytest.FixtureRequest, start: Starter) -> str:
    """How the demo names the Nomad that it is played on."""
    if request.param == "simulator":
        return "the simulator, since no `nomad` is on PATH"
    program = find_nomad()
    if program is None:
        pytest.skip(NO_NOMAD)
    start.link("nomad", program)
    return "a real agent"


def assert_told_in_order(text: str, wanted: list[str]) -> None:
    at = 0
    for line in wanted:
        found = text.find(line, at)
        assert found >= 0, f"`{line}` is missing after character {at} of:\n{text}"
        at = found


def test_every_act_happens_whatever_the_users_own_settings_are(start: Starter, nomad: str) -> None:
    demo = start(**OUTER)
    assert demo.end() == 0, demo.text
    assert nomad in demo.text
    assert_told_in_order(demo.text, ACTS)
    assert_told_in_order(demo.text, SEEN)
    took = re.search(r"All of it happened, in ([0-9.]+) s", demo.text)
    assert took is not None
    assert float(took[1]) < 60
    assert demo.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_with_keep_the_servers_stay_until_a_signal_and_the_binding_is_ready(
    start: Starter, nomad: str, number: signal.Signals
) -> None:
    demo = start("--keep")
    demo.read_until("secretbinding status --source nomad")
    assert "Ready; both tasks see `app fifth-password`" in demo.text
    exported = dict(re.findall(r"([A-Z]+_[A-Z]+)=(\S+)", demo.text[demo.text.index("Everything is left running") :]))
    vault = Api(exported["VAULT_ADDR"], {"X-Vault-Token": exported["VAULT_TOKEN"]})
    assert vault.get("/v1/secret/data/myapp").expect().json()["data"]["data"]["password"] == "fifth-password"
    assert Api(exported["NOMAD_ADDR"]).get("/v1/job/myapp").expect().json()["Status"] == "running"
    shown = subprocess.run(
        [sys.executable, "-m", "secretbinding", "status", "--source", "nomad", "-o", "yaml"],
        env=environment(**exported),
        capture_output=True,
        check=False,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    (binding,) = yaml.safe_load(shown.stdout)["items"]
    conditions = {one["type"]: one["status"] for one in binding["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    demo.process.send_signal(number)
    assert demo.end() == 0, demo.text
    assert demo.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["Servers", "b. A SecretBinding", "c. A rotation"])
def test_a_signal_in_between_ends_it_and_leaves_nothing_behind(
    start: Starter, number: signal.Signals, moment: str
) -> None:
    demo = start()
    demo.read_until(moment)
    demo.process.send_signal(number)
    assert demo.end() == 130, demo.text
    assert demo.text.rstrip().endswith("error: interrupted")
    assert demo.leftovers() == []


def test_a_nomad_that_does_not_start_is_an_error_with_the_end_of_its_log(start: Starter) -> None:
    fake = start.programs / "nomad"
    fake.write_text("#!/bin/sh\nseq 1 50\necho 'no room for [/a] state' >&2\nexit 3\n")
    fake.chmod(0o755)
    demo = start()
    assert demo.end() == 1, demo.text
    assert "error: nomad ended with exit code 3 while starting" in demo.text
    assert "no room for [/a] state" in demo.text
    assert "\n40\n" not in demo.text
    assert "All of it happened" not in demo.text
    assert demo.leftovers() == []
