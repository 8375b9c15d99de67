"""The whole configuration of an agent, and that no text of anybody's breaks out of it."""

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secretbinding.devstack.simulator.template import render
from secretbinding.job.sidecar import agent_task, wait_task
from secretbinding.kinds.base import Pin, Reading
from secretbinding.models.key import BindingKey
from secretbinding.models.types import Command, Destination
from secretbinding.render.agent import (
    Login,
    Server,
    Sidecar,
    base_blocks,
    delimiters_for,
    file_blocks,
    list_block,
    unsound_written,
    wait_blocks,
)
from secretbinding.render.template import Change, TemplateBlock, secret_blocks
from secretbinding.render.text import hcl_string
from tests.support import builders as make
from tests.support.builders import created

KEY = BindingKey("files", "payments", "app")
PIN = Pin(7, created(7))
READING = Reading("secret/data/myapp?version=7", ".Data.data", polls=False)
ENV = {"NOMAD_ALLOC_DIR": "/alloc", "NOMAD_TASK_DIR": "/local", "NOMAD_SECRETS_DIR": "/secrets"}
JWT = Sidecar(
    driver="docker",
    image="openbao/openbao:2.2.0",
    command="bao",
    args=(),
    user="",
    cpu=50,
    memory=128,
    memory_max=0,
    wait=True,
    server=Server("https://vault:8200"),
    login=Login("jwt", "jwt-nomad", "role"),
)


def written(block: TemplateBlock) -> str:
    """The file that Nomad makes of a template of ours."""
    left, right = block.delimiters
    made = render(f"{left}/* mark */{right}{block.body}", {}, ENV, left=left, right=right, error_on_missing_key=True)
    assert not made.missing
    return made.text


def inner(*files: Any, script: Any = None) -> tuple[TemplateBlock, ...]:
    entry = make.binding(make.kv("app", files=files), make.by_agent()).spec.secrets[0]
    return secret_blocks(KEY, entry, READING, PIN, Change(script=script))


def test_login_by_the_workloads_identity() -> None:
    (block,) = base_blocks(JWT)
    assert (
        written(block)
        == """\
vault {
  address = "https://vault:8200"
  retry {
    num_retries = 12
  }
}
auto_auth {
  method "jwt" {
    mount_path = "auth/jwt-nomad"
    max_backoff = "30s"
    config = {
      path = "/secrets/nomad_vault.jwt"
      role = "role"
      remove_jwt_after_reading = false
    }
  }
  sink "file" {
    config = {
      path = "/secrets/vault_token"
      mode = 0600
    }
  }
}
template_config {
  exit_on_retry_failure = true
  static_secret_render_interval = "300s"
}
"""
    )


def test_tls_and_a_listener() -> None:
    server = Server("https://vault:8200", ca_pem="PEM\n", tls_server_name="vault", client_cert="/c", client_key="/k")
    blocks = base_blocks(replace(JWT, server=server, port=8100, render_seconds=0))
    text, ca = (written(block) for block in blocks)
    assert ca == "PEM\n"
    assert text.startswith(
        'vault {\n  address = "https://vault:8200"\n  ca_cert = "/local/agent/ca.pem"\n'
        '  tls_server_name = "vault"\n  client_cert = "/c"\n  client_key = "/k"\n'
    )
    assert text.endswith(
        '  static_secret_render_interval = "31536000s"\n}\ncache {\n}\napi_proxy {\n  use_auto_auth_token = true\n}\n'
        'listener "tcp" {\n  address = "127.0.0.1:8100"\n  tls_disable = true\n}\n'
    )


@pytest.mark.parametrize(("driver", "address"), [("docker", "/alloc/vault.sock"), ("raw_exec", "../alloc/vault.sock")])
def test_a_socket_has_a_path_that_is_short_enough_for_one(driver: str, address: str) -> None:
    (block,) = base_blocks(replace(JWT, driver=driver, socket="../alloc/vault.sock"))
    assert written(block).endswith(
        f'listener "unix" {{\n  address = "{address}"\n  socket_mode = "0666"\n  tls_disable = true\n}}\n'
    )


def test_files_of_a_binding() -> None:
    script = {"Command": "/bin/kill", "Args": ["-HUP", "1"], "Timeout": 5_000_000_000, "FailOnError": False}
    made = inner(
        {"destination": "../alloc/secrets/a", "perms": "0600", "uid": 0, "gid": 7},
        {
            "destination": "../vault-agent/secrets/b",
            "template": "[[ .Data ]]",
            "leftDelimiter": "[[",
            "rightDelimiter": "]]",
        },
        script=script,
    )
    first, second, stanzas = file_blocks(KEY, made)
    assert (first.of, first.pin, first.slot) == (made[0].of, PIN, "file:app:../alloc/secrets/a")
    assert written(first) == made[0].body
    assert written(second) == '[[ with secret "secret/data/myapp?version=7" ]][[ .Data ]][[ end ]]'
    assert (
        written(stanzas)
        == f"""\
template {{
  source = "/local{first.destination.removeprefix("local")}"
  destination = "/alloc/secrets/a"
  perms = "0600"
  error_on_missing_key = true
  sandbox_path = "/local"
  function_denylist = ["plugin", "writeToFile"]
  user = "0"
  group = "7"
  exec {{
    command = ["/bin/kill", "-HUP", "1"]
    timeout = "5s"
  }}
}}
template {{
  source = "/local{second.destination.removeprefix("local")}"
  destination = "/secrets/b"
  perms = "0644"
  error_on_missing_key = true
  sandbox_path = "/local"
  function_denylist = ["plugin", "writeToFile"]
  left_delimiter = "[["
  right_delimiter = "]]"
  exec {{
    command = ["/bin/kill", "-HUP", "1"]
    timeout = "5s"
  }}
}}
"""
    )
    assert written(list_block(KEY, made)) == "/alloc/secrets/a\n/local/../../vault-agent/secrets/b\n"


