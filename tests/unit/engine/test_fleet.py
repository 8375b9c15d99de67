"""Which engine a binding is given to, and when the one before gives it up."""

from typing import cast

from secretbinding.desired import Desired
from secretbinding.desired.values import BindingInput, BindingResult, Observed
from secretbinding.engine.fleet import Fleet
from secretbinding.engine.loop import Engine, EngineSettings
from secretbinding.engine.moving import takes_in
from secretbinding.engine.reconciler import Reconciler
from secretbinding.kinds import Fault
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.reasons import Reason
from secretbinding.ports import Vault
from secretbinding.sources.base import SourceItem
from secretbinding.status import Pass
from tests.support.builders import binding, kv

KEY = BindingKey("nomad", "team", "app")
HERE, THERE = WorkloadKey("default", "", "default", "api"), WorkloadKey("eu", "", "default", "api")


class Ships:
    """Two engines that do not run; `judge` is a pass of one of them."""

    def __init__(self) -> None:
        self.leads = True
        self.fleet = Fleet()
        self.engines = {name: self._engine(name) for name in ("default", "eu")}

    def _engine(self, name: str) -> Engine:
        engine = Engine(
            cast(Reconciler, self),
            cast(Vault, None),
            EngineSettings(instance=name),
            owns=lambda workload: self.leads,
            connection=name,
            elsewhere=self.fleet.elsewhere(name),
        )
        self.fleet.add(engine)
        self.found: Pass | None = None
        self.ran: list[tuple[WorkloadKey, list[BindingInput]]] = []
        return engine

    def run(self, workload: WorkloadKey, bindings: list[BindingInput]) -> Pass:
        self.ran.append((workload, bindings))
        return self.found or a_pass(workload)

    def bind(self, connection: str | None = None, *, deleting: bool = False, broken: bool = False) -> None:
        names = {} if connection is None else {"connection": connection}
        made = None if broken else binding(kv("s"), lambda manifest: manifest["spec"].update(names), job="api")
        self.fleet.upsert(SourceItem(KEY, made, "team", job="api", deleting=deleting))

    def where(self) -> list[str]:
        return [name for name, engine in self.engines.items() if engine.store.get(KEY) is not None]

    def given_up(self, workload: WorkloadKey) -> bool:
        """Whether a pass over the job would take the binding out."""
        self.ran.clear()
        self.engines[workload.connection].reconcile(workload)
        return any(item.deleting for _, bindings in self.ran for item in bindings)


def a_pass(workload: WorkloadKey, *, fault: Fault | None = None, error: Fault | None = None) -> Pass:
    desired = Desired(None, {}, {}, {KEY: BindingResult(KEY, fault)})
    return Pass("default", Observed(workload), None if error else desired, None, error=error)


def test_a_binding_is_given_to_the_connection_that_it_names() -> None:
    for named, place in ((None, "default"), ("default", "default"), ("eu", "eu")):
        ships = Ships()
        ships.bind(named)
        assert ships.where() == [place]
        assert ships.fleet.get(KEY) is ships.engines[place].store.get(KEY)
        assert len(ships.fleet.snapshot()) == 1


def test_one_that_names_no_known_connection_or_cannot_be_read_stays_where_it_is() -> None:
    ships = Ships()
    ships.bind("eu")
    ships.bind("mars")
    assert ships.where() == ["eu"]
    ships.bind(broken=True)
    assert ships.where() == ["eu"]
    fresh = Ships()
    fresh.bind("mars")
    assert fresh.where() == ["default"]


def test_the_one_before_gives_it_up_when_the_new_one_has_taken_it_in() -> None:
    ships = Ships()
    ships.bind()
    ships.bind("eu")
    assert ships.where() == ["eu"]
    assert not ships.given_up(HERE)
    ships.engines["eu"].reconcile(THERE)
    assert ships.given_up(HERE)


def test_it_keeps_it_while_the_new_one_cannot_or_does_not_take_it() -> None:
    ships = Ships()
    ships.bind()
    ships.bind("eu")
    for found in (
        a_pass(THERE, error=Fault(Reason.VAULT_UNREACHABLE, "away")),
        a_pass(THERE, fault=Fault(Reason.VAULT_BLOCK_CONFLICT, "taken")),
    ):
        ships.found = found
        ships.engines["eu"].reconcile(THERE)
        assert not ships.given_up(HERE)


def test_whoever_takes_over_in_the_middle_of_a_move_does_not_take_it_for_done() -> None:
    ships = Ships()
    ships.leads = False
    ships.bind()
    ships.bind("eu")
    ships.leads = True
    assert not ships.engines["eu"].has_taken_in(KEY)
    assert not ships.given_up(HERE)
    ships.engines["eu"].reconcile(THERE)
    assert ships.given_up(HERE)


def test_one_that_is_deleted_on_its_way_leaves_both() -> None:
    ships = Ships()
    ships.bind()
    ships.bind("eu")
    ships.bind("eu", deleting=True)
    assert ships.given_up(HERE)
    assert ships.given_up(THERE)


def test_one_that_comes_back_is_not_given_up() -> None:
    ships = Ships()
    ships.bind()
    ships.bind("eu")
    ships.bind()
    ships.engines["default"].reconcile(HERE)
    assert ships.where() == ["default"]
    assert not ships.given_up(HERE)


def test_a_suspended_or_refused_binding_is_not_taken_in() -> None:
    item = BindingInput(KEY, binding(kv("s")))
    assert takes_in(item, a_pass(THERE))
    refused = Pass("x", Observed(THERE), a_pass(THERE).desired, faults={KEY: Fault(Reason.REFUSED_BY_POLICY, "no")})
    assert not takes_in(item, refused)
    frozen = BindingInput(KEY, binding(kv("s")), frozen=Fault(Reason.SUSPENDED, "suspended"))
    assert not takes_in(frozen, a_pass(THERE))
