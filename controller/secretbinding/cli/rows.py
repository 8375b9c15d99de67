"""Statuses as rows of a table, or as objects. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.table import Table

from secretbinding.cli.console import printable
from secretbinding.models.binding import API_VERSION, KIND
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import ConditionType
from secretbinding.models.status import EPOCH, ConditionStatus, SecretBindingStatus

COLUMNS = ("NAMESPACE", "NAME", "JOB", "READY", "REASON", "ROTATION", "AGE")
WIDE = ("VERSIONS", "DEPLOYMENT", "MESSAGE")


@dataclass(frozen=True, slots=True)
class Row:
    """One binding with its status. `created` is RFC 3339, "" when unknown; then the age is that of the status."""

    key: BindingKey
    job: str
    status: SecretBindingStatus
    created: str = ""

    @property
    def ready(self) -> bool:
        condition = self.status.condition(ConditionType.READY)
        return condition is not None and condition.status is ConditionStatus.TRUE

    def to_object(self) -> Mapping[str, Any]:
        """The shape of a Kubernetes object, whatever the source."""
        metadata = {"name": self.key.name, "namespace": self.key.tenant}
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": self.status.to_json()}


def to_list(rows: Iterable[Row]) -> Mapping[str, Any]:
    """The rows as one list object."""
    return {"apiVersion": API_VERSION, "kind": f"{KIND}List", "items": [row.to_object() for row in rows]}


def cells(row: Row, now: datetime, *, wide: bool) -> tuple[str, ...]:
    """The texts of a row, in the order of `COLUMNS`, then `WIDE`."""
    status = row.status
    ready, rotation = status.condition(ConditionType.READY), status.condition(ConditionType.ROTATION_HEALTHY)
    texts = [
        row.key.tenant,
        row.key.name,
        row.job or (status.job.id if status.job is not None else ""),
        ready.status.value if ready is not None else "Unknown",
        ready.reason if ready is not None else "",
        rotation.reason if rotation is not None else "",
        age(row.created or (ready.last_transition_time if ready is not None else ""), now),
    ]
    if wide:
        deployment = status.deployment
        texts += [
            ",".join(f"{one.name}={_version(one.serving_version, one.wanted_version)}" for one in status.secrets),
            f"{deployment.id[:8]} {deployment.status}" if deployment is not None else "",
            (rotation.message if row.ready and rotation is not None else ready.message if ready is not None else ""),
        ]
    return tuple(printable(text).replace("\n", " ") for text in texts)


def age(moment: str, now: datetime) -> str:
    """How long ago, in the two-letter way of kubectl: `5s`, `12m`, `3h`, `8d`."""
    try:
        seconds = int((now - datetime.fromisoformat(moment)).total_seconds()) if moment not in ("", EPOCH) else -1
    except ValueError:
        return ""
    if seconds < 0:
        return ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def table(rows: Sequence[Row], now: datetime, *, wide: bool) -> Table:
    """The rows as a table without borders, with the columns of `kubectl get`."""
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for title in (*COLUMNS, *(WIDE if wide else ())):
        made.add_column(title, no_wrap=True, overflow="ignore")
    for row in rows:
        made.add_row(*cells(row, now, wide=wide))
    return made


def _version(serving: str | None, wanted: str | None) -> str:
    if serving is None or serving == wanted or wanted is None:
        return serving or "-"
    return f"{serving}->{wanted}"
