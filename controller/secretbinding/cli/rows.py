"""Statuses as rows of a table, or as objects. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.cells import cell_len

from secretbinding.cli.console import printable
from secretbinding.models.binding import API_VERSION, KIND
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import ConditionStatus, SecretBindingStatus

COLUMNS = ("NAMESPACE", "NAME", "JOB", "READY", "REASON", "ROTATION", "AGE")
WIDE = ("VERSIONS", "DEPLOYMENT", "MESSAGE")


@dataclass(frozen=True, slots=True)
class Row:
    """One binding with its status. `created` is RFC 3339, "" where the source does not tell."""

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


def cells(row: Row, now: datetime, *, wide: bool) -> list[str]:
    """The texts of a row, in the order of `COLUMNS`, then `WIDE`."""
    status = row.status
    ready, rotation = status.condition(ConditionType.READY), status.condition(ConditionType.ROTATION_HEALTHY)
    texts = [
        row.key.tenant,
        row.key.name,
        row.job or (status.job.id if status.job is not None else ""),
        ready.status.value if ready is not None else ConditionStatus.UNKNOWN.value,
        ready.reason if ready is not None else "",
        rotation.reason if rotation is not None else "",
        age(row.created, now),
    ]
    if wide:
        deployment, telling = status.deployment, rotation if row.ready else ready
        texts += [
            ",".join(f"{one.name}={_version(one.serving_version, one.wanted_version)}" for one in status.secrets),
            f"{deployment.id[:8]} {deployment.status}" if deployment is not None else "",
            # What follows is a manifest to paste, which a table cannot show.
            telling.message.partition("\n# ")[0] if telling is not None else "",
        ]
    return [printable(text).replace("\n", " ") for text in texts]


def age(moment: str, now: datetime) -> str:
    """How long ago, as kubectl tells it: `5s`, `12m`, `3h`, `8d`; "" when it is not known."""
    try:
        seconds = int((now - datetime.fromisoformat(moment)).total_seconds())
    except (ValueError, TypeError):
        return ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(0, seconds)}s"


Paint = Callable[[str, str], str]
"""`(text, style)`: the text in a style of rich's, such as `bold red`."""


def table(
    rows: Sequence[Row],
    now: datetime,
    *,
    wide: bool,
    header: bool = True,
    paint: Paint = lambda text, style: text,
) -> str:
    """The rows in columns, as `kubectl get` prints them: always the same ones, with `-` where there is nothing. What is
    not well stands out by `paint`."""
    lines = [[text or "-" for text in cells(row, now, wide=wide)] for row in rows]
    styles = [_styles(row) for row in rows]
    if header:
        lines.insert(0, [*COLUMNS, *(WIDE if wide else ())])
        styles.insert(0, dict.fromkeys((*COLUMNS, *WIDE), "bold"))
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    return "".join(_padded(line, widths, style, paint) for line, style in zip(lines, styles, strict=True))


_COLORS = {ConditionStatus.TRUE: "green", ConditionStatus.FALSE: "bold red", ConditionStatus.UNKNOWN: "yellow"}
_UNDER_WAY = frozenset(
    {
        Reason.DEPLOYMENT_RUNNING,
        Reason.WAITING_FOR_PROMOTION,
        Reason.NEW_VERSION_HELD,
        Reason.MANUAL_ROTATION_PENDING,
    }
)


def _styles(row: Row) -> Mapping[str, str]:
    """The style of each column that has one."""
    ready, rotation = (row.status.condition(kind) for kind in (ConditionType.READY, ConditionType.ROTATION_HEALTHY))
    color = _COLORS[ready.status if ready is not None else ConditionStatus.UNKNOWN]
    styles = {"READY": color, "REASON": "" if row.ready else color}
    if rotation is not None and rotation.status is ConditionStatus.FALSE:
        styles["ROTATION"] = _COLORS[rotation.status]
    elif rotation is not None and rotation.reason in _UNDER_WAY:
        styles["ROTATION"] = "cyan"
    return styles


def _padded(line: Sequence[str], widths: Sequence[int], styles: Mapping[str, str], paint: Paint) -> str:
    columns = zip((*COLUMNS, *WIDE), line, widths, strict=False)
    painted = [
        (paint(text, styles[name]) if styles.get(name) else text) + " " * (width - cell_len(text))
        for name, text, width in columns
    ]
    return "   ".join(painted).rstrip() + "\n"


def _version(serving: str | None, wanted: str | None) -> str:
    if serving is None or serving == wanted or wanted is None:
        return serving or "none"
    return f"{serving}->{wanted}"
