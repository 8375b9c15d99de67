"""The image's file system: made from this machine's Python as `deploy/image/Dockerfile` makes it, and run in there."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

import secretbinding
from tests.support.commandline import servers_of
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

PROJECT = Path(__file__).parents[3]
IMAGE = PROJECT / "deploy" / "image"
REQUIREMENTS = PROJECT / "deploy" / "requirements.txt"
NOBODY = "65532:65532"
CHROOT = shutil.which("chroot")

needs_root = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0 or CHROOT is None,
    reason="no `chroot` for this user: the image's file system is not tried out",
)
pytestmark = [pytest.mark.xdist_group("image")]


def pinned() -> list[str]:
    return re.findall(r"^([A-Za-z0-9._-]+)==", REQUIREMENTS.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file system, with the packages of the lock file and nothing of the tests'."""
    folder = tmp_path_factory.mktemp("image")
    packages = folder / "packages"
    shutil.copytree(Path(secretbinding.__file__).parent, packages / "secretbinding")
    for name in pinned():
        for file in importlib.metadata.files(name) or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)
    made = folder / "rootfs"
    subprocess.run([sys.executable, str(IMAGE / "rootfs.py"), str(made), str(packages)], check=True, umask=0o077)
    yield made
    shutil.rmtree(folder)


def inside(root: Path, arguments: Sequence[str]) -> list[str]:
    return [str(CHROOT), f"--userspec={NOBODY}", str(root), "/usr/bin/python3", "-m", "secretbinding", *arguments]


def test_there_is_no_shell_nothing_set_uid_and_nothing_that_its_user_could_write(root: Path) -> None:
    names = {path.name for path in root.rglob("*")}
    assert not names & {"sh", "bash", "dash", "busybox", "pip", "apt", "dpkg", "apk", "su", "env"}
    for path in (root, *root.rglob("*")):
        mode = path.lstat().st_mode
        assert stat.S_ISLNK(mode) or not mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH), path
        assert path.lstat().st_uid == os.geteuid()
        assert stat.S_ISLNK(mode) or mode & stat.S_IROTH, path


@needs_root
def test_the_command_line_runs_in_there(root: Path) -> None:
    ran = subprocess.run(
        inside(root, ["validate", "-f", "-"]),
        input=yaml.safe_dump(a_manifest("web", "web", "web")),
        env={"PYTHONPATH": "/app"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr


@needs_root
def test_the_controller_does_its_work_in_there_and_writes_no_file(root: Path, simulator: Stack, unique: str) -> None:
    world = World(simulator)
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    (root / "bindings").mkdir()
    (root / "bindings" / "web.yaml").write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    before = set(root.rglob("*"))
    variables = {"PYTHONPATH": "/app", "SECRETBINDING_METRICS_ADDRESS": "", "SECRETBINDING_POLL_SECONDS": "0.3"}
    child = subprocess.Popen(
        inside(root, ["run", "--source", "files=/bindings"]),
        env={
            **variables,
            "SECRETBINDING_SETTLE_SECONDS": "0",
            "SECRETBINDING_TENANCY": "open",
            **servers_of(simulator),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_until("the job has its secret", lambda: world.seen(unique) == ["app one"])
        world.deployed(unique)
        world.secret(unique, username="app", password="two")
        wait_until("it rolls", lambda: world.seen(unique) == ["app two"])
        child.terminate()
        assert child.wait(timeout=20) == 0
    finally:
        child.kill()
        child.communicate()
    assert set(root.rglob("*")) == before


def test_the_docker_file_copies_what_is_there_and_ends_in_an_empty_image_without_root() -> None:
    lines = (IMAGE / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    assert copied
    for name in (name for names in copied for name in names):
        assert list(PROJECT.glob(name)) or "[" in name, name
    last = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert last[0] == "FROM scratch"
    assert f"USER {NOBODY}" in last
    assert not [line for line in last if line.startswith("RUN ")]
