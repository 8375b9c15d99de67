"""Jobs and bindings whose secrets a Vault Agent sidecar renders."""

from collections.abc import Mapping, Sequence
from typing import Any

from secretbinding.agent_settings import AgentSettings
from secretbinding.devstack.api import Api
from secretbinding.devstack.openbao import find_openbao
from secretbinding.models.agent import AGENT_TASK
from secretbinding.models.agent import AgentDriver as Driver
from tests.support.rights import shipped
from tests.support.servers import Stack
from tests.support.world import NAMESPACE, World, a_job

FILE = "../alloc/secrets/app"
APPROLE_MOUNT = "approle-nomad"


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


class AppRoleWorld(AgentWorld):
    """A world with an AppRole mount, and a controller with the rights for it that `deploy/` gives."""

    def __init__(self, stack: Stack) -> None:
        stack.openbao.api.put(f"/v1/sys/auth/{APPROLE_MOUNT}", {"type": "approle"}).expect(200, 204, 400)
        super().__init__(
            stack, vault_rights=shipped("vault-policy-approle.hcl"), nomad_rights=shipped("nomad-policy-approle.hcl")
        )

    def items(self, job: str) -> dict[str, str]:
        """The items of the variable that brings secret-ids to the agents of group `app`."""
        answer = self.api.get(f"/v1/var/nomad/jobs/{job}/app/{AGENT_TASK}", namespace=NAMESPACE)
        return dict(answer.json()["Items"]) if answer.status == 200 else {}

    def sealed(self, job: str, indexes: int) -> bool:
        """Whether there is an unopened token for each of so many indexes, and for no other."""
        items = {name: value for name, value in self.items(job).items() if name.startswith("wrapped_")}
        anybody = Api(self.stack.openbao.address, {})
        found = [anybody.put("/v1/sys/wrapping/lookup", {"token": token}).status == 200 for token in items.values()]
        return set(items) == {f"wrapped_{index}" for index in range(indexes)} and all(found)

    def steal(self, job: str, index: int) -> str:
        """Open the wrapping token of an index; gives the secret-id."""
        token = self.items(job)[f"wrapped_{index}"]
        opened = Api(self.stack.openbao.address, {"X-Vault-Token": token}).put("/v1/sys/wrapping/unwrap", {})
        return str(opened.expect(200).json()["data"]["secret_id"])

    def replace_token(self, job: str, index: int, value: str) -> None:
        """Put something else in place of the wrapping token of an index."""
        path = f"nomad/jobs/{job}/app/{AGENT_TASK}"
        items = {**self.items(job), f"wrapped_{index}": value}
        body = {"Namespace": NAMESPACE, "Path": path, "Items": items}
        self.api.put(f"/v1/var/{path}", body).expect(200)

    def app_roles(self, having: str) -> list[str]:
        answer = self.vault.request("LIST", f"/v1/auth/{APPROLE_MOUNT}/role")
        return [name for name in answer.json()["data"]["keys"] if having in name] if answer.status == 200 else []

    def token_period(self, job: str) -> int:
        """How long the tokens of the job's one AppRole live from each renewal, in seconds; 0 while there is none."""
        found = [self.vault.get(f"/v1/auth/{APPROLE_MOUNT}/role/{name}").json() for name in self.app_roles(job)]
        return int(found[0]["data"]["token_period"]) if found else 0

    def secret_ids(self, job: str) -> int:
        """How many secret-ids of the job's AppRole are good."""
        (role,) = self.app_roles(job)
        answer = self.vault.request("LIST", f"/v1/auth/{APPROLE_MOUNT}/role/{role}/secret-id")
        return len(answer.json()["data"]["keys"]) if answer.status == 200 else 0

    def log_in(self, job: str, secret_id: str) -> int:
        (role,) = self.app_roles(job)
        return self.vault.put(f"/v1/auth/{APPROLE_MOUNT}/login", {"role_id": role, "secret_id": secret_id}).status


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


def by_app_role(name: str, **spec: Any) -> dict[str, Any]:
    """A binding like `by_agent`, job and secret of the same name, whose agents log in by AppRole."""
    return by_agent(name, name, name, auth={"method": "AppRole"}, **spec)
