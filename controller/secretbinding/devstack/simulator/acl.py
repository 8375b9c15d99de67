"""Tokens and policies: the part of Nomad's ACL system that a controller's rights are made of."""

import fnmatch
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from secretbinding.devstack.simulator.hcl import Body, HclError, parse_hcl
from secretbinding.devstack.simulator.state import Json, new_id, now_nanos, timestamp

_READ = frozenset(("list-jobs", "parse-job", "read-job", "read-job-scaling"))
_WRITE = _READ | {"submit-job", "register-job", "dispatch-job", "read-logs", "read-fs", "alloc-lifecycle", "scale-job"}

_KINDS = ("namespace", "agent", "node", "operator", "plugin", "quota", "sentinel", "host_volume", "node_pool")
_JOB = ("Namespace", "JobID", "Group", "Task")


class PolicyError(ValueError):
    """The rules of a policy cannot be read."""


class Rights:
    """What a token may do."""

    def __init__(self, *, management: bool = False, policies: Iterable[Body] = ()) -> None:
        self.management = management
        self._namespaces: dict[str, set[str]] = {}
        self._variables: dict[str, dict[str, set[str]]] = {}
        self._coarse: dict[str, str] = {}
        for policy in policies:
            self._read(policy)

    def _read(self, policy: Body) -> None:
        for block in policy.blocks:
            if block.kind == "namespace":
                name = block.labels[0] if block.labels else "default"
                granted = self._namespaces.setdefault(name, set())
                granted |= {"read": _READ, "write": _WRITE}.get(str(block.body.attributes.get("policy")), frozenset())
                granted |= set(block.body.attributes.get("capabilities") or ())
                if block.body.attributes.get("policy") == "deny":
                    granted.add("deny")
                paths = self._variables.setdefault(name, {})
                for variables in block.body.blocks:
                    for path in variables.body.blocks if variables.kind == "variables" else ():
                        capabilities = set(path.body.attributes.get("capabilities") or ())
                        if "read" in capabilities:
                            capabilities.add("list")
                        paths.setdefault(path.labels[0], set()).update(capabilities)
            else:
                self._coarse[block.kind] = str(block.body.attributes.get("policy") or "")

    def namespace(self, name: str, capability: str) -> bool:
        """Whether it has the capability in the namespace; `*`: in any."""
        if self.management:
            return True
        if name == "*":
            return any(self.namespace(one, capability) for one in self._namespaces)
        granted = _closest(self._namespaces, name) or set()
        return "deny" not in granted and capability in granted

    def variable(self, namespace: str, path: str, capability: str) -> bool:
        if self.management:
            return True
        granted = _closest(_closest(self._variables, namespace) or {}, path) or set()
        return "deny" not in granted and capability in granted

    def coarse(self, kind: str, *, write: bool = False) -> bool:
        """Rights on `node`, `agent`, `operator`, ..."""
        return self.management or self._coarse.get(kind) in (("write",) if write else ("read", "write"))

    def sees_namespace(self, name: str) -> bool:
        """Whether it has any capability there."""
        granted = _closest(self._namespaces, name) or set()
        return self.management or bool(granted and "deny" not in granted)

    def any_variable(self, namespace: str) -> bool:
        """Whether it may do anything with any variable there."""
        return self.management or any(_closest(self._variables, namespace) or ())


def _closest(rules: Mapping[str, Any], name: str) -> Any:
    """The rule of exactly that name, else of the pattern with the fewest characters left to its wildcards."""
    if name in rules:
        return rules[name]
    found = [one for one in rules if "*" in one and fnmatch.fnmatchcase(name, one.replace("[", "[[]"))]
    found.sort(key=lambda one: len(one.replace("*", "")), reverse=True)
    return rules[found[0]] if found else None


