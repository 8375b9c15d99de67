"""How bindings get on while a command waits: a live table on a terminal, a line for each change elsewhere."""

import time
from collections.abc import Mapping
from types import TracebackType

from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from secretbinding.cli.console import printable, stderr
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import ConditionStatus, SecretBindingStatus
from secretbinding.plan import Action
from secretbinding.plan_text import describe


class Progress:
    """Shows each action when it was done and each binding's state as it changes, on standard error.

    `jobs` gives the job that each binding names.
    """

    def __init__(self, jobs: Mapping[BindingKey, str]) -> None:
        self._console = stderr()
        self._jobs = jobs
        self._states: dict[BindingKey, str] = dict.fromkeys(jobs, "looking")
        self._done: set[BindingKey] = set()
        self._started = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def did(self, workload: WorkloadKey, action: Action) -> None:
        """An action was done."""
        from secretbinding.cli.forecast import replaced_at_once

        place = f"{workload.namespace}/{workload.job}"
        self._print(f"{place}: {describe(action)}")
        warning = replaced_at_once(action)
        if warning:
            self._print(f"{place}: {warning}")

    def changed(self, key: BindingKey, status: SecretBindingStatus) -> None:
        """A binding has a new status."""
        state = state_of(status)
        if state == Reason.READY.value:
            self._done.add(key)
        else:
            self._done.discard(key)
        if self._states.get(key) != state:
            self._states[key] = state
            if self._live is None:
                self._print(f"{key.tenant}/{key.name}: {state}")

    def _print(self, line: str) -> None:
        self._console.print(Text(f"{time.monotonic() - self._started:6.1f}s  {printable(line)}"))

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for key, state in self._states.items():
            mark = Text("✓", style="green") if key in self._done else Spinner("dots")
            table.add_row(mark, f"{key.tenant}/{key.name}", self._jobs[key], Text(printable(state)))
        table.add_row("", Text(f"{time.monotonic() - self._started:.0f}s", style="dim"))
        return table


def state_of(status: SecretBindingStatus) -> str:
    """A status in one line: the reason of Ready, or of the rotation when that has more to say."""
    ready, rotation = status.condition(ConditionType.READY), status.condition(ConditionType.ROTATION_HEALTHY)
    if ready is None:
        return "Pending"
    shown = ready
    if ready.status is ConditionStatus.TRUE and rotation is not None and rotation.reason != Reason.UP_TO_DATE.value:
        shown = rotation
    return f"{shown.reason}: {shown.message}" if shown.message else shown.reason
