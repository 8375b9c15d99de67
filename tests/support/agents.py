"""Jobs and bindings whose secrets a Vault Agent sidecar renders."""

from collections.abc import Mapping, Sequence
from typing import Any

from secretbinding.agent_settings import AgentSettings
from secretbinding.devstack.openbao import find_openbao
from secretbinding.models.agent import AGENT_TASK
from secretbinding.models.agent import AgentDriver as Driver
from tests.support.servers import Stack
from tests.support.world import World, a_job

FILE = "../alloc/secrets/app"


def agent_settings(**changes: Any) -> AgentSettings:
    """Sidecars that run the program that OpenBao's server is, without a container."""
    return AgentSettings(driver=Driver.RAW_EXEC, command=find_openbao() or "bao", **changes)


class AgentWorld(World):
    """A world whose sidecars run without containers."""

    def __init__(self, stack: Stack, agents: Mapping[str, Any] | None = None, **own: Any) -> None:
        super().__init__(stack, **own)
        self.settings.agent = agent_settings(**(agents or {}))

    def agent_of(self, allocation: Mapping[str, Any]) -> dict[str, Any]:
        """The state of an allocation's agent."""
        found: dict[str, Any] = self.api.get(f"/v1/allocation/{allocation['ID']}").expect().json()
        return dict((found["TaskStates"] or {}).get(AGENT_TASK) or {})

    def agent_log(self, allocation: Mapping[str, Any]) -> str:
        """What an allocation's agent has logged."""
        path = f"/v1/client/fs/logs/{allocation['ID']}"
        return self.api.get(path, task=AGENT_TASK, type="stderr", plain="true").text


def reads_file(name: str, *, path: str = FILE, count: int = 1, groups: Sequence[str] = ("app",), **changes: Any) -> Any:
    """A job whose tasks report, again and again, what is in the file, and fail when it says `broken`. Where it is not
    there at their start they report nothing, ever."""
    script = (
        f"[ -e {path} ] || exec sleep 3600; "
        f"while :; do cp {path} local/new; mv local/new local/seen; "
        "if grep -q broken local/seen; then exit 1; fi; sleep 0.2; done"
    )
    job = a_job(name, count=count, groups=groups, **changes)
    for group in job["TaskGroups"]:
        group["Tasks"][0]["Config"]["args"] = ["-c", script]
    return job


def by_agent(name: str, job: str, path: str, **spec: Any) -> dict[str, Any]:
    """A binding of one KV secret that an agent writes to the file as `user password`."""
    workload = {"job": job, **spec.pop("workload", {})}
    text = "{{ .Data.data.username }} {{ .Data.data.password }}\n"
    files = [{"destination": FILE, "template": text}]
    entry = {"name": "app", "kv": {"mount": "secret", "path": path}, "files": files, **spec.pop("entry", {})}
    return {
        "apiVersion": "nomad-vault.io/v1alpha1",
        "kind": "SecretBinding",
        "metadata": {"name": name},
        "spec": {"workload": workload, "delivery": "Agent", "secrets": [entry], **spec},
    }
