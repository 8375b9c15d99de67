"""Builders of jobs, and a small client that waits for what Nomad does."""

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any

from secretbinding.devstack.api import Answer, quoted
from tests.support.servers import Stack

Json = dict[str, Any]

MS = 10**6
SECOND = 10**9
WAIT_SECONDS = 25.0

# What the server adds to a group whose tasks use Vault with an identity.
VAULT_CONSTRAINT = {"LTarget": "${attr.vault.version}", "Operand": "semver", "RTarget": ">= 0.6.1"}
IDENTITY_CONSTRAINT = {"LTarget": "${attr.nomad.version}", "Operand": "semver", "RTarget": ">= 1.7.0-a"}


def task(script: str = "exec sleep 3000", **fields: Any) -> Json:
    """A raw_exec task `t` that runs a shell script."""
    return {
        "Name": "t",
        "Driver": "raw_exec",
        "Config": {"command": "/bin/sh", "args": ["-c", script]},
        "Resources": {"CPU": 10, "MemoryMB": 10},
        "KillTimeout": 2 * SECOND,
        **fields,
    }


_SAID = "--said--\n"


def say(script: str) -> str:
    """A script that runs, marks the end of its output for `Nomad.said`, and goes on sleeping."""
    return f"{script}; echo {_SAID.strip()}; exec sleep 3000"


def vault_task(role: str, templates: list[Json], script: str = "exec sleep 3000", **fields: Any) -> Json:
    """A task that logs in to Vault with an identity of its own and renders templates."""
    identity = {"Name": "vault_default", "Audience": ["vault.io"], "TTL": 3600 * SECOND}
    return task(script, Vault={"Role": role}, Identities=[identity], Templates=templates, **fields)


def env_template(text: str, **fields: Any) -> Json:
    """A template that is read into the environment, once."""
    return {"EmbeddedTmpl": text, "DestPath": "secrets/app.env", "Envvars": True, "Once": True, **fields}


def file_template(text: str, **fields: Any) -> Json:
    """A template that the file API can show."""
    return {"EmbeddedTmpl": text, "DestPath": "local/out", "Once": True, **fields}


def job(job_id: str, *tasks: Json, kind: str = "service", count: int = 1, **group_fields: Any) -> Json:
    """A job with one group `g` that is quick to judge: healthy after 200 ms, hopeless after 4 s, no second chances."""
    group: Json = {
        "Name": "g",
        "Count": count,
        "Tasks": list(tasks) or [task()],
        "RestartPolicy": {"Attempts": 0, "Mode": "fail"},
    }
    if kind in ("service", "system"):
        group["Update"] = {
            "HealthCheck": "task_states",
            "MinHealthyTime": 200 * MS,
            "HealthyDeadline": 4 * SECOND,
            "ProgressDeadline": 12 * SECOND,
        }
    if kind in ("service", "batch"):
        group["ReschedulePolicy"] = {"Attempts": 0, "Unlimited": False}
    group["Update"] = {**group.get("Update", {}), **group_fields.pop("Update", {})} or None
    group.update(group_fields)
    return {"ID": job_id, "Type": kind, "Datacenters": ["*"], "TaskGroups": [group]}


def changed(job_sent: Mapping[str, Any], change: Callable[[Json, Json], None]) -> Json:
    """A copy of a job after `change(group, task)`."""
    result = copy.deepcopy(dict(job_sent))
    group = result["TaskGroups"][0]
    change(group, group["Tasks"][0])
    return result


