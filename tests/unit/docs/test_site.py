"""The pages as a site, and the commands on them."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from secretbinding.cli.application import app

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("charts/*/README.md")])


def test_the_site_is_built_without_a_warning_and_every_page_can_be_reached(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "--keep-going", "-b", "html", "-d", str(tmp_path / "trees"),
         "-c", str(ROOT / "deploy" / "site"), str(ROOT), str(tmp_path / "site")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    start = (tmp_path / "site" / "deploy" / "index.html").read_text()
    for page in ROOT.glob("deploy/*.md"):
        assert (tmp_path / "site" / "deploy" / f"{page.stem}.html").is_file()
        assert page.stem == "index" or f'href="{page.stem}.html"' in start, f"{page.name} is in no list"


def commands(page: Path) -> list[str]:
    """The lines of console blocks that call the program, without variables before and pipes after it."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        joined = re.sub(r"\\\n>?\s*", " ", block)
        for line in re.findall(r"^\$ (.*)$", joined, re.MULTILINE):
            found += re.findall(r"(?:^|[|;&(] ?|[A-Z_]+=\S+ )secretbinding ([^|;>#)]*)", line)
    return found


CALLS = [pytest.param(call, id=f"{page.name}: {call[:60]}") for page in PAGES for call in commands(page)]


def test_there_are_commands_on_the_pages() -> None:
    assert len(CALLS) > 40


@pytest.mark.parametrize("call", CALLS)
def test_each_command_on_a_page_is_one_that_there_is_with_options_that_it_has(call: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(call)
    if words and words[0].startswith("-"):
        return
    while (commands := getattr(command, "commands", None)) and words:
        found = commands.get(words[0])
        assert found is not None, f"there is no command {words[0]}"
        command, words = found, words[1:]
    if "--help" in words or "COMMAND" in call:
        return
    try:
        command.make_context(command.name, words)
    except Exception as error:
        # Typer brings its own click, whose classes it does not export. A file that is not here, or a value that a page
        # leaves open, is fine.
        if type(error).__name__ not in ("BadParameter", "MissingParameter"):
            raise
