"""`version`, `completion` and `demo`."""

import os
import platform
import subprocess
import sys
from enum import StrEnum
from typing import Annotated

import typer

from secretbinding import __version__
from secretbinding.cli.console import emit
from secretbinding.errors import UsageError

PROGRAM = "secretbinding"


class Shell(StrEnum):
    """Shells with completion."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def version() -> int:
    """Print the version."""
    emit(f"{PROGRAM} {__version__} (Python {platform.python_version()})")
    return 0


def completion(shell: Annotated[Shell, typer.Argument(help="The shell to print the script for.")]) -> int:
    """Print the completion script for a shell.

    Examples:

      source <(secretbinding completion bash)

      secretbinding completion fish > ~/.config/fish/completions/secretbinding.fish
    """
    # Asked of a process of our own by the variable that the printed script itself uses.
    environment = {**os.environ, f"_{PROGRAM.upper()}_COMPLETE": f"source_{shell.value}"}
    command = [sys.executable, "-m", PROGRAM]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if not done.stdout:
        raise UsageError(f"no completion script for {shell.value}", remedy="is the shell installed?")
    emit(done.stdout)
    return 0


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the servers running, and print their addresses.")] = False,
) -> int:
    """Show the whole way on this machine, in under a minute.

    An OpenBao server and Nomad (or its simulator) are started; a secret reaches a job, rotates, is refused, is rolled
    back, and is taken out again.

    Examples:

      secretbinding demo

      secretbinding demo --keep
    """
    try:
        from secretbinding.devstack import demo as played
    except ImportError as failure:
        raise UsageError(
            f"the demo needs {failure.name or 'a package'}, which is not installed",
            remedy="install the extra: pip install 'secretbinding[devstack]'",
        ) from None
    return played.main(keep=keep)
