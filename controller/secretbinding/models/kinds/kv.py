"""The `kv` entry: a secret of a KV engine."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from secretbinding.models.base import Fault, Rule
from secretbinding.models.kinds.base import KindSpec, When
from secretbinding.models.text import compile_re2, quoted
from secretbinding.models.types import OWN_API_IN_PATH, OWN_API_SAYS, Mount, VaultPath


class KvEngine(StrEnum):
    """The version of a KV secrets engine."""

    V1 = "v1"
    V2 = "v2"


def _no_version_of_v1(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if obj.get("engine") == KvEngine.V1 and obj.get("version") is not None:
        yield Fault(("version",), "a KV v1 secret has no versions")


def _own_api_of_v1(obj: Mapping[str, Any]) -> Iterator[Fault]:
    path = obj.get("path")
    if obj.get("engine") == KvEngine.V1 and isinstance(path, str) and compile_re2(OWN_API_IN_PATH).search(path):
        yield Fault(("path",), f"path {quoted(path)} {OWN_API_SAYS}")


class Kv(KindSpec):
    """A secret of a KV engine."""

    token_lasts = When("has({0}.engine) && {0}.engine == 'v1'", lambda spec: spec.get("engine") == KvEngine.V1)

    mount: Mount
    """Mount of the KV engine, without slashes at the ends."""
    path: VaultPath
    """Path of the secret below the mount, without `data/`."""
    engine: KvEngine | None = None
    """Version of the engine; found out when left out."""
    version: Annotated[int, Field(ge=1, le=2147483647)] | None = None
    """Freeze the secret at this version."""

    rules = (
        Rule(
            message="a KV v1 secret has no versions",
            remedy="leave out version, or set engine to v2",
            cel="!(has(self.engine) && self.engine == 'v1' && has(self.version))",
            field=".version",
            check=_no_version_of_v1,
        ),
        # Between mount and path of a v1 secret there is no `data/`, and a stated engine is not looked up.
        Rule(
            message=f"path {OWN_API_SAYS}",
            remedy="leave out engine, so that the mount is looked up",
            cel=f"!(has(self.engine) && self.engine == 'v1' && self.path.matches('{OWN_API_IN_PATH}'))",
            field=".path",
            check=_own_api_of_v1,
        ),
    )

    def identity(self) -> list[Any]:
        return [self.mount, self.path]
