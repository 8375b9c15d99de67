"""What the shipped health checks of Argo CD and Flux make of a resource."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import celpy
import yaml
from celpy.adapter import json_to_cel
from lupa.lua51 import LuaRuntime

GITOPS = Path(__file__).parents[2] / "deploy" / "gitops"
_FLUX_ORDER = ("inProgress", "failed", "current")


def documents(name: str) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all((GITOPS / name).read_text()) if found]


def argo_health(resource: Mapping[str, Any]) -> tuple[str, str]:
    """Status and message, as Argo CD's Lua gives them (Lua 5.1; it opens no library but the basic ones)."""
    (config,) = documents("argocd/health.yaml")
    script = config["data"]["resource.customizations.health.nomad-vault.io_SecretBinding"]
    lua = LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    check = lua.eval(f"function(obj) {script} end")
    health = check(_table(lua, resource))
    return str(health["status"]), str(health["message"])


def _table(lua: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        return lua.table_from({key: _table(lua, one) for key, one in value.items()})
    if isinstance(value, list):
        return lua.table_from([_table(lua, one) for one in value])
    return value


def flux_health(resource: Mapping[str, Any]) -> str:
    """The first of Flux's expressions that holds, in Flux's order; "inProgress" when none does."""
    kustomization = next(one for one in documents("flux/bindings.yaml") if one["kind"] == "Kustomization")
    (check,) = kustomization["spec"]["healthCheckExprs"]
    environment = celpy.Environment()
    variables = {name: json_to_cel(resource.get(name, {})) for name in ("metadata", "spec", "status")}
    for name in _FLUX_ORDER:
        program = environment.program(environment.compile(check[name]))
        if bool(program.evaluate(variables)):
            return name
    return "inProgress"
