"""The controller's own Nomad job: identities for both servers, checks that gate its deployments, no secret kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from secretbinding.ops.bootstrap.blocks import block
from secretbinding.render.role import AUDIENCE
from secretbinding.render.text import go_string as quoted

SHORTEST_STOP = "30s"
"""How long Nomad waits for a stop: the controller finishes what is under way. Clients allow no more by default."""


class Driver(StrEnum):
    """How the controller's own Nomad job runs it."""

    DOCKER = "docker"
    EXEC = "exec"
    RAW_EXEC = "raw_exec"


@dataclass(frozen=True, slots=True)
class Program:
    """What the task runs: an image for Docker, else a command on the client."""

    driver: Driver
    image: str
    command: str


def controller_job(
    job: str, namespace: str, program: Program, environment: Mapping[str, str], *, nomad_acl: bool, several: bool
) -> str:
    """The job as HCL.

    Args:
        job, namespace: its ID and Nomad namespace.
        program: how it is run.
        environment: settings of the controller; references such as `${NOMAD_SECRETS_DIR}` are Nomad's to resolve.
        nomad_acl: Nomad asks for a token: its own identity is one.
        several: two allocations, of which one takes over from the other.
    """
    group = block(
        'group "controller"',
        [("count", "2" if several else "1"), ("shutdown_delay", '"1s"')],
        block(
            "update",
            [
                ("max_parallel", "1"), ("health_check", '"checks"'), ("min_healthy_time", '"10s"'),
                ("healthy_deadline", '"3m"'), ("progress_deadline", '"10m"'), ("auto_revert", "true"),
            ],
        ),
        block("network", [], 'port "metrics" {}\n'),
        _service(),
        _task(program, environment, nomad_acl),
    )  # fmt: skip
    return block(f"job {quoted(job)}", [("namespace", quoted(namespace))], group)


def _service() -> str:
    """Readiness gates a deployment; a process whose loops do not run any more is started again."""
    often = [("interval", '"10s"'), ("timeout", '"5s"')]
    alive = [("type", '"http"'), ("name", '"alive"'), ("path", '"/healthz"'), *often]
    ready = [("type", '"http"'), ("name", '"ready"'), ("path", '"/readyz"'), *often]
    return block(
        "service",
        [("name", '"secretbinding"'), ("provider", '"nomad"'), ("port", '"metrics"')],
        block("check", alive, block("check_restart", [("limit", "3"), ("grace", '"60s"')])),
        block("check", ready),
    )


def _task(program: Program, environment: Mapping[str, str], nomad_acl: bool) -> str:
    docker = program.driver is Driver.DOCKER
    runs = ("image", quoted(program.image)) if docker else ("command", quoted(program.command))
    config = [runs, ("args", '["run", "--source", "nomad"]'), *([("ports", '["metrics"]')] if docker else [])]
    listen = "0.0.0.0:${NOMAD_PORT_metrics}" if docker else "${NOMAD_ADDR_metrics}"
    values = {**environment, "SECRETBINDING_METRICS_ADDRESS": listen, "SECRETBINDING_LOG_FORMAT": "json"}
    vault = [("name", '"vault"'), ("aud", f"[{quoted(AUDIENCE)}]"), ("env", "false"), ("file", "true"), ("ttl", '"1h"')]
    why = "# The controller logs in to Vault with this identity, in secrets/nomad_vault.jwt.\n"
    inner = [block("config", config), why + block("identity", vault)]
    if nomad_acl:
        values["NOMAD_TOKEN_FILE"] = "${NOMAD_SECRETS_DIR}/nomad_token"
        own = block("identity", [("env", "false"), ("file", "true")])
        inner.append(f"# The token for Nomad, in secrets/nomad_token.\n{own}")
    inner.append(block("env", [(name, quoted(value)) for name, value in values.items()]))
    inner.append(block("resources", [("cpu", "200"), ("memory", "256")]))
    return block(
        'task "controller"', [("driver", quoted(program.driver.value)), ("kill_timeout", f'"{SHORTEST_STOP}"')], *inner
    )
