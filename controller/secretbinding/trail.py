"""The trail of changes: one line in the log for each change of a server, with names and never with values."""

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import structlog

_log = structlog.get_logger("secretbinding.changes")

EVENT = "change"
CORRELATION_HEADER = "X-Correlation-Id"
"""Sent to Vault with each change. Its audit devices record it: HashiCorp Vault by itself in newer releases, OpenBao
and older ones once told to (`sys/config/auditing/request-headers`). A change is mostly answered without a body, and so
without Vault's own `request_id`."""

_NO_CHANGE = frozenset(
    {
        *("login", "login_probe", "token_lookup", "token_renew", "token_revoke", "wrapping_lookup", "unwrap"),
        *("capabilities_read", "accessor_lookup", "secret_id_lookup", "job_plan", "job_parse"),
        *("variable_lock", "variable_renew", "variable_release"),
    }
)
"""Labels of calls that are no GET and change nothing but, for a few, our own token or lease."""


_PRESENCE = " variable nomad-vault/members/"
"""Controllers say every few seconds that they take part (`adapters.nomad.leases`)."""


def is_change(label: str, method: str, what: str = "") -> bool:
    """Whether a request is a change that leaves a line; what is not known to be none is one."""
    return method != "GET" and label not in _NO_CHANGE and _PRESENCE not in what


def new_correlation_id() -> str:
    """A name for one change."""
    return uuid.uuid4().hex


@contextmanager
def asked(**who: str | Iterable[str]) -> Iterator[None]:
    """Give the lines of changes in the block, by this thread, what only the caller knows: `bindings` that ask for it,
    `action` in words, `changed` names, `command`."""
    fields = {name: value if isinstance(value, str) else list(value) for name, value in who.items() if value}
    with structlog.contextvars.bound_contextvars(**fields):
        yield


def told(system: str, operation: str, what: str, outcome: str, **more: str) -> None:
    """Write the line. `what` is the change in words that may be shown; `outcome` is `Success` or the `reason` of the
    error: after `Unreachable` the change may have been made all the same. Empty fields are left out."""
    fields = {name: value for name, value in more.items() if value}
    _log.info(EVENT, system=system, operation=operation, what=what, outcome=outcome, **fields)
