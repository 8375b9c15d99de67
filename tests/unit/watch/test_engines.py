"""The watch over secrets without versions: what is asked of Vault, when, and whom a change wakes."""

from dataclasses import replace

import pytest

from secretbinding.errors import Denied, NotFound
from secretbinding.ports import LeaseLimits, PkiRole
from secretbinding.sources.base import SourceItem
from secretbinding.watch.secrets import FIRST_LOOK_SECONDS, REFUSED_SECONDS
from tests.unit.watch.world import Watch, binding, of_kind

FORBIDDEN = Denied("may not", system="vault", status=403)
NO_MOUNT = NotFound("no database engine is mounted at database", system="vault", status=404)
STATIC = of_kind("web", "database", mount="database", staticRole="app")
DYNAMIC = of_kind("web", "database", mount="database", role="app")
CERTIFICATE = of_kind("web", "pki", mount="pki", role="app", commonName="a.example")


@pytest.fixture
def watch() -> Watch:
    watch = Watch()
    watch.vault.rotated("app", ago=60.0)
    watch.vault.roles["database/app"] = LeaseLimits(3600.0, 86400.0)
    watch.vault.pki_roles["pki/app"] = PkiRole(LeaseLimits(3600.0, 86400.0))
    watch.vault.issuers["pki/default"] = "one"
    return watch


def test_many_bindings_of_one_role_make_one_look_for_each_interval(watch: Watch) -> None:
    watch.bind(
        *(of_kind(f"s{number}", "database", mount="database", staticRole="app") for number in range(20)),
        *(of_kind(f"d{number}", "database", mount="database", role="app") for number in range(20)),
        *(
            of_kind(f"p{number}", "pki", mount="pki", role="app", commonName=f"{number}.example")
            for number in range(20)
        ),
    )
    watch.run(60.0)
    watch.forget()
    watch.run(300.0)
    for path in ("database/static-roles/app", "database/roles/app", "pki/roles/app", "pki/issuer/default"):
        assert 9 <= watch.vault.reads.count(path) <= 11, path
    assert watch.woken == []


def test_secrets_of_which_vault_tells_nothing_are_not_asked_for(watch: Watch) -> None:
    watch.bind(of_kind("web", "generic", mount="aws", path="creds/app", maxTTL="1h"))
    watch.run(300.0)
    assert (watch.vault.reads, watch.vault.listed) == ([], [])


def test_a_start_at_which_nothing_changed_wakes_nobody(watch: Watch) -> None:
    watch.bind(STATIC, replace(DYNAMIC, key=replace(DYNAMIC.key, name="api")))
    watch.run(120.0)
    assert watch.vault.reads
    assert watch.woken == []


def test_a_rotated_password_wakes_its_users_once(watch: Watch) -> None:
    watch.bind(STATIC, of_kind("api", "database", mount="database", staticRole="other"), binding("kv", "app"))
    watch.run(40.0)
    watch.forget()
    watch.vault.rotated("app")
    watch.run(100.0)
    assert watch.jobs_woken() == ["web"]


def test_another_issuer_wakes_the_users_of_each_of_its_roles(watch: Watch) -> None:
    watch.vault.pki_roles["pki/other"] = PkiRole(LeaseLimits(), "fixed")
    watch.vault.issuers["pki/fixed"] = "fixed"
    watch.bind(CERTIFICATE, of_kind("api", "pki", mount="pki", role="other", commonName="a.example"))
    watch.run(40.0)
    watch.vault.issuers["pki/default"] = "two"
    watch.run(100.0)
    assert watch.jobs_woken() == ["web"]


@pytest.mark.parametrize("item", [DYNAMIC, CERTIFICATE], ids=["database", "pki"])
def test_another_lifetime_wakes_its_users(watch: Watch, item: SourceItem) -> None:
    watch.bind(item)
    watch.run(40.0)
    watch.vault.roles["database/app"] = LeaseLimits(3600.0, 7200.0)
    watch.vault.pki_roles["pki/app"] = PkiRole(LeaseLimits(1800.0, 86400.0))
    watch.run(100.0)
    assert watch.jobs_woken() == ["web"]


@pytest.mark.parametrize("item", [STATIC, DYNAMIC, CERTIFICATE], ids=["static", "dynamic", "pki"])
def test_a_role_that_goes_and_one_that_comes_wake_their_users(watch: Watch, item: SourceItem) -> None:
    watch.bind(item)
    watch.run(40.0)
    roles = (watch.vault.static_roles, watch.vault.roles, watch.vault.pki_roles)
    before = [dict(each) for each in roles]
    for each in roles:
        each.clear()
    watch.run(100.0)
    assert watch.jobs_woken() == ["web"]
    for each, was in zip(roles, before, strict=True):
        each.update(was)
    watch.run(100.0)
    assert watch.jobs_woken() == ["web", "web"]


# --- by the clock -----------------------------------------------------------------------------------------------------


@pytest.fixture
def hourly() -> Watch:
    """Polls once an hour; has looked at a static role with a period of ten minutes, a minute after its rotation."""
    watch = Watch(interval=3600.0)
    watch.vault.rotated("app", ago=60.0, period=600.0)
    watch.bind(STATIC)
    watch.run(FIRST_LOOK_SECONDS + 1.0)
    watch.forget()
    return watch


