"""A page without a controller: bindings as statuses tell of them, events, and a request to it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from secretbinding.engine.store import Entry
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import Condition, ConditionStatus, SecretBindingStatus, SecretStatus
from secretbinding.page.access import Access
from secretbinding.page.journal import Journal
from secretbinding.page.site import Site
from secretbinding.page.surroundings import Answering, Surroundings
from secretbinding.sources.base import SourceItem
from secretbinding.status import Transition
from tests.support.builders import binding

NOW = datetime(2027, 3, 4, 12, 0, tzinfo=UTC)
TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
Told = tuple[ConditionStatus, Reason, str]


def stamp(ago: timedelta | None) -> str | None:
    """So long before `NOW`, as a status writes it."""
    return f"{NOW - ago:%Y-%m-%dT%H:%M:%SZ}" if ago is not None else None


def a_secret(
    name: str = "app",
    serving: str | None = "1",
    wanted: str | None = None,
    *,
    made: timedelta | None = timedelta(days=40),
    until: timedelta | None = None,
    message: str | None = None,
) -> SecretStatus:
    """A secret of a status; it wants what it serves unless told otherwise."""
    return SecretStatus(
        name=name,
        serving_version=serving,
        wanted_version=wanted or serving,
        changed_at=stamp(made),
        next_rotation_at=stamp(-until if until is not None else None),
        message=message,
    )


def a_status(
    ready: Told = (TRUE, Reason.READY, ""),
    rotation: Told = (TRUE, Reason.UP_TO_DATE, ""),
    *secrets: SecretStatus,
    stalled: Told = (FALSE, Reason.SYNCED, ""),
    since: timedelta = timedelta(days=3),
    rotated: timedelta | None = None,
    **more: Any,
) -> SecretBindingStatus:
    """A status with three conditions, which have been as they are for so long."""
    told = {ConditionType.READY: ready, ConditionType.ROTATION_HEALTHY: rotation, ConditionType.STALLED: stalled}
    conditions = tuple(
        Condition(
            type=kind.value,
            status=status,
            reason=reason.value,
            message=message,
            last_transition_time=str(stamp(since)),
        )
        for kind, (status, reason, message) in told.items()
    )
    return SecretBindingStatus(
        conditions=conditions, secrets=secrets or (a_secret(),), last_rotation_time=stamp(rotated), **more
    )


BINDING = binding()


def an_entry(
    name: str,
    status: SecretBindingStatus | None = None,
    *,
    tenant: str = "payments",
    source: str = "kubernetes",
    job: str = "",
    **item: Any,
) -> Entry:
    """A binding in the store."""
    key = BindingKey(source, tenant, name)
    workload = WorkloadKey("default", "", "default", job or name)
    made = SourceItem(key, item.pop("binding", BINDING), "default", **item)
    return Entry(made, workload, status if status is not None else a_status())


@dataclass
class Clock:
    """A clock that stands still until it is set."""

    at: datetime = NOW

    def __call__(self) -> datetime:
        return self.at


@dataclass
class Visitor:
    """Asks a page for its paths, as a browser on this machine does unless told otherwise."""

    site: Site
    environment: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, query: str = "", method: str = "GET", **environment: str) -> "Shown":
        """Ask for a path."""
        asked = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost:9464",
            **self.environment,
            **environment,
        }
        answered: list[Any] = []
        body = b"".join(self.site(asked, lambda status, headers: answered.extend((status, headers))))
        return Shown(answered[0], dict(answered[1]), body.decode())


@dataclass(frozen=True)
class Shown:
    """An answer."""

    status: str
    headers: Mapping[str, str]
    text: str


class Sample:
    """A page with the bindings and events that it is given; everything in it stands still at `NOW`."""

    def __init__(
        self,
        entries: Iterable[Entry] = (),
        *,
        access: Access = Access.LOCAL,
        checks: Sequence[Answering] = (Answering("source kubernetes", ""), Answering("vault", "")),
        held: Mapping[str, int] | None = None,
        part: str = "",
    ) -> None:
        self.clock = Clock()
        self.entries = {entry.item.key: entry for entry in entries}
        self.journal = Journal(self.clock)
        self.asked: Callable[[], object] = lambda: None  # called whenever the page asks for the bindings
        around = Surroundings(
            entries=self._list,
            get=self.entries.get,
            checks=lambda: checks,
            held=lambda: held or {},
            part=lambda: part,
        )
        self.site = Site(around, self.journal, access=access, now=self.clock)
        self.visitor = Visitor(self.site)

    def _list(self) -> Sequence[Entry]:
        self.asked()
        return list(self.entries.values())

    def happened(self, name: str, ago: timedelta, reason: Reason, message: str = "", *, warning: bool = False) -> None:
        """An event of a binding, so long before `NOW`."""
        entry = next(entry for key, entry in self.entries.items() if key.name == name)
        self.clock.at = NOW - ago
        told = Transition("Warning" if warning else "Normal", reason, message)
        self.journal.reported(entry.item.key, SecretBindingStatus(), entry.status, [told])
        self.clock.at = NOW

    def report(self, name: str, status: SecretBindingStatus) -> None:
        """Another status of a binding."""
        key = next(key for key in self.entries if key.name == name)
        self.entries[key] = replace(self.entries[key], status=status)


def a_large_site(number: int) -> Sample:
    """So many bindings, a few of them in each state there is, with what has happened to them."""
    hours, minutes = (lambda n: timedelta(hours=n)), (lambda n: timedelta(minutes=n))
    missing = (
        "version 9 of secret/data/checkout lacks the field `password` that spec.secrets[app].env uses; "
        "write it, or take it out of the binding"
    )
    reverted = (
        "the deployment with app version 7 failed (job version 12: Failed due to progress deadline - rolling back to "
        "job version 11); app version 6 serves again, and the failed state is not tried again by itself: write a new "
        "version, change the binding or the job, or ask with `rotate`"
    )
    refused = (
        "no policy lets payments bind secret/shared/ledger; this one would:\n# apiVersion: nomad-vault.io/v1alpha1\n"
        "# kind: SecretBindingPolicy"
    )
    window = "version 4 waits for the window `0 2 * * *` (Europe/Berlin)"
    entries = [
        an_entry(
            "checkout-api",
            a_status(
                (TRUE, Reason.READY, ""),
                (FALSE, Reason.SECRET_FIELD_MISSING, missing),
                a_secret("app", "8", "9", made=minutes(52), message=missing),
                since=minutes(52),
                rotated=hours(20),
            ),
        ),
        an_entry(
            "ledger-writer",
            a_status((FALSE, Reason.REFUSED_BY_POLICY, refused), stalled=(TRUE, Reason.REFUSED_BY_POLICY, "no policy")),
            tenant="finance",
        ),
        an_entry(
            "search-indexer",
            a_status(
                (TRUE, Reason.READY, ""),
                (FALSE, Reason.DEPLOYMENT_REVERTED, reverted),
                a_secret("app", "6", "7", made=hours(5) + minutes(45)),
                since=hours(5),
                rotated=timedelta(days=9),
            ),
            tenant="search",
            source="nomad",
        ),
        an_entry(
            "notifier",
            a_status((UNKNOWN, Reason.VAULT_UNREACHABLE, "Vault does not answer"), since=minutes(2)),
            tenant="platform",
        ),
        an_entry(
            "billing-worker",
            a_status(
                (TRUE, Reason.READY, ""),
                (TRUE, Reason.NEW_VERSION_HELD, f"{window}; version 3 serves"),
                a_secret("db", "3", "4", made=hours(3), until=hours(5), message=window),
                a_secret("tls", "r-5f21", until=hours(3)),
                rotated=hours(23),
            ),
            tenant="finance",
        ),
        an_entry(
            "reports",
            a_status(
                (TRUE, Reason.READY, ""),
                (TRUE, Reason.MANUAL_ROTATION_PENDING, "version 12 is rolled on request: `secretbinding rotate`"),
                a_secret("app", "11", "12", made=hours(9), message="version 12 is rolled on request"),
            ),
            tenant="finance",
        ),
        an_entry(
            "web-frontend",
            a_status(
                (TRUE, Reason.READY, ""),
                (TRUE, Reason.DEPLOYMENT_RUNNING, "deployment 1b2c3d4e of job version 31 is running"),
                a_secret("app", "17", "18", made=minutes(14)),
                a_secret("session-key", "2"),
                since=minutes(12),
                rotated=hours(13),
            ),
            tenant="web",
        ),
        an_entry("gateway", a_status(rotated=hours(6)), tenant="web"),
        an_entry("mailer", a_status(rotated=hours(2)), tenant="platform", source="nomad"),
    ]
    teams = ("finance", "payments", "platform", "search", "web")
    entries += [
        an_entry(f"service-{index:05}", tenant=teams[index % 5], source="nomad" if index % 3 else "kubernetes")
        for index in range(number - len(entries))
    ]
    sample = Sample(
        entries,
        checks=(
            Answering("source kubernetes", ""),
            Answering("source nomad", ""),
            Answering("vault", "does not answer"),
            Answering("nomad", ""),
        ),
    )
    roll, done = Reason.DEPLOYMENT_RUNNING, Reason.UP_TO_DATE
    sample.happened("web-frontend", hours(13) + minutes(9), roll, "deployment 9a1c22f0 of job version 30 is running")
    sample.happened("web-frontend", hours(13), done)
    sample.happened("gateway", hours(6) + minutes(25), roll, "deployment 77aa01b2 of job version 8 is running")
    sample.happened("gateway", hours(6), done)
    sample.happened("search-indexer", hours(5) + minutes(40), roll, "deployment 0c0ffee1 of job version 12 is running")
    sample.happened("search-indexer", hours(5), Reason.DEPLOYMENT_REVERTED, reverted, warning=True)
    sample.happened("billing-worker", hours(3), Reason.NEW_VERSION_HELD, f"{window}; version 3 serves")
    sample.happened("checkout-api", minutes(52), Reason.SECRET_FIELD_MISSING, missing, warning=True)
    sample.happened("web-frontend", minutes(12), roll, "deployment 1b2c3d4e of job version 31 is running")
    sample.happened("notifier", minutes(2), Reason.VAULT_UNREACHABLE, "Vault does not answer", warning=True)
    return sample
