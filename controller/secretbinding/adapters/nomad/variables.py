"""Variables of Nomad, and the locks on them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nomad import api

from secretbinding.adapters.nomad.asking import Asker
from secretbinding.adapters.nomad.shapes import index_of, mapping, meta_of, rows_of, variable_of
from secretbinding.adapters.transport import Call, unexpected
from secretbinding.errors import Conflict, NotFound, Rejected
from secretbinding.ports import Json, Variable, VariableMeta

MAX_WAIT_SECONDS = 300.0
"""Nomad cuts the wait of a blocking query down to this, then adds up to a sixteenth of it."""

_PATH = re.compile(r"[a-zA-Z0-9\-_~/]{1,128}")


class Variables:
    """Fulfils the part of `ports.Nomad` about variables. Every method raises `errors.ServiceError` subclasses."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def list(
        self, namespace: str, prefix: str, *, index: int = 0, wait_seconds: float = 0.0
    ) -> tuple[int, Sequence[VariableMeta]]:
        """See `ports.Nomad`. The index is at least 1, so that it can be given back to block."""
        call = _variables_call("variables_list", f"list variables {prefix}*", namespace, f"{prefix}*", "list")
        wait = min(wait_seconds, MAX_WAIT_SECONDS) if index > 0 else 0.0
        params: dict[str, Any] = {"namespace": namespace, "prefix": prefix}
        first = params | {"index": index, "wait": f"{round(wait * 1000)}ms"} if wait > 0 else params
        answer = self._asker.api(api.Variables, call, wait_seconds=wait * 17 / 16).request(method="get", params=first)
        new_index = index_of(answer)
        rows = [meta_of(row, call) for row in rows_of(answer.json(), call)]
        while token := answer.headers.get("X-Nomad-NextToken"):
            page = params | {"next_token": token}
            answer = self._asker.api(api.Variables, call).request(method="get", params=page)
            rows += [meta_of(row, call) for row in rows_of(answer.json(), call)]
        return new_index, rows

    def read(self, namespace: str, path: str) -> Variable | None:
        call = _variable_call("variable_read", "read", namespace, path, absent="variable not found")
        try:
            return variable_of(
                mapping(self._asker.api(api.Variable, call).get_variable(path, namespace=namespace), call), call
            )
        except NotFound:
            return None

    def write(self, namespace: str, path: str, items: Mapping[str, str], *, cas: int | None = None) -> Variable:
        """See `ports.Nomad`. With `cas` never sent twice when the answer was lost."""
        call = _variable_call(
            "variable_write", "write", namespace, path, repeatable=cas is None, hidden=tuple(items.values())
        )
        payload = {"Namespace": namespace, "Path": path, "Items": dict(items)}
        body = self._asker.api(api.Variable, call).create_variable(path, payload, namespace=namespace, cas=cas)
        return variable_of(mapping(body, call), call)

    def delete(self, namespace: str, path: str) -> None:
        call = _variable_call("variable_delete", "destroy", namespace, path, absent="variable not found")
        try:
            self._asker.api(api.Variable, call).delete_variable(path, namespace=namespace)
        except NotFound:
            return

    def acquire_lock(self, namespace: str, path: str, items: Mapping[str, str], ttl_seconds: float) -> str | None:
        """See `ports.Nomad`. Never sent twice when the answer was lost: the lock would be ours without its ID."""
        call = _variable_call("variable_lock", "write", namespace, path, repeatable=False)
        # After a lock has ended Nomad keeps it for another while (LockDelay); 0 would be its default of 15 s.
        lock = {"TTL": f"{round(ttl_seconds * 1000)}ms", "LockDelay": "1ms"}
        body = {"Namespace": namespace, "Path": path, "Items": dict(items), "Lock": lock}
        try:
            answer = self._lock(call, "lock-acquire", namespace, path, body)
        except Conflict:
            return None
        held = mapping(answer, call).get("Lock")
        if not isinstance(held, Mapping) or not held.get("ID"):
            raise unexpected("nomad", call, "no ID of the lock")
        return str(held["ID"])

    def renew_lock(self, namespace: str, path: str, lock_id: str) -> bool:
        call = _variable_call("variable_renew", "write", namespace, path, absent="variable doesn't exist")
        try:
            self._lock(call, "lock-renew", namespace, path, {"Path": path, "Lock": {"ID": lock_id}})
        except (Conflict, NotFound):
            return False
        return True

    def release_lock(self, namespace: str, path: str, lock_id: str) -> None:
        call = _variable_call("variable_release", "write", namespace, path, absent="variable doesn't exist")
        try:
            self._lock(call, "lock-release", namespace, path, {"Path": path, "Lock": {"ID": lock_id}})
        except (Conflict, NotFound):
            return

    def _lock(self, call: Call, operation: str, namespace: str, path: str, body: Json) -> Any:
        # python-nomad knows no locks.
        params = {operation: "", "namespace": namespace}
        return self._asker.api(api.Variable, call).request(path, method="put", json=body, params=params).json()


def _variable_call(
    label: str,
    capability: str,
    namespace: str,
    path: str,
    *,
    repeatable: bool = True,
    absent: str = "",
    hidden: tuple[str, ...] = (),
) -> Call:
    verb = label.removeprefix("variable_")
    if not _PATH.fullmatch(path):
        raise Rejected(
            f"{path!r} is not a path of a Nomad variable",
            system="nomad",
            operation=f"{verb} variable",
            remedy="use at most 128 letters, digits and -_~/ in it",
        )
    return _variables_call(label, f"{verb} variable {path}", namespace, path, capability, repeatable, absent, hidden)


def _variables_call(
    label: str,
    text: str,
    namespace: str,
    path: str,
    capability: str,
    repeatable: bool = True,
    absent: str = "",
    hidden: tuple[str, ...] = (),
) -> Call:
    needs = f"in namespace {namespace}, which needs capability `{capability}` on it"
    rule = f'namespace "{namespace}" {{ variables {{ path "{path}" {{ capabilities = ["{capability}"] }} }} }}'
    return Call(
        label,
        text,
        denied=f"the Nomad token may not {text} {needs}",
        grant=f"add `{rule}` to its policy",
        repeatable=repeatable,
        absent=absent,
        hidden=hidden,
    )
