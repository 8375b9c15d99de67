"""The environment of a task, and `${...}` in its configuration."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secretbinding.devstack.simulator.changes import combined_meta
from secretbinding.devstack.simulator.ports import HOST_IP, ports_of
from secretbinding.devstack.simulator.reconcile import index_of
from secretbinding.devstack.simulator.state import DATACENTER, REGION

_REFERENCE = re.compile(r"\$\{([^}]+)\}")
_NOT_A_NAME = re.compile(r"(?<!\$)\$\{[^}]*:[^}]*\}")
_FROM_HOST = ("PATH", "HOME", "USER", "LANG", "TMPDIR")


class ConfigError(ValueError):
    """A task's configuration cannot be evaluated."""


def base_env(row: Mapping[str, Any], task: Mapping[str, Any], group: Mapping[str, Any], root: Path) -> dict[str, str]:
    """What Nomad sets before the task's own `env`: host basics, `NOMAD_*`, meta in both spellings."""
    directory = root / task["Name"]
    env = {name: os.environ[name] for name in _FROM_HOST if name in os.environ}
    env |= {
        "NOMAD_ALLOC_DIR": str(root / "alloc"),
        "NOMAD_ALLOC_ID": row["ID"],
        "NOMAD_ALLOC_INDEX": str(index_of(row["Name"])),
        "NOMAD_ALLOC_NAME": row["Name"],
        "NOMAD_CPU_LIMIT": str(task["Resources"]["CPU"]),
        "NOMAD_DC": DATACENTER,
        "NOMAD_GROUP_NAME": row["TaskGroup"],
        "NOMAD_JOB_ID": row["JobID"],
        "NOMAD_JOB_NAME": row["Job"]["Name"],
        "NOMAD_MEMORY_LIMIT": str(task["Resources"]["MemoryMB"]),
        "NOMAD_NAMESPACE": row["Namespace"],
        "NOMAD_REGION": REGION,
        "NOMAD_SECRETS_DIR": str(directory / "secrets"),
        "NOMAD_SHORT_ALLOC_ID": row["ID"][:8],
        "NOMAD_TASK_DIR": str(directory / "local"),
        "NOMAD_TASK_NAME": task["Name"],
    }
    for label, port in ports_of(row).items():
        clean = re.sub(r"[^A-Za-z0-9_]", "_", label)
        env |= {
            f"NOMAD_ADDR_{clean}": f"{HOST_IP}:{port}",
            f"NOMAD_HOST_PORT_{clean}": str(port),
            f"NOMAD_IP_{clean}": HOST_IP,
            f"NOMAD_PORT_{clean}": str(port),
        }
    if row["Job"]["ParentID"]:
        env["NOMAD_JOB_PARENT_ID"] = row["Job"]["ParentID"]
    for key, value in combined_meta(row["Job"], group, task).items():
        clean = re.sub(r"[^A-Za-z0-9_]", "_", key)
        env[f"NOMAD_META_{clean}"] = env[f"NOMAD_META_{clean.upper()}"] = value
    return env


def interpolate(text: str, env: Mapping[str, str], node_name: str) -> str:
    """Replace `${NAME}`, `${env["NAME"]}` and a few `${node.*}`, `${attr.*}`; others stay as they are."""
    node = {
        "node.datacenter": DATACENTER,
        "node.region": REGION,
        "node.unique.name": node_name,
        "attr.kernel.name": "linux",
    }

    def value(match: re.Match[str]) -> str:
        name = match[1].strip()
        if name.startswith("env["):
            return env.get(name[4:-1].strip("\"'"), "")
        return env.get(name, node.get(name, match[0]))

    return _REFERENCE.sub(value, text)


def interpolated(value: Any, env: Mapping[str, str], node_name: str) -> Any:
    """The same for all texts inside lists and maps.

    Nomad evaluates a task's `config` as an HCL template, so `${X:-y}` of a shell is an error there: `ConfigError`.
    """
    if isinstance(value, str):
        if _NOT_A_NAME.search(value):
            raise ConfigError(
                "failed to parse config: Extra characters after interpolation expression: Template interpolation "
                "doesn't expect a colon at this location."
            )
        return interpolate(value, env, node_name)
    if isinstance(value, list):
        return [interpolated(one, env, node_name) for one in value]
    if isinstance(value, dict):
        return {key: interpolated(one, env, node_name) for key, one in value.items()}
    return value
