"""One look at one secret: the fewest requests that show what the engine decides by, and never a value."""

from collections.abc import Mapping
from typing import Protocol

import structlog

from secretbinding.errors import SecretBindingError, Unavailable, Unreachable
from secretbinding.kinds import KINDS, Subject
from secretbinding.models.binding import SecretEntry
from secretbinding.ports import KvMetadata, Vault
from secretbinding.watch.seen import Sight, seen_in_metadata, seen_in_state

_log = structlog.get_logger(__name__)


class WatchedVault(Vault, Protocol):
    """What is asked of Vault."""

    def kv_folder(self, mount: str, path: str) -> Mapping[str, KvMetadata] | None:
        """The metadata of all secrets directly in a folder, by name; None when there is none, or the server cannot.
        Raises `errors.ServiceError` subclasses."""


def look_at(vault: WatchedVault, subject: Subject, entry: SecretEntry) -> Sight | None:
    """What there is to see of a secret; None when it may not, or cannot, be looked at: the engine's own passes report
    what is wrong with it.

    Raises `Unavailable` and `Unreachable`, when the server is in trouble.
    """
    try:
        if subject.kind == "kv":
            # The engine also asks for the names of fields; what the metadata shows tells whether they may be others.
            return seen_in_metadata(vault.kv_metadata(subject.mount, subject.name))
        return seen_in_state(KINDS[subject.kind].observe(entry, vault, ()))
    except (Unavailable, Unreachable):
        raise
    except SecretBindingError as error:
        _log.debug("secret cannot be looked at", mount=subject.mount, error=type(error).__name__)
        return None
