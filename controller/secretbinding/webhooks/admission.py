"""What is said to a Kubernetes API server that asks whether to take a SecretBinding or a SecretBindingPolicy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from secretbinding.engine.policies import Labels
from secretbinding.errors import ManifestError, SecretBindingError
from secretbinding.models.key import DEFAULT_CONNECTION
from secretbinding.models.loading import parse_object
from secretbinding.models.policy_loading import parse_policy_object
from secretbinding.models.reasons import Reason
from secretbinding.tenancy import Target, Tenant
from secretbinding.tenancy.verdict import UNDECIDED, Known, verdict

_log = structlog.get_logger(__name__)
_SOURCE = "kubernetes"
UNJUDGED = "the policy could not be judged, so that it is refused; please report this as a bug"


@dataclass(frozen=True, slots=True)
class Answer:
    """`refusal` is what the person is told, "" where the object is taken; `warning` is told besides."""

    refusal: str = ""
    warning: str = ""


class Admission:
    """Decides as `validate` and the reconciler do. What cannot be told now is taken, with a warning: the reconciler
    asks the policies again before anything is made.

    Args:
        known: the policies now; None where tenancy is open.
        labels: the labels of tenants.
        region: the Nomad region of a connection, "" for one that there is not; raises `errors.SecretBindingError`.
        nomad_namespace: for bindings that name none.
    """

    def __init__(
        self,
        known: Callable[[], Known] | None,
        labels: Labels,
        region: Callable[[str], str],
        *,
        nomad_namespace: str = "default",
    ) -> None:
        self._known = known
        self._labels = labels
        self._region = region
        self._nomad_namespace = nomad_namespace

    def binding(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> Answer:
        """The answer for a SecretBinding. One whose specification stays the same is taken: finalizers and annotations
        have to come and go whatever has become of its rights. Never raises: who serves this tells the text of whatever
        is raised to the person who asks."""
        metadata = obj.get("metadata") or {}
        if old is not None and (old.get("spec") == obj.get("spec") or metadata.get("deletionTimestamp")):
            return Answer()
        tenant, name = str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
        try:
            return self._binding(obj, tenant, name)
        except Exception as error:  # noqa: BLE001 - whatever breaks the decision is refused, with words
            _log.error("policy decision failed", binding=f"{tenant}/{name}", error_type=type(error).__name__)
            return Answer(UNDECIDED)

    def _binding(self, obj: Mapping[str, Any], tenant: str, name: str) -> Answer:
        try:
            binding = parse_object(obj, source=f"secretbinding {tenant}/{name}")
        except ManifestError as error:
            return Answer(str(error))
        if self._known is None:
            return Answer()
        workload, known = binding.spec.workload, self._known()
        labels = self._labels(_SOURCE, tenant) if known.asks_for_labels else {}
        connection = binding.spec.connection or DEFAULT_CONNECTION
        region = self._region_of(known, connection)
        target = Target(workload.namespace or self._nomad_namespace, workload.job, region, connection=connection)
        found = verdict(known, Tenant(_SOURCE, tenant, labels), binding, target)
        if found.fault is None:
            return Answer()
        if found.fault.reason is Reason.POLICIES_UNKNOWN:
            return Answer(warning=found.fault.message)
        return Answer(found.fault.message)

    def policy(self, obj: Mapping[str, Any]) -> Answer:
        """The answer for a SecretBindingPolicy. Never raises."""
        name = str((obj.get("metadata") or {}).get("name") or "")
        try:
            parse_policy_object(obj, source=f"secretbindingpolicy {name}")
        except ManifestError as error:
            return Answer(str(error))
        except Exception as error:  # noqa: BLE001 - one that cannot be judged could not be applied either
            _log.error("policy cannot be judged", policy=name, error_type=type(error).__name__)
            return Answer(UNJUDGED)
        return Answer()

    def _region_of(self, known: Known, connection: str) -> str:
        if not any(workload.regions for policy in known.policies for workload in policy.spec.workloads):
            return ""
        try:
            return self._region(connection)
        except SecretBindingError:
            return ""
