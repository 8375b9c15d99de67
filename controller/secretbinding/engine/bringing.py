"""Looks at the wrapped secret-ids that agents are brought, and brings new ones. No token leaves this module."""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from pydantic import SecretStr

from secretbinding.desired.approles import STATE_ITEM, BringSecretIds, Brought, Seal, Wrapped, read_brought
from secretbinding.errors import Conflict, NotFound, Rejected
from secretbinding.models.agent import AGENT_TASK
from secretbinding.models.key import WorkloadKey
from secretbinding.naming import stable_digest
from secretbinding.ports import Json, Nomad, Vault
from secretbinding.render.approle import variable_path, wrapped_item

_LOGIN_SECONDS = 5.0
"""An agent logs in at once with what it has unwrapped."""
_DIGEST_LENGTH = 12
_GROUP = re.compile(rf"nomad/jobs/[^/]+/([^/]+)/{AGENT_TASK}\Z")


class Bringer:
    """`mount` is the AppRole auth mount; `clock` gives seconds that never go back. Thread-safe: what it remembers is
    when a token was last seen sealed and when it was first seen opened without a login. Forgetting that loses seconds
    and makes the time wider in which an opening may have been."""

    def __init__(self, vault: Vault, nomad: Nomad, *, mount: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._vault = vault
        self._nomad = nomad
        self._mount = mount
        self._clock = clock
        self._opened: dict[str, float] = {}
        self._sealed: dict[tuple[str, str], dict[str, datetime]] = {}

    def look(
        self,
        workload: WorkloadKey,
        groups: Iterable[str],
        roles: Mapping[str, Json | None],
        instance: str,
        *,
        everywhere: bool,
    ) -> dict[str, Brought]:
        """What the variables of these groups hold, by group; `everywhere` also looks for those of other groups of the
        job. Raises `errors.ServiceError` subclasses."""
        names = set(groups)
        if everywhere and variable_path(workload, "group") is not None:
            _, rows = self._nomad.list_variables(workload.namespace, f"nomad/jobs/{workload.job}/")
            names |= {found[1] for row in rows if (found := _GROUP.match(row.path)) is not None}
        now = self._vault.present()
        looked: dict[str, Brought] = {}
        for group in sorted(names):
            path = variable_path(workload, group)
            if path is None:
                continue
            variable = self._nomad.read_variable(workload.namespace, path)
            if variable is None:
                self._sealed.pop((workload.namespace, path), None)
                looked[group] = Brought(path, now=now)
                continue
            brought = read_brought(path, variable.modify_index, variable.items, now)
            if brought.instance == instance:
                known = self._sealed.get((workload.namespace, path), {})
                tokens = [
                    self._judged(replace(one, sealed=known.get(one.accessor)), variable.items, brought.role, roles, now)
                    for one in brought.tokens
                ]
                seen = {one.accessor: one.sealed for one in tokens if one.sealed is not None}
                self._sealed[workload.namespace, path] = seen
                brought = replace(brought, tokens=tuple(tokens))
            looked[group] = brought
        return looked

    def _judged(
        self, one: Wrapped, items: Mapping[str, str], role: str, roles: Mapping[str, Json | None], now: datetime
    ) -> Wrapped:
        value = items[wrapped_item(one.index)]
        same = one.digest in ("", _digest(value))
        if same and self._vault.is_sealed(SecretStr(value), self._mount, role):
            return replace(one, sealed=now)
        if one.expires <= now:
            return replace(one, seal=Seal.EXPIRED)
        uses = self._vault.secret_id_uses(self._mount, role, one.accessor)
        if uses is None or uses < int((roles.get(role) or {}).get("secret_id_num_uses") or 1):
            self._opened.pop(one.accessor, None)
            return replace(one, seal=Seal.USED)
        since = self._opened.setdefault(one.accessor, self._clock())
        over = self._clock() - since >= _LOGIN_SECONDS
        return replace(one, seal=Seal.UNUSED if over else Seal.OPENED)

    def bring(self, action: BringSecretIds, namespace: str) -> None:
        """Make what is to be made and write the variable. Raises `Conflict` when it was written meanwhile, and other
        `errors.ServiceError` subclasses; then a secret-id that found no place is destroyed."""
        wanted = action.wanted
        items: dict[str, str] = {}
        if wanted.tokens:
            there = self._nomad.read_variable(namespace, wanted.path)
            if there is None or there.modify_index != wanted.modify_index:
                message = f"variable {wanted.path} was changed meanwhile"
                raise Conflict(message, system="nomad", operation=f"write variable {wanted.path}")
            items = {name: there.items[name] for one in wanted.tokens if (name := wrapped_item(one.index))}
        tokens = list(wanted.tokens)
        made: list[str] = []
        try:
            for index in action.make:
                fresh = self._vault.wrapped_secret_id(action.mount, wanted.role, action.seconds)
                made.append(fresh.accessor)
                value = items[wrapped_item(index)] = fresh.token.get_secret_value()
                digest = _digest(value)
                tokens.append(
                    Wrapped(index, fresh.accessor, fresh.expires, action.limits, made=wanted.now, digest=digest)
                )
            state = replace(wanted, tokens=tuple(sorted(tokens, key=lambda one: one.index)))
            items[STATE_ITEM] = state.state_item()
            self._nomad.write_variable(namespace, wanted.path, items, cas=wanted.modify_index)
        except (Conflict, Rejected):
            self._destroy(action.mount, wanted.role, made)
            raise
        self._destroy(action.mount, wanted.role, action.destroy)

    def _destroy(self, mount: str, role: str, accessors: Iterable[str]) -> None:
        for accessor in accessors:
            try:
                self._vault.drop_secret_id(mount, role, accessor)
            except (NotFound, Rejected):
                # It has ended by itself, or it went with another role.
                continue


def _digest(token: str) -> str:
    """What tells one wrapping token from another, and nothing else about it: tokens are random."""
    return stable_digest(["wrapping token", token])[:_DIGEST_LENGTH]
