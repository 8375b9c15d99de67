"""Every metric there is: name, type, labels and meaning. What is exposed, and the page about it, come from here."""

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "secretbinding_"


class Kind(StrEnum):
    """Types of metrics, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `name` is as in a query (a histogram's without `_bucket`); `buckets` are upper bounds."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()


_PASS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_CALL_SECONDS = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0)
_WAIT_SECONDS = (0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0)
# From a push to the end of a window.
_CHANGE_SECONDS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)


_own: list[Metric] = []


def _metric(name: str, kind: Kind, labels: str, meaning: str, buckets: tuple[float, ...] = ()) -> Metric:
    _own.append(Metric(PREFIX + name, kind, tuple(labels.split()), meaning, buckets))
    return _own[-1]


RECONCILES = _metric(
    "reconciles_total",
    Kind.COUNTER,
    "result",
    "Passes over a workload by how they ended: unchanged, changed, registered, failed (a server), crashed, unprepared.",
)
RECONCILE_SECONDS = _metric(
    "reconcile_duration_seconds", Kind.HISTOGRAM, "", "How long passes over a workload took.", _PASS_SECONDS
)
QUEUE_DEPTH = _metric(
    "queue_depth",
    Kind.GAUGE,
    "connection priority",
    "Workloads that are due and wait for a worker: change, progress, resync.",
)
QUEUE_OLDEST = _metric(
    "queue_oldest_seconds",
    Kind.GAUGE,
    "connection priority",
    "How long the oldest of them has been due; 0 when nothing is.",
)
QUEUE_WAIT = _metric(
    "queue_wait_seconds",
    Kind.HISTOGRAM,
    "priority",
    "How long workloads waited for a worker after they were due.",
    _WAIT_SECONDS,
)
QUEUE_RETRIES = _metric(
    "queue_retries_total",
    Kind.COUNTER,
    "priority",
    "Workloads that were queued again because their last pass did not come to a good end.",
)
WORKERS = _metric("workers", Kind.GAUGE, "connection", "Workers, each of which is at one workload at a time.")
WORKERS_BUSY = _metric("workers_busy", Kind.GAUGE, "connection", "Workers that are at a workload now.")

BINDINGS = _metric(
    "bindings",
    Kind.GAUGE,
    "source condition status",
    "Bindings by each of their conditions; Unknown as long as nothing is known of it.",
)
NOT_READY_REASONS = _metric(
    "bindings_not_ready",
    Kind.GAUGE,
    "source reason",
    "Bindings that are not Ready, by the reason of that, all of them; no series for a reason that none has.",
)
NOT_READY = _metric(
    "binding_not_ready",
    Kind.GAUGE,
    "source binding_namespace binding reason",
    "1 for each binding that is not Ready, and no series for any other.",
)
ROTATION_UNHEALTHY = _metric(
    "binding_rotation_unhealthy",
    Kind.GAUGE,
    "source binding_namespace binding reason",
    "1 for each binding whose condition RotationHealthy is False, and no series for any other.",
)
SERIES_OMITTED = _metric(
    "binding_series_omitted",
    Kind.GAUGE,
    "",
    "Bindings that have no series in the two metrics before, since more than 500 would have one.",
)
AT_RISK = _metric(
    "pinned_versions_at_risk",
    Kind.GAUGE,
    "",
    "Secrets of jobs that are served in a version which Vault no longer keeps, or not past the next write.",
)

API_SECONDS = _metric(
    "api_request_duration_seconds",
    Kind.HISTOGRAM,
    "connection system operation outcome",
    "Requests to vault, nomad and kubernetes, each attempt by itself: how many, and how long until the answer. "
    "`variables_list` waits for news, up to a minute, and `events` counts until the stream is open.",
    _CALL_SECONDS,
)
ANSWERING = _metric(
    "server_answering",
    Kind.GAUGE,
    "connection system",
    "1 while vault or nomad answers, can work (unsealed, with a leader).",
)
TOKEN_EXPIRY = _metric(
    "token_expiry_timestamp_seconds",
    Kind.GAUGE,
    "connection system",
    "When the controller's own token ends unless it is renewed; no series for one that never does, or may not tell.",
)

DECISIONS = _metric(
    "rotation_decisions_total",
    Kind.COUNTER,
    "decision reason",
    "Decisions about new versions of the secrets of a workload: detected (each version once), coalesced (it got no "
    "roll of its own), deferred, limited or held (once for each version and reason), started (a roll).",
)
OUTCOMES = _metric(
    "rotation_outcomes_total",
    Kind.COUNTER,
    "outcome",
    "Ends of rolls: succeeded, failed, superseded; and on the way waiting_for_promotion, and reverted after failed.",
)
REGISTRATIONS = _metric(
    "registrations_total",
    Kind.COUNTER,
    "cause",
    "Jobs registered: for rotation, drift (somebody altered our part), restore (of what worked), any other change.",
)
TO_REGISTRATION = _metric(
    "secret_change_to_registration_seconds",
    Kind.HISTOGRAM,
    "",
    "From the making of a version in Vault, by Vault's clock, to the registration of the job that has it.",
    _CHANGE_SECONDS,
)
TO_DONE = _metric(
    "secret_change_to_done_seconds",
    Kind.HISTOGRAM,
    "",
    "From the making of a version in Vault, by Vault's clock, until its roll was seen to have succeeded.",
    _CHANGE_SECONDS,
)
ROLLING = _metric("rolls_in_flight", Kind.GAUGE, "connection", "Jobs that roll for a new version now.")
LAST_ROTATION = _metric(
    "last_rotation_timestamp_seconds",
    Kind.GAUGE,
    "source",
    "When a new version last served in all allocations of a job; no series before the first time.",
)
NEXT_ROTATION = _metric(
    "next_rotation_timestamp_seconds",
    Kind.GAUGE,
    "source",
    "The earliest moment at which a rotation is expected next; no series when none is.",
)
GENERATED = _metric(
    "values_generated_total", Kind.COUNTER, "", "New values that the controller had made, by schedule or on request."
)
DRIFT_FOUND = _metric(
    "drift_found_total",
    Kind.COUNTER,
    "object",
    "Policies, roles and jobs that were as they should be and were altered.",
)
DRIFT_MENDED = _metric("drift_mended_total", Kind.COUNTER, "object", "Those that were written again.")

LEADER = _metric(
    "leader", Kind.GAUGE, "", "1 while this controller works on jobs (it holds a shard, or is alone), else 0."
)
SHARDS = _metric("shards", Kind.GAUGE, "", "Into how many parts the jobs are divided among controllers.")
SHARDS_HELD = _metric("shards_held", Kind.GAUGE, "", "How many of these are this controller's.")
LEASES_STALE = _metric(
    "leases_staleness_seconds",
    Kind.GAUGE,
    "",
    "Since the server that holds the leases last answered; 0 for a controller alone.",
)
WATCH_STALE = _metric(
    "watch_staleness_seconds",
    Kind.GAUGE,
    "connection watch",
    "Since secrets and nomad_variables were last polled with success, and since the quietest stream of nomad_events "
    "last brought anything; 0 while there is nothing to watch.",
)
SOURCE_STALE = _metric(
    "source_staleness_seconds", Kind.GAUGE, "source", "Since the last word of a source of bindings, or since its start."
)
SOURCE_LISTED = _metric("source_listed", Kind.GAUGE, "source", "1 when a source has been listed completely.")
SOURCE_HEALTHY = _metric("source_healthy", Kind.GAUGE, "source", "1 while a source hears its server.")
SOURCE_HELD = _metric(
    "source_held_bindings",
    Kind.GAUGE,
    "source",
    "Bindings that are missing, of which nothing is deleted since too many are, or since it is not proven.",
)
POLICIES = _metric("policies", Kind.GAUGE, "", "SecretBindingPolicies that are known; 0 where tenancy is open.")
POLICIES_UNKNOWN = _metric(
    "policies_unknown",
    Kind.GAUGE,
    "",
    "1 while not all policies are known, so that nothing is allowed anew and nothing is taken away; else 0.",
)
TENANCY_OPEN = _metric(
    "tenancy_open", Kind.GAUGE, "", "1 where no policy is asked (SECRETBINDING_TENANCY=open), else 0."
)
HEALTH = _metric(
    "health_check_failing",
    Kind.GAUGE,
    "check",
    "1 while a check of /healthz fails, else 0: threads, workers, queue, loops.",
)
BUILD = _metric("build_info", Kind.GAUGE, "version python", "1, with the release that runs.")

PROCESS = (
    Metric("process_cpu_seconds_total", Kind.COUNTER, (), "Total user and system CPU time spent in seconds."),
    Metric("process_max_fds", Kind.GAUGE, (), "Maximum number of open file descriptors."),
    Metric("process_open_fds", Kind.GAUGE, (), "Number of open file descriptors."),
    Metric("process_resident_memory_bytes", Kind.GAUGE, (), "Resident memory size in bytes."),
    Metric("process_start_time_seconds", Kind.GAUGE, (), "Start time of the process since unix epoch in seconds."),
    Metric("process_virtual_memory_bytes", Kind.GAUGE, (), "Virtual memory size in bytes."),
)
"""What prometheus-client tells of the process, on Linux, under the names that all programs use."""


CATALOGUE = (*_own, *PROCESS)
"""All of them, in the order of this module."""
