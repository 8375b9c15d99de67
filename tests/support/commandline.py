"""The command line, run in this process or in one of its own, with nothing of the outer environment's settings."""

import io
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
import structlog

from secretbinding.cli import main
from tests.support.servers import Stack

_PREFIXES = ("VAULT_", "BAO_", "CONSUL_", "NOMAD_", "SECRETBINDING_", "KUBE", "_SECRETBINDING")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        for name in list(os.environ):
            if name.startswith(_PREFIXES):
                monkeypatch.delenv(name)

    def __call__(self, *arguments: str, stdin: str = "") -> Ran:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        self._capsys.readouterr()
        code = main(arguments)
        # What logs now would write to the command's own standard error, which may be gone.
        structlog.reset_defaults()
        out, err = self._capsys.readouterr()
        return Ran(code, out, err)

    def setenv(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def delenv(self, name: str) -> None:
        self._monkeypatch.delenv(name, raising=False)

    def use(self, stack: Stack, **more: str) -> None:
        """Talk to the servers of a stack."""
        self.setenv(**servers_of(stack), **more)


def servers_of(stack: Stack) -> dict[str, str]:
    """The variables that lead to the servers of a stack."""
    variables = {"VAULT_ADDR": stack.openbao.address, "VAULT_TOKEN": stack.openbao.root_token}
    return {**variables, "NOMAD_ADDR": stack.address, "NOMAD_TOKEN": stack.token}


def environment(**more: str) -> Mapping[str, str]:
    """The environment for a process of its own, which serves no metrics unless it is told to."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES)}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "SECRETBINDING_METRICS_ADDRESS": "", **more}


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    """The command line. Logging is put back afterwards, since a command sets it up for its own standard error."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield CommandLine(capsys, monkeypatch)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
