"""What Nomad ACL policies allow, as Nomad itself reads them (`RulesJSON`). Pure."""

import fnmatch
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from secretbinding.ops.ports import AclPolicy


class Granted:
    """The union of some policies. Nomad joins rules of the same name, takes the exact rule or the closest pattern, and
    lets a `deny` win (`acl/acl.go`)."""

    def __init__(self, policies: Iterable[AclPolicy]) -> None:
        self._namespaces: dict[str, set[str]] = {}
        self._variables: dict[str, dict[str, set[str]]] = {}
        for policy in policies:
            for rule in policy.parsed.get("Namespaces") or ():
                self._read(rule)

    def _read(self, rule: Mapping[str, Any]) -> None:
        name = str(rule.get("Name", ""))
        granted = self._namespaces.setdefault(name, set())
        granted.update(map(str, rule.get("Capabilities") or ()))
        short = str(rule.get("Policy") or "")
        if short == "deny":
            granted.add("deny")
        paths = self._variables.setdefault(name, {})
        for path in (rule.get("Variables") or {}).get("Paths") or ():
            capabilities = set(map(str, path.get("Capabilities") or ()))
            if "read" in capabilities:
                capabilities.add("list")
            paths.setdefault(str(path.get("PathSpec", "")), set()).update(capabilities)

    @property
    def namespaces(self) -> list[str]:
        """The namespaces and patterns that rules are for."""
        return sorted(self._namespaces)

    def in_namespace(self, namespace: str) -> frozenset[str]:
        """The capabilities in a namespace; `*` asks what holds in all of them."""
        granted = _closest(self._namespaces, namespace) or set()
        return frozenset() if "deny" in granted else frozenset(granted)

    def everywhere(self, capabilities: Collection[str]) -> bool:
        """Whether all of the capabilities hold in every namespace."""
        rules = {"*": self._namespaces.get("*", set()), **self._namespaces}
        return all("deny" not in granted and set(capabilities) <= granted for granted in rules.values())

    def on_variable(self, namespace: str, path: str) -> frozenset[str]:
        """The capabilities on a variable."""
        granted = _closest(_closest(self._variables, namespace) or {}, path) or set()
        return frozenset() if "deny" in granted else frozenset(granted)


def _closest(rules: Mapping[str, Any], name: str) -> Any:
    """The rule of exactly that name, else of the pattern with the fewest characters left to its wildcards."""
    if name in rules:
        return rules[name]
    found = [one for one in rules if "*" in one and fnmatch.fnmatchcase(name, one.replace("[", "[[]"))]
    found.sort(key=lambda one: len(one.replace("*", "")), reverse=True)
    return rules[found[0]] if found else None
