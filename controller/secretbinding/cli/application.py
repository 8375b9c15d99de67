"""The application: all commands together, and how it ends: 0, 1 for every error, 130 when interrupted."""

import errno
import os
import sys
from collections.abc import Callable, Sequence

import typer

from secretbinding import logs
from secretbinding.cli import (
    about,
    adopting,
    bootstrapping,
    changes,
    diagnosing,
    injecting,
    manifests,
    revoking,
    rotating,
    running,
    statuses,
    uninstalling,
)
from secretbinding.cli.console import error, report, report_unexpected, say
from secretbinding.errors import SecretBindingError
from secretbinding.trail import asked

INTERRUPTED = 130

HELP = """Get Vault secrets into Nomad jobs, and keep them fresh.

A SecretBinding manifest says which secrets a job gets. Policy, login role and templates come from it, and a new version
of a secret rolls the job by a deployment of its own.

Start with `secretbinding demo`, or with `secretbinding plan -f binding.yaml`.
"""
EPILOG = (
    "Servers and tokens come from the environment: VAULT_ADDR, VAULT_TOKEN (or BAO_ADDR, BAO_TOKEN), VAULT_NAMESPACE, "
    "VAULT_CACERT, NOMAD_ADDR, NOMAD_TOKEN, NOMAD_NAMESPACE, NOMAD_CACERT, KUBECONFIG; *_TOKEN_FILE names a file. "
    "SECRETBINDING_VAULT_LOGIN logs in to Vault by kubernetes, nomad, jwt, approle or cert instead. "
    "SECRETBINDING_INSTANCE and others set the controller; NO_COLOR turns colors off. "
    "Every error ends with exit code 1."
)

app = typer.Typer(
    name=about.PROGRAM,
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
for name, command, panel in (
    ("validate", manifests.validate, "Manifests"),
    ("plan", changes.plan, "Manifests"),
    ("apply", changes.apply, "Manifests"),
    ("delete", changes.delete, "Manifests"),
    ("inject", injecting.inject, "Manifests"),
    ("adopt", adopting.adopt, "Manifests"),
    ("run", running.run, "Controller"),
    ("status", statuses.status, "Controller"),
    ("rotate", rotating.rotate, "Controller"),
    ("crd", manifests.crd, "Controller"),
    ("bootstrap", bootstrapping.bootstrap, "Servers"),
    ("doctor", diagnosing.doctor, "Servers"),
    ("revoke", revoking.revoke, "Servers"),
    ("uninstall", uninstalling.uninstall, "Servers"),
    ("demo", about.demo, "More"),
    ("completion", about.completion, "More"),
    ("version", about.version, "More"),
):
    app.command(name, rich_help_panel=panel)(command)

_COMMANDS = frozenset(command.name for command in app.registered_commands)

# Standard output is the only thing that a command writes to without telling its faults itself.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

# The error that a wrong command line raises, and the one for a command line without a command.
_USAGE_ERROR: type = typer.BadParameter.__mro__[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Nothing that a command raises leaves this function."""
    logs.configure("WARNING")
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        with asked(command=next((word for word in given if word in _COMMANDS), "")):
            code = app(args=given, prog_name=about.PROGRAM, standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except SecretBindingError as failure:
        report(failure)
        _leave_output()
        return 1
    except typer.Abort:
        error("aborted")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as failure:
        _leave_output()
        if failure.errno in _NO_ROOM:
            error(f"standard output cannot be written: {(failure.strerror or 'no room').lower()}; write somewhere else")
        elif failure.errno != errno.EPIPE:
            report_unexpected(failure)
        # At EPIPE whoever read our output has seen enough.
        return 1
    except Exception as failure:  # noqa: BLE001 - the last resort: one line instead of a traceback
        if isinstance(failure, _USAGE_ERROR):
            return _usage(failure)
        report_unexpected(failure)
        return 1
    return code if isinstance(code, int) else 0


def _leave_output() -> None:
    """What could not be written to standard output is given up; else Python would try, and fail, once more at the end.
    Does nothing to a standard output that works."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(failure: Exception) -> int:
    """A wrong command line: what is wrong, and where to look. Without any command the help was shown already."""
    if type(failure).__name__ == "NoArgsIsHelpError":
        return 0
    told: Callable[[], str] = getattr(failure, "format_message", lambda: str(failure))
    error(told().replace("Value error, ", ""))
    context = getattr(failure, "ctx", None)
    if context is not None:
        say(f"see `{context.command_path} --help`")
    return 1
