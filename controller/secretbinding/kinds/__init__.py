"""The kinds of secrets: one module each, and one line here that registers it."""

from collections.abc import Mapping

from secretbinding.kinds.base import Changes, Fault, Kind, Pin, Reading, Right, SecretState, Subject
from secretbinding.kinds.database import DatabaseKind
from secretbinding.kinds.generic import GenericKind
from secretbinding.kinds.kv import KvKind
from secretbinding.kinds.pki import PkiKind

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (KvKind(), DatabaseKind(), PkiKind(), GenericKind())}

__all__ = ["KINDS", "Changes", "Fault", "Kind", "Pin", "Reading", "Right", "SecretState", "Subject"]
