"""The commands in the runbooks are ones that the programs have."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import pytest

RUNBOOKS = (Path(__file__).parents[3] / "deploy" / "runbooks.md").read_text()

PROGRAMS = {"nomad": "nomad", "vault": "bao", "kubectl": "kubectl"}
"""What is called, and which program of this machine knows the same commands."""


def calls(program: str) -> list[tuple[str, ...]]:
    """The calls of a program, each as its words up to the first option: what names the command, and arguments."""
    blocks = "\n".join(re.findall(r"```console\n(.*?)```", RUNBOOKS, re.DOTALL))
    called = [*re.findall(rf"(?:^\$ |\$\(){program} (.*)", blocks, re.MULTILINE)]
    called += re.findall(rf"`{program} ([^`]+)`", RUNBOOKS)
    return sorted({tuple(takewhile(lambda word: re.fullmatch("[a-z-]*[a-z]", word), one.split())) for one in called})


def knows(program: str, words: Sequence[str]) -> bool:
    """Whether the first two of the words, or more of them, name a command of the program; one, where it is alone."""
    for length in range(len(words), min(2, len(words)) - 1, -1):
        name = words[:length]
        done = subprocess.run([program, *name, "--help"], capture_output=True, text=True, check=False, timeout=60)
        if re.search(rf"^(?:Usage:| +kubectl) ?\w* ?{' '.join(name)}\b", done.stdout + done.stderr, re.MULTILINE):
            return True
    return False


@pytest.mark.parametrize(
    ("program", "words"),
    [pytest.param(program, words, id=" ".join((program, *words))) for program in PROGRAMS for words in calls(program)],
)
def test_a_command_in_the_runbooks_is_one_that_there_is(program: str, words: tuple[str, ...]) -> None:
    here = shutil.which(PROGRAMS[program])
    if here is None:
        pytest.skip(f"no `{PROGRAMS[program]}` on PATH: the runbooks' commands are not compared with it")
    assert words
    assert knows(here, words[:1] if program == "kubectl" else words), f"{program} has no command {' '.join(words)}"


def test_a_command_that_there_is_not_is_found_out() -> None:
    nomad = shutil.which("nomad")
    if nomad is None:
        pytest.skip("no `nomad` on PATH")
    assert not knows(nomad, ("job", "ponder", "web"))
    assert knows(nomad, ("job", "status", "web"))
