"""From a custom resource, as the API server shows it, to what the engine takes. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secretbinding.errors import ManifestError, Problem
from secretbinding.models.binding import SecretBinding
from secretbinding.models.key import BindingKey
from secretbinding.models.loading import identify, parse_object
from secretbinding.models.status import SecretBindingStatus
from secretbinding.sources.base import SourceItem

Json = Mapping[str, Any]

NAME = "kubernetes"
FINALIZER = "nomad-vault.io/finalizer"
ROTATE_ANNOTATION = "nomad-vault.io/rotate-requested-at"
GENERATE_ANNOTATION = "nomad-vault.io/generate-requested-at"
NO_PROBLEMS: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Sight:
    """What is kept of an object between two looks at it.

    `version` is `metadata.resourceVersion`; `watched` is the last one that the watch (not a listing) brought. `binding`
    is what the spec of that `generation` holds, None where it is not valid.
    """

    uid: str
    version: str
    finalizers: tuple[str, ...]
    deleting: bool
    seen_at: float
    watched: str = ""
    generation: int = 0
    binding: SecretBinding | None = None

    @property
    def adopted(self) -> bool:
        return FINALIZER in self.finalizers


def key_of(obj: Json) -> BindingKey:
    """The binding's key: its Kubernetes namespace is the tenant."""
    metadata = obj["metadata"]
    return BindingKey(NAME, str(metadata["namespace"]), str(metadata["name"]))


def sight_of(obj: Json, now: float, item: SourceItem, watched: str = "") -> Sight:
    """The sight of an object as it is now (`time.monotonic`), and the item that it amounts to."""
    metadata = obj["metadata"]
    return Sight(
        uid=str(metadata.get("uid", "")),
        version=str(metadata.get("resourceVersion", "")),
        finalizers=tuple(metadata.get("finalizers") or ()),
        deleting=bool(metadata.get("deletionTimestamp")),
        seen_at=now,
        watched=watched,
        generation=item.generation,
        binding=item.binding,
    )


def item_of(obj: Json, nomad_namespace: str, seen: Sight | None = None) -> SourceItem:
    """The item that an object amounts to; one that does not validate (as a newer or older definition may have let it
    in) comes with its problems. `nomad_namespace` is for bindings that name none. What has been `seen` of the same
    object is not read again as long as its generation is the same: the API server counts every change of the spec."""
    key = key_of(obj)
    metadata = obj["metadata"]
    generation = int(metadata.get("generation") or 0)
    binding, problems, job = _seen_binding(metadata, generation, seen), NO_PROBLEMS, ""
    try:
        binding = binding or parse_object(obj, source=f"secretbinding {key.tenant}/{key.name}")
    except ManifestError as error:
        named = identify(obj)
        problems, job = error.problems, named.job or ""
        nomad_namespace = named.job_namespace or nomad_namespace
    annotations = metadata.get("annotations") or {}
    return SourceItem(
        key=key,
        binding=binding,
        nomad_namespace=nomad_namespace,
        problems=problems,
        job=job,
        generation=generation,
        deleting=bool(metadata.get("deletionTimestamp")),
        rotate_requested_at=str(annotations.get(ROTATE_ANNOTATION, "")),
        generate_requested_at=str(annotations.get(GENERATE_ANNOTATION, "")),
        status=SecretBindingStatus.read(obj.get("status")),
    )


def _seen_binding(metadata: Json, generation: int, seen: Sight | None) -> SecretBinding | None:
    """The binding that has been read of this very spec, with what else of the object is a part of it."""
    if seen is None or seen.binding is None or not generation:
        return None
    if (seen.uid, seen.generation) != (str(metadata.get("uid", "")), generation):
        return None
    known = seen.binding.metadata
    told = (metadata.get("labels") or {}, metadata.get("annotations") or {})
    return seen.binding if told == (known.labels, known.annotations) else None


def is_newer(version: str, than: str) -> bool:
    """Whether a resourceVersion is later than another of the same object. Versions that are no numbers (no API server
    has them) count as later when they differ."""
    if version.isdigit() and than.isdigit():
        return int(version) > int(than)
    return version != than
