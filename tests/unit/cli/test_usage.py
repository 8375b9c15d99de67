"""The command line as a whole: exit codes, help, completion, and what happens when something unforeseen does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from secretbinding import __version__
from secretbinding.cli import manifests
from secretbinding.cli.application import app
from tests.support.commandline import CommandLine, environment

COMMANDS = [
    "validate",
    "plan",
    "apply",
    "delete",
    "inject",
    "adopt",
    "revoke",
    "uninstall",
    "run",
    "status",
    "rotate",
    "crd",
    "bootstrap",
    "doctor",
    "demo",
    "completion",
    "version",
]
ROOT = Path(__file__).parents[3]


def test_the_commands_are_those_of_this_release(cli: CommandLine) -> None:
    assert sorted(str(command.name) for command in app.registered_commands) == sorted(COMMANDS)
    shown = cli("--help").out
    assert all(re.search(rf"^│ {name} ", shown, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("version",)])
def test_every_help_text_has_an_example(cli: CommandLine, command: str) -> None:
    ran = cli(command, "--help")
    assert ran.code == 0
    assert f"secretbinding {command}" in ran.out.partition("Example")[2]


def test_without_a_command_the_help_is_shown(cli: CommandLine) -> None:
    ran = cli()
    assert ran.code == 0
    assert "Usage: secretbinding" in ran.out + ran.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["plan"], "Missing option '--filename' / '-f'"),
        (["plan", "--nonsense"], "No such option"),
        (["apply", "-f", "x", "--timeout", "5 minutes"], "'5 minutes' is no duration; write 90s, 5m or 1h30m"),
        (["apply", "-f", "x", "--timeout", "-5m"], "not negative"),
        (["plan", "-f", "x", "-n", "*"], "no single namespace"),
        (["status"], "give -f, or --source nomad or kubernetes"),
        (["status", "--source", "nomad", "-f", "x"], "-f goes with --source files"),
        (["status", "--source", "nomad", "--wait", "--watch"], "--wait and --watch exclude each other"),
        (["rotate", "--source", "nomad"], "give its NAME"),
        (["rotate", "app", "--source", "nomad", "--secret", "db"], "--secret is for new values only"),
        (["run"], "Missing option '--source'"),
        (["run", "--source", "etcd"], "use kubernetes, nomad or files=PATH"),
        (["run", "--source", "files"], "write files=PATH"),
        (["run", "--source", "nomad=x"], "write --source nomad"),
        (["completion", "tcsh"], "is not one of"),
        (["inject", "-f", "-", "-"], "cannot both come from standard input"),
    ],
)
def test_a_wrong_command_line_ends_with_1_and_says_what_to_write(
    cli: CommandLine, arguments: list[str], told: str
) -> None:
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ")
    assert told in ran.err


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("VAULT_ADDR", "ftp://vault", "set VAULT_ADDR to http(s)://host:port"),
        ("VAULT_ADDR", "srv+https://vault.service.consul:8200", "VAULT_ADDR has a port"),
        ("VAULT_ADDR", "consul+http://127.0.0.1:8500", "VAULT_ADDR names no Consul, or no service in it"),
        ("CONSUL_HTTP_SSL_VERIFY", "perhaps", "environment variable CONSUL_HTTP_SSL_VERIFY"),
        ("NOMAD_ADDR", "nomad:4646", "set NOMAD_ADDR to http(s)://host:port"),
        ("SECRETBINDING_WORKERS", "many", "environment variable SECRETBINDING_WORKERS"),
        ("SECRETBINDING_INSTANCE", "Über", "environment variable SECRETBINDING_INSTANCE"),
        ("VAULT_CACERT", "/no/such/file", "/no/such/file, is not there"),
        ("SECRETBINDING_TENANCY", "closed", "environment variable SECRETBINDING_TENANCY"),
        ("SECRETBINDING_ADMISSION_LISTEN", "0.0.0.0:9443", "set SECRETBINDING_ADMISSION_MANAGE, or mount one"),
        ("SECRETBINDING_ADMISSION_LISTEN", "nowhere", "HOST:PORT"),
        ("SECRETBINDING_ADMISSION_CERT", "/tls.crt", "SECRETBINDING_ADMISSION_KEY belong together"),
        ("SECRETBINDING_ADMISSION_SERVICE", "hook", "environment variable SECRETBINDING_ADMISSION_SERVICE"),
    ],
)
def test_a_wrong_setting_is_named(cli: CommandLine, tmp_path: Path, name: str, value: str, told: str) -> None:
    path = tmp_path / "b.yaml"
    path.write_text((ROOT / "tests/corpus/good/smallest.yaml").read_text())
    cli.setenv(**{name: value})
    ran = cli("plan", "-f", str(path))
    assert ran.code == 1
    assert told in ran.err


def test_without_a_place_of_policies_the_controller_does_not_start(cli: CommandLine, tmp_path: Path) -> None:
    ran = cli("run", "--source", f"files={tmp_path}")
    assert ran.code == 1
    assert "give --policies kubernetes, nomad or files=PATH; or set SECRETBINDING_TENANCY=open" in ran.err


def test_version_and_crd_are_printed(cli: CommandLine) -> None:
    assert cli("version").out.startswith(f"secretbinding {__version__} ")
    files = [ROOT / f"crds/nomad-vault.io_{plural}.yaml" for plural in ("secretbindings", "secretbindingpolicies")]
    assert cli("crd").out == "---\n".join(file.read_text() for file in files)


@pytest.mark.parametrize(
    ("shell", "part"), [("bash", "complete -o"), ("zsh", "#compdef secretbinding"), ("fish", "complete --command")]
)
def test_completion_prints_the_script_of_the_shell(cli: CommandLine, shell: str, part: str) -> None:
    ran = cli("completion", shell)
    assert ran.code == 0
    assert part in ran.out


def test_the_completion_script_completes_commands() -> None:
    words = {"COMP_WORDS": "secretbinding st", "COMP_CWORD": "1"}
    asked = environment(_SECRETBINDING_COMPLETE="complete_bash", **words)
    done = subprocess.run(
        [sys.executable, "-m", "secretbinding"], env=dict(asked), capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["status"]


def test_an_unforeseen_error_is_one_line_without_its_text(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("hvs.SECRET")

    monkeypatch.setattr(manifests, "load", fail)
    cli.setenv(VAULT_TOKEN="hvs.SECRET")
    ran = cli("validate", "-f", "x")
    assert ran.code == 1
    assert re.fullmatch(r"error: unexpected RuntimeError \(.*:\d+\), .*set SECRETBINDING_DEBUG=1.*\n", ran.err)
    cli.setenv(SECRETBINDING_DEBUG="1")
    ran = cli("validate", "-f", "x")
    assert "Traceback" in ran.err
    assert "RuntimeError: ***" in ran.err
    assert "hvs.SECRET" not in ran.err


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m secretbinding crd | head -n 1"
    done = subprocess.run(
        ["/bin/sh", "-c", command], env=dict(environment()), capture_output=True, text=True, check=False
    )
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_help_is_without_colors_where_there_is_no_terminal(cli: CommandLine) -> None:
    assert "\x1b" not in cli("--help").out


def test_a_demo_without_its_extra_says_what_to_install(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("secretbinding.devstack.demo")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("secretbinding.devstack.demo", raising=False)
    monkeypatch.setitem(sys.modules, "secretbinding.devstack.demo", None)
    ran = cli("demo")
    assert ran.code == 1
    assert "pip install 'secretbinding[devstack]'" in ran.err