def test_the_tasks_in_a_container_and_on_the_node_itself() -> None:
    agent, wait = agent_task(JWT), wait_task(JWT)
    assert agent["Config"] == {
        "image": "openbao/openbao:2.2.0",
        "entrypoint": ["bao"],
        "args": ["agent", "-config=${NOMAD_TASK_DIR}/agent/conf"],
    }
    assert wait["Config"] == {
        "image": "openbao/openbao:2.2.0",
        "entrypoint": ["/bin/sh"],
        "args": ["${NOMAD_TASK_DIR}/wait.sh"],
    }
    assert (agent["Lifecycle"], wait["Lifecycle"]) == (
        {"Hook": "prestart", "Sidecar": True},
        {"Hook": "prestart", "Sidecar": False},
    )
    assert agent["Identities"][0] == {**agent["Identities"][0], "Name": "vault", "Audience": ["vault.io"], "File": True}
    on_node = agent_task(replace(JWT, driver="raw_exec", command="/usr/bin/vault", args=("-log-level=debug",)))
    assert on_node["Config"] == {
        "command": "/usr/bin/vault",
        "args": ["agent", "-config=${NOMAD_TASK_DIR}/agent/conf", "-log-level=debug"],
    }


def test_the_agent_is_restarted_for_as_long_as_it_takes() -> None:
    policy = agent_task(JWT)["RestartPolicy"]
    assert policy["Mode"] == "delay"
    assert policy["Attempts"] * policy["Delay"] < policy["Interval"], "else Nomad refuses the job"


_NASTY = "ab<>%{}\"'`\\$*/.:;=|()[]#~ -_1\n\täß€😀"
texts = st.text(st.sampled_from(_NASTY) | st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


@given(texts)
@example('<%/* secretbinding */%>{{ env "X" }}<%1 x %1>${a}')
def test_what_a_user_writes_for_the_agent_is_nothing_to_nomad(text: str) -> None:
    block = TemplateBlock(
        "file:app:../alloc/x", text, "../alloc/x", False, True, Change(), of="o", call=("secret", "x")
    )
    copied, _ = file_blocks(KEY, [block])
    assert unsound_written(copied) == ""
    assert written(copied) == text


@given(st.lists(texts, max_size=4))
def test_delimiters_are_found_that_occur_in_no_text(found: list[str]) -> None:
    left, right = delimiters_for(found)
    assert not any(left in text or right in text for text in found)
    assert len(left) <= 8


commands = st.text(st.sampled_from(_NASTY), min_size=1, max_size=20).filter(
    lambda text: get_args(Command)[1].complaint(text) is None
)
places = st.builds(lambda rest: f"../alloc/{rest}", texts).filter(
    lambda text: get_args(Destination)[1].complaint(text) is None
)


@given(places, st.lists(commands, min_size=1, max_size=3))
@example("../alloc/<%1", ["${HOME}", '"]\n}', "%{x}", "<% x %>"])
def test_what_stands_in_the_configuration_is_a_text_of_it_and_nothing_else(place: str, command: list[str]) -> None:
    script = {"Command": command[0], "Args": command[1:], "Timeout": 10**9, "FailOnError": False}
    block = TemplateBlock("file:app:x", "x", place, False, True, Change(script=script), of="o", call=("secret", "x"))
    lines = written(file_blocks(KEY, [block])[1]).splitlines()
    assert len(lines) == 12
    assert json.loads(lines[2].partition(" = ")[2]) == place.replace("../alloc/", "/alloc/")
    shown = lines[8].partition(" = ")[2]
    assert "${" not in shown
    assert json.loads(shown) == command
    assert written(list_block(KEY, [block])) == place.replace("../alloc/", "/alloc/") + "\n"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_a_string_of_the_configuration_is_one_line_without_interpolation(text: str) -> None:
    made = hcl_string(text)
    assert "\n" not in made
    assert "$" not in made
    assert json.loads(made) == text


def test_the_waiting_task_reads_one_list_for_each_binding() -> None:
    (script,) = wait_blocks()
    assert 'for list in "$NOMAD_TASK_DIR"/wait/*' in written(script)
    lists = {
        list_block(BindingKey("files", "a", name), inner({"destination": "../alloc/x"})).destination for name in "ab"
    }
    assert {place.rpartition("/")[0] for place in lists} == {"local/wait"}
    assert len(lists) == 2
