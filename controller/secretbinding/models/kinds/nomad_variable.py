"""The `nomadVariable` entry: values that are kept in a Nomad variable."""

from typing import Any

from secretbinding.models.kinds.base import NEVER, KindSpec
from secretbinding.models.kinds.types import VariablePath
from secretbinding.models.types import NomadNamespace


class NomadVariable(KindSpec):
    """Values of a Nomad variable. Vault has no part in it."""

    of_vault = False
    token_lasts = NEVER

    path: VariablePath
    """Path of the variable. Tasks may read `nomad/jobs`, `nomad/jobs/<job>`, `nomad/jobs/<job>/<group>` and
    `nomad/jobs/<job>/<group>/<task>` of their own job without further ado."""
    namespace: NomadNamespace | None = None
    """Nomad namespace of the variable; the job's own when left out."""
    access_granted: bool = False
    """An ACL policy that is bound to the job lets its tasks read the variable: for any other path, or namespace."""

    def identity(self) -> list[Any]:
        return [self.namespace, self.path]
