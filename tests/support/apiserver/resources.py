"""What the server serves: the built-in resources, and those that a CustomResourceDefinition adds."""

import re
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of one version. `storage` is shared by the versions and groups that show the same objects."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    has_status: bool = False
    schema: Json | None = field(default=None, compare=False)
    selectable: tuple[str, ...] = ()
    columns: tuple[Json, ...] = field(default=(), compare=False)
    storage: tuple[str, str] = ("", "")

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`secretbindings.nomad-vault.io`, as messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def key(self) -> tuple[str, str]:
        return self.storage if self.storage != ("", "") else (self.group, self.plural)


EVENTS = ("", "events")
NAMESPACES = ("", "namespaces")
CRDS = ("apiextensions.k8s.io", "customresourcedefinitions")

BUILT_IN = (
    Resource("", "v1", "namespaces", "Namespace", namespaced=False, short_names=("ns",), has_status=True),
    Resource("", "v1", "configmaps", "ConfigMap", short_names=("cm",)),
    Resource("", "v1", "secrets", "Secret"),
    Resource("", "v1", "serviceaccounts", "ServiceAccount", short_names=("sa",)),
    Resource("", "v1", "events", "Event", short_names=("ev",), storage=EVENTS),
    Resource("events.k8s.io", "v1", "events", "Event", short_names=("ev",), storage=EVENTS),
    Resource("coordination.k8s.io", "v1", "leases", "Lease"),
    Resource(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        namespaced=False,
        short_names=("crd", "crds"),
        has_status=True,
    ),
    Resource(
        "authorization.k8s.io",
        "v1",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        namespaced=False,
        verbs=("create",),
    ),
)


def of_definition(definition: Json) -> list[Resource]:
    """The resources that a CustomResourceDefinition serves, one for each served version."""
    spec = definition["spec"]
    names = spec["names"]
    return [
        Resource(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            namespaced=spec["scope"] == "Namespaced",
            short_names=tuple(names.get("shortNames", ())),
            categories=tuple(names.get("categories", ())),
            has_status="status" in version.get("subresources", {}),
            schema=version.get("schema", {}).get("openAPIV3Schema", {}),
            selectable=tuple(entry["jsonPath"] for entry in version.get("selectableFields", ())),
            columns=tuple(version.get("additionalPrinterColumns", ())),
        )
        for version in spec["versions"]
        if version.get("served", True)
    ]


_FILTER = re.compile(r'^\[\?\(@\.(\w+)\s*==\s*["\'](.*)["\']\)\]$')


def json_path(value: Any, path: str) -> Any:
    """First value at a JSON path such as `.spec.job` or `.status.conditions[?(@.type=="Ready")].status`, or None."""
    for part in re.findall(r"\[\?\(.*?\)\]|\[\d+\]|[^.\[\]]+", path):
        found = _FILTER.match(part)
        if found:
            field_name, wanted = found.groups()
            candidates = value if isinstance(value, list) else []
            value = next((item for item in candidates if item.get(field_name) == wanted), None)
        elif part.startswith("["):
            index = int(part[1:-1])
            value = value[index] if isinstance(value, list) and index < len(value) else None
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value
