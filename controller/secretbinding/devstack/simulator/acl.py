"""Tokens and policies: the part of Nomad's ACL system that a controller's rights are made of."""

import fnmatch
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from secretbinding.devstack.simulator.hcl import Body, HclError, parse_hcl
from secretbinding.devstack.simulator.state import new_id

_READ = frozenset(("list-jobs", "parse-job", "read-job", "read-job-scaling"))
_WRITE = _READ | {"submit-job", "register-job", "dispatch-job", "read-logs", "read-fs", "alloc-lifecycle", "scale-job"}


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
    """All tokens and policies. Without ACLs every request has all rights."""

    def __init__(self, *, enabled: bool, management_token: str = "") -> None:
        self.enabled = enabled
        self.management_token = management_token or new_id()
        self._lock = threading.Lock()
        self._policies: dict[str, Body] = {}
        self._tokens: dict[str, list[str] | None] = {self.management_token: None}

    def rights(self, token: str) -> Rights | None:
        """The token's rights; None for a token that does not exist. An empty token is the anonymous one."""
        if not self.enabled:
            return Rights(management=True)
        with self._lock:
            if token == "":
                names: list[str] | None = ["anonymous"]
            elif token in self._tokens:
                names = self._tokens[token]
            else:
                return None
            if names is None:
                return Rights(management=True)
            return Rights(policies=[self._policies[name] for name in names if name in self._policies])

    def put_policy(self, name: str, rules: str) -> None:
        """Store a policy written in HCL. Raises `PolicyError`."""
        try:
            body = parse_hcl(rules)
        except HclError as error:
            raise PolicyError(str(error)) from None
        with self._lock:
            self._policies[name] = body

    def new_token(self, policies: list[str] | None) -> str:
        """A token's secret; None as policies makes a management token."""
        secret = new_id()
        with self._lock:
            self._tokens[secret] = policies
        return secret