class Nomad:
    """Requests about jobs; every wait has a deadline and says what it waited for."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.api = stack.api

    def register(self, sent: Mapping[str, Any], **options: Any) -> Json:
        """Register and return the answer. Fails on any status but 200."""
        answer: Json = self.try_register(sent, **options).expect(200).json()
        return answer

    def try_register(self, sent: Mapping[str, Any], **options: Any) -> Answer:
        return self.api.put("/v1/jobs", {"Job": sent, **options})

    def job(self, job_id: str) -> Json:
        found: Json = self.api.get(f"/v1/job/{quoted(job_id)}").expect(200).json()
        return found

    def plan(self, sent: Mapping[str, Any]) -> Json:
        planned: Json = self.api.put(f"/v1/job/{quoted(sent['ID'])}/plan", {"Job": sent, "Diff": True}).expect().json()
        return planned

    def versions(self, job_id: str) -> list[Json]:
        found: list[Json] = self.api.get(f"/v1/job/{quoted(job_id)}/versions").expect(200).json()["Versions"]
        return found

    def deployments(self, job_id: str) -> list[Json]:
        """Oldest first."""
        found: list[Json] = self.api.get(f"/v1/job/{quoted(job_id)}/deployments").expect(200).json()
        return sorted(found, key=lambda one: int(one["CreateIndex"]))

    def allocations(self, job_id: str) -> list[Json]:
        """Oldest first."""
        found: list[Json] = self.api.get(f"/v1/job/{quoted(job_id)}/allocations", all="true").expect(200).json()
        return sorted(found, key=lambda one: (int(one["CreateIndex"]), str(one["Name"])))

    def running(self, job_id: str) -> list[Json]:
        """Allocations that run and are meant to, by name."""
        found = [
            one
            for one in self.allocations(job_id)
            if one["ClientStatus"] == "running" and one["DesiredStatus"] == "run"
        ]
        return sorted(found, key=lambda one: str(one["Name"]))

    def wait(self, what: str, look: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
        """Poll until `look` gives something true, and return it."""
        deadline = time.monotonic() + seconds
        while True:
            found = look()
            if found:
                return found
            assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
            time.sleep(0.05)

    def wait_deployed(self, job_id: str, version: int = 0, status: str = "successful") -> Json:
        """Wait until the deployment of that job version has that status."""

        def look() -> Json | None:
            for one in self.deployments(job_id):
                if one["JobVersion"] == version and one["Status"] == status:
                    return one
            return None

        found: Json = self.wait(f"deployment of {job_id} version {version} to be {status}", look)
        return found

    def wait_allocation(self, job_id: str, status: str, place: int = -1) -> Json:
        """Wait until the newest allocation (or the one at `place`) has that client status."""

        def look() -> Json | None:
            rows = self.allocations(job_id)
            return rows[place] if rows and rows[place]["ClientStatus"] == status else None

        found: Json = self.wait(f"an allocation of {job_id} to be {status}", look)
        return found

    def wait_event(self, job_id: str, text: str) -> Json:
        """Wait for a task event whose message holds the text; returns the allocation."""

        def look() -> Json | None:
            for one in self.allocations(job_id):
                if any(text in message for _, message in events(one)):
                    return one
            return None

        found: Json = self.wait(f"an event with {text!r} of {job_id}", look)
        return found

    def logs(self, allocation: Mapping[str, Any], kind: str = "stdout", task_name: str = "t") -> str:
        path = f"/v1/client/fs/logs/{allocation['ID']}"
        return self.api.get(path, task=task_name, type=kind, plain="true").expect(200).text

    def said(self, job_id: str) -> str:
        """Wait for all that the script of `say` printed in the job's newest allocation."""

        def look() -> str | None:
            rows = self.allocations(job_id)
            if not rows or not (rows[-1]["TaskStates"] or {}).get("t", {}).get("StartedAt"):
                return None
            text = self.logs(rows[-1])
            return text if text.endswith(_SAID) else None

        text: str = self.wait(f"the output of {job_id}", look)
        return text.removesuffix(_SAID)

    def file(self, allocation: Mapping[str, Any], path: str) -> str:
        return self.api.get(f"/v1/client/fs/cat/{allocation['ID']}", path=path).expect(200).text

    def purge(self, job_id: str) -> None:
        self.api.delete(f"/v1/job/{quoted(job_id)}", purge="true").expect(200)

    def grant(self, role: str, *paths: str, **role_fields: Any) -> None:
        """A Vault policy and role of that name: read on these paths of `secret/data/`."""
        text = "\n".join(f'path "secret/data/{path}" {{ capabilities = ["read"] }}' for path in paths)
        self.stack.openbao.put_policy(role, text)
        self.stack.openbao.put_jwt_role(role, {"token_policies": [role], "token_period": 1800, **role_fields})


def events(allocation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(type, message) of all task events, oldest first."""
    states = (allocation["TaskStates"] or {}).values()
    return [(one["Type"], one["DisplayMessage"]) for state in states for one in state["Events"]]
