"""Bindings in Nomad variables: what cannot be read for once is read again soon, though nothing changes.

And what is said of a Nomad that goes away.
"""

import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest
import yaml
from structlog.testing import capture_logs

from secretbinding.errors import Denied, Unreachable
from secretbinding.models.key import BindingKey
from secretbinding.ports import Nomad, Variable, VariableMeta
from secretbinding.sources.base import SourceItem
from secretbinding.sources.nomad import BINDINGS, MANIFEST_ITEM, REQUEST_ITEM, REQUESTS, NomadSource
from secretbinding.sources.policies.nomad import NomadPolicies
from tests.support.world import a_manifest, wait_until


class Variables:
    """One binding's variable. Reading it is refused a number of times; a list with an index takes its whole wait, but
    for one that is cut short when the variable is deleted."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.deleted = threading.Event()
        self.told = False
        self.waited: list[float] = []
        self.stopped = threading.Event()

    def list_variables(
        self, namespace: str, prefix: str, *, index: int = 0, wait_seconds: float = 0.0
    ) -> tuple[int, Sequence[VariableMeta]]:
        if prefix != BINDINGS:
            self.stopped.wait(60.0 if index else 0.0)
            return 1, []
        if index:
            self.waited.append(wait_seconds)
            (self.stopped if self.told else self.deleted).wait(wait_seconds)
        if self.deleted.is_set():
            self.told = True
            return 9, []
        return 7, [VariableMeta("default", f"{BINDINGS}web", 7)]

    def read_variable(self, namespace: str, path: str) -> Variable | None:
        if not path.startswith(BINDINGS):
            return None
        if self.refusals:
            self.refusals -= 1
            raise Denied("not now", system="nomad", operation="read variable", remedy="")
        if self.deleted.is_set():
            return None
        return Variable(namespace, path, 7, {MANIFEST_ITEM: yaml.safe_dump(a_manifest("web", "web", "web"))})


class Sink:
    def __init__(self) -> None:
        self.items: list[SourceItem] = []
        self.gone: list[BindingKey] = []

    def upsert(self, item: SourceItem) -> None:
        self.items.append(item)

    def vanished(self, key: BindingKey) -> None:
        self.gone.append(key)

    def listed(self, source: str) -> None:
        """Told, and of no interest here."""


def test_a_binding_that_may_not_be_read_for_a_moment_is_read_before_anything_changes() -> None:
    variables, sink = Variables(refusals=1), Sink()
    source = NomadSource(cast(Nomad, variables), ("default",), wait_seconds=60.0)
    source.start(sink)
    try:
        wait_until("it is read", lambda: bool(sink.items), timeout=10)
        wait_until("the next list waits for a change", lambda: len(variables.waited) == 2)
        assert sink.gone == []
    finally:
        variables.deleted.set()
        variables.stopped.set()
        source.stop()
    assert variables.waited[0] <= 2.0
    assert variables.waited[1] == 60.0


def test_a_missing_binding_that_may_not_be_asked_for_for_a_moment_is_found_gone_before_anything_changes() -> None:
    variables, sink = Variables(refusals=0), Sink()
    source = NomadSource(cast(Nomad, variables), ("default",), wait_seconds=60.0)
    source.start(sink)
    try:
        wait_until("it is known", lambda: bool(sink.items))
        variables.refusals = 1
        variables.deleted.set()
        wait_until("it is found out of sight", lambda: source.pulse().held == 1)
        wait_until("it is found gone", lambda: bool(sink.gone), timeout=20)
        assert source.pulse().held == 0
        wait_until("the next list waits for a change", lambda: variables.waited[-1] == 60.0)
    finally:
        variables.deleted.set()
        variables.stopped.set()
        source.stop()
    assert variables.waited[1] <= 2.0
    assert len(sink.gone) == 1


class Broken:
    """A Nomad whose lists wait until they break off."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.broken = threading.Event()

    def list_variables(self, *arguments: Any, **named: Any) -> Any:
        self.asked.set()
        self.broken.wait(60.0)
        raise Unreachable("the connection broke off", system="nomad")


class Told:
    def __init__(self) -> None:
        self.failures: list[str] = []

    def failed(self, source: str, why: str) -> None:
        self.failures.append(why)


def bindings_of(nomad: Broken) -> Any:
    return NomadSource(cast(Nomad, nomad), ("default",))


def policies_of(nomad: Broken) -> Any:
    return NomadPolicies(cast(Nomad, nomad), "default")


@pytest.mark.parametrize("made", [bindings_of, policies_of])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_nomad_that_goes_away_is_told_unless_everything_is_being_stopped(made: Any, stopped: bool) -> None:
    nomad, sink = Broken(), Told()
    before = set(threading.enumerate())
    source = made(nomad)
    with capture_logs() as lines:
        source.start(cast(Any, sink))
        assert nomad.asked.wait(10.0)
        if stopped:
            source.stop()
        nomad.broken.set()
        if not stopped:
            wait_until("it is told", lambda: bool(lines))
            source.stop()
        for thread in set(threading.enumerate()) - before:
            thread.join(30.0)
            assert not thread.is_alive()
    assert bool(lines) is not stopped
    assert not (stopped and sink.failures)


class Requests:
    """A Nomad with bindings `web` and `api` and a request for each, of which that of `api` may not be read."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.waited: list[float] = []
        self.may_read = False

    def list_variables(
        self, namespace: str, prefix: str, *, index: int = 0, wait_seconds: float = 0.0
    ) -> tuple[int, Sequence[VariableMeta]]:
        if index:
            if prefix == REQUESTS:
                self.waited.append(wait_seconds)
            self.stopped.wait(wait_seconds)
        return 7, [VariableMeta("default", f"{prefix}{name}", 7) for name in ("api", "web")]

    def read_variable(self, namespace: str, path: str) -> Variable | None:
        name = path.rpartition("/")[2]
        if path.startswith(BINDINGS):
            return Variable(namespace, path, 7, {MANIFEST_ITEM: yaml.safe_dump(a_manifest(name, name, name))})
        if path.startswith(REQUESTS) and name == "api" and not self.may_read:
            raise Denied("no right", system="nomad", operation="read variable", remedy="")
        return (
            Variable(namespace, path, 7, {REQUEST_ITEM: "2026-11-25T12:00:00Z"}) if path.startswith(REQUESTS) else None
        )


def test_a_request_that_may_not_be_read_stops_no_other_and_is_read_when_it_may_be() -> None:
    variables, sink = Requests(), Sink()
    source = NomadSource(cast(Nomad, variables), ("default",), wait_seconds=60.0)
    source.start(sink)

    def asked() -> set[str]:
        return {item.key.name for item in [*sink.items] if item.rotate_requested_at}

    try:
        wait_until("the other one is asked for", lambda: asked() == {"web"})
        variables.may_read = True
        wait_until("both are", lambda: asked() == {"web", "api"}, timeout=20)
    finally:
        variables.stopped.set()
        source.stop()
    assert variables.waited[0] <= 2.0