class Acl:
    """All tokens and policies, as rows in the shape of Nomad's API. Without ACLs every request has all rights."""

    def __init__(self, *, enabled: bool, management_token: str = "") -> None:
        self.enabled = enabled
        self.management_token = management_token or new_id()
        self._lock = threading.Lock()
        self._bodies: dict[str, Body] = {}
        self._policies: dict[str, Json] = {}
        self._tokens: dict[str, Json] = {}
        bootstrap = {"Name": "Bootstrap Token", "Type": "management", "Global": True}
        self._keep(_token_row(bootstrap, self.management_token, 1))

    def rights(self, token: str) -> Rights | None:
        """The token's rights; None for a token that does not exist. An empty token is the anonymous one."""
        if not self.enabled:
            return Rights(management=True)
        with self._lock:
            row = self._tokens.get(token)
            if row is None and token:
                return None
            if row is not None and row["Type"] == "management":
                return Rights(management=True)
            names = row["Policies"] if row is not None else ["anonymous"]
            return Rights(policies=[self._bodies[name] for name in names if name in self._bodies])

    def policies_of(self, token: str) -> list[str]:
        """Names of the policies of a token."""
        with self._lock:
            row = self._tokens.get(token)
            return list((row or {}).get("Policies") or [])

    def put_policy(self, sent: Mapping[str, Any], index: int) -> None:
        """Store a policy written in HCL. Raises `PolicyError`."""
        name, rules = str(sent["Name"]), str(sent.get("Rules") or "")
        try:
            body = parse_hcl(rules)
        except HclError as error:
            raise PolicyError(f"Failed to parse ACL Policy: {error}") from None
        if any(block.kind not in _KINDS for block in body.blocks):
            raise PolicyError(f"Invalid policy: {rules}")
        job = sent.get("JobACL")
        with self._lock:
            before = self._policies.get(name)
            self._bodies[name] = body
            self._policies[name] = {
                "CreateIndex": before["CreateIndex"] if before is not None else index,
                "Description": str(sent.get("Description") or ""),
                "Hash": new_id(),
                "JobACL": None if job is None else {part: str(job.get(part) or "") for part in _JOB},
                "ModifyIndex": index,
                "Name": name,
                "Rules": rules,
                "RulesJSON": _rules_json(body, rules),
            }

    def delete_policy(self, name: str) -> None:
        """One that is not there is success."""
        with self._lock:
            self._policies.pop(name, None)
            self._bodies.pop(name, None)

    def policy_row(self, name: str) -> Json | None:
        with self._lock:
            return self._policies.get(name)

    def policy_rows(self) -> list[Json]:
        with self._lock:
            return [self._policies[name] for name in sorted(self._policies)]

    def new_token(self, sent: Mapping[str, Any], index: int) -> Json:
        """A token's row, its secret in it."""
        row = _token_row(sent, new_id(), index)
        self._keep(row)
        return row

    def token_row(self, accessor: str) -> Json | None:
        return next((row for row in self.token_rows() if row["AccessorID"] == accessor), None)

    def token_rows(self) -> list[Json]:
        with self._lock:
            return list(self._tokens.values())

    def own_row(self, token: str) -> Json:
        """The row of a token that exists, or of the anonymous one; without ACLs one that says so, whatever is sent."""
        if not self.enabled:
            return {**_token_row({"Name": "ACLs disabled token"}, "", 0), "AccessorID": "acls-disabled"}
        with self._lock:
            found = self._tokens.get(token)
        anonymous = {"Name": "Anonymous Token", "Type": "client", "Policies": ["anonymous"]}
        return found or {**_token_row(anonymous, "", 0), "AccessorID": "anonymous"}

    def accessor(self, token: str) -> str:
        """The accessor of an ACL token, which Nomad writes into the jobs that are registered with it; "" for workload
        identities and without ACLs."""
        with self._lock:
            known = not token or token in self._tokens
        return str(self.own_row(token)["AccessorID"]) if self.enabled and known else ""

    def delete_token(self, accessor: str) -> bool:
        """Whether there was one."""
        row = self.token_row(accessor)
        with self._lock:
            return row is not None and self._tokens.pop(str(row["SecretID"]), None) is not None

    def _keep(self, row: Json) -> None:
        with self._lock:
            self._tokens[row["SecretID"]] = row


def _token_row(sent: Mapping[str, Any], secret: str, index: int) -> Json:
    kind = sent.get("Type") or "client"
    return {
        "ExpirationTTL": "",
        "AccessorID": new_id(),
        "SecretID": secret,
        "Name": sent.get("Name") or "",
        "Type": kind,
        "Policies": None if kind == "management" else list(sent.get("Policies") or []),
        "Roles": None,
        "Global": bool(sent.get("Global")),
        "Hash": new_id(),
        "CreateTime": timestamp(now_nanos()),
        "ExpirationTime": None,
        "CreateIndex": index,
        "ModifyIndex": index,
    }


def _rules_json(body: Body, rules: str) -> Json:
    """A policy as Nomad reads it, short forms of namespaces spelled out."""
    made: Json = dict.fromkeys(("ExtraKeysHCL", "HostVolumes", "Namespaces", "NodePools"))
    made |= dict.fromkeys(("Agent", "Node", "Operator", "Plugin", "Quota", "Sentinel"))
    made["Raw"] = rules
    for block in body.blocks:
        if block.kind != "namespace":
            made[block.kind.title()] = {"Policy": str(block.body.attributes.get("policy") or "")}
            continue
        policy = str(block.body.attributes.get("policy") or "")
        capabilities = list(block.body.attributes.get("capabilities") or [])
        capabilities += sorted({"read": _READ, "write": _WRITE}.get(policy, frozenset()))
        paths = [
            {"PathSpec": path.labels[0], "Capabilities": list(path.body.attributes.get("capabilities") or [])}
            for variables in block.body.blocks
            for path in variables.body.blocks
        ]
        row = {"Name": block.labels[0], "Policy": policy, "Capabilities": capabilities or None}
        made["Namespaces"] = [*(made["Namespaces"] or []), {**row, "Variables": {"Paths": paths} if paths else None}]
    return made