def test_a_rotation_that_vault_makes_by_itself_is_looked_for_when_it_is_due(hourly: Watch) -> None:
    hourly.run(600.0 - 60.0 - FIRST_LOOK_SECONDS - 2.0)
    assert hourly.vault.reads == []
    hourly.vault.rotated("app", period=600.0)
    hourly.run(3.0)
    assert hourly.jobs_woken() == ["web"]


def test_a_rotation_that_is_late_is_looked_for_a_few_times(hourly: Watch) -> None:
    hourly.run(540.0 - FIRST_LOOK_SECONDS + 4.5)
    hourly.vault.rotated("app", period=600.0)
    hourly.run(2.5)
    assert hourly.jobs_woken() == ["web"]
    assert 3 <= len(hourly.vault.reads) <= 6


def test_each_rotation_is_looked_for_when_it_is_due(hourly: Watch) -> None:
    hourly.run(540.0 - FIRST_LOOK_SECONDS - 1.0)
    for _ in range(5):
        hourly.forget()
        hourly.vault.rotated("app", period=600.0)
        hourly.run(3.0)
        assert hourly.jobs_woken() == ["web"]
        assert len(hourly.vault.reads) <= 3
        hourly.run(597.0)


def test_a_rotation_that_vault_owes_is_not_looked_for_without_end(hourly: Watch) -> None:
    hourly.run(3000.0)
    assert len(hourly.vault.reads) <= 8
    # Nor because the engine works on the job meanwhile.
    for _ in range(20):
        hourly.engine_pass("web")
        hourly.forget()
        hourly.run(5.0)
        assert hourly.vault.reads == []


def test_a_rotation_that_comes_much_too_late_is_found_by_the_poll(watch: Watch) -> None:
    watch.vault.rotated("app", ago=60.0, period=120.0)
    watch.bind(STATIC)
    watch.run(200.0)
    assert watch.woken == []
    watch.vault.rotated("app", period=120.0)
    watch.run(35.0)
    assert watch.jobs_woken() == ["web"]


def test_a_rotation_is_looked_for_by_the_servers_clock_however_often_it_is_set(hourly: Watch) -> None:
    hourly.clock.ahead = 60.0
    hourly.engine_pass("web")
    hourly.forget()
    hourly.run(540.0 - FIRST_LOOK_SECONDS - 60.0 - 3.0)
    assert hourly.vault.reads == []
    hourly.run(5.0)
    assert hourly.vault.reads


@pytest.mark.parametrize("late", [0.2, 2.1, 4.5])
def test_what_the_engine_sees_is_enough_to_know_when_a_rotation_is_due_before_any_look(late: float) -> None:
    for seed in range(5):
        watch = Watch(interval=3600.0, seed=seed)
        watch.vault.rotated("app", ago=59.0, period=60.0)
        watch.bind(STATIC)
        watch.run(1.0 + late)
        watch.vault.rotated("app", period=60.0)
        watch.run(2.5)
        assert watch.jobs_woken() == ["web"]


def test_the_clock_does_not_make_looks_at_what_nobody_uses_any_more(hourly: Watch) -> None:
    hourly.store.upsert(replace(STATIC, deleting=True))
    hourly.run(2000.0)
    assert hourly.vault.reads == []


# --- push -------------------------------------------------------------------------------------------------------------


def test_a_rotation_by_hand_that_vault_tells_of_is_seen_at_once(hourly: Watch) -> None:
    hourly.vault.rotated("app", period=600.0)
    hourly.watcher.pushed("database/rotate-role/app")
    hourly.run(0.15)
    assert hourly.jobs_woken() == ["web"]
    assert len(hourly.vault.reads) == 1


def test_a_push_does_not_make_the_watch_forget_what_is_due(hourly: Watch) -> None:
    hourly.watcher.pushed("database/static-roles/app")
    hourly.run(540.0 - FIRST_LOOK_SECONDS)
    hourly.forget()
    hourly.vault.rotated("app", period=600.0)
    hourly.run(3.0)
    assert hourly.jobs_woken() == ["web"]


def test_another_issuer_that_vault_tells_of_is_seen_at_once() -> None:
    watch = Watch(interval=3600.0)
    watch.vault.pki_roles["pki/app"] = PkiRole(LeaseLimits(3600.0, 0.0))
    watch.vault.issuers["pki/default"] = "one"
    watch.bind(CERTIFICATE)
    watch.run(FIRST_LOOK_SECONDS + 1.0)
    watch.forget()
    watch.vault.issuers["pki/default"] = "two"
    watch.watcher.pushed("pki/config/issuers")
    watch.run(0.15)
    assert watch.jobs_woken() == ["web"]


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [FORBIDDEN, NO_MOUNT], ids=["denied", "no mount"])
def test_a_look_that_is_refused_is_made_less_and_less_often_and_its_success_wakes_the_users(
    watch: Watch, failure: Exception
) -> None:
    watch.store.upsert(STATIC)
    watch.vault.failure = failure
    watch.run(1200.0)
    watch.forget()
    watch.run(3 * REFUSED_SECONDS)
    assert 2 <= len(watch.vault.reads) <= 4
    assert watch.woken == []
    watch.vault.failure = None
    watch.run(1.2 * REFUSED_SECONDS)
    assert watch.jobs_woken() == ["web"]
    watch.forget()
    watch.run(300.0)
    assert 9 <= len(watch.vault.reads) <= 11
