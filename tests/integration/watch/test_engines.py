"""Database roles and PKI issuers of the real OpenBao: what its audit devices tell, and what it does by itself."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty

import pytest

from secretbinding.devstack.openbao import OpenBao
from tests.integration.watch.conftest import Audited
from tests.integration.watch.test_push import SOON, heard_again, hearing
from tests.integration.watch.watching import Watching, watching
from tests.support.pki import PkiEngine
from tests.support.postgres import DatabaseEngine, Postgres
from tests.support.world import wait_until
from tests.unit.watch.world import binding, of_kind

POLICY = Path(__file__).parents[3] / "deploy" / "vault-policy.hcl"


@dataclass(frozen=True)
class Heard:
    """A watch whose polls are an hour apart, over a job for each role; all roles have this name."""

    watch: Watching
    openbao: OpenBao
    database: DatabaseEngine
    pki: PkiEngine
    name: str

    @property
    def static(self) -> str:
        return f"{self.name}-static"


def shipped(openbao: OpenBao, name: str) -> str:
    """A token with the shipped policy."""
    openbao.put_policy(name, POLICY.read_text())
    body = {"policies": [name], "no_default_policy": True}
    return str(openbao.api.put("/v1/auth/token/create", body).expect(200).json()["auth"]["client_token"])


@pytest.fixture(scope="module")
def heard(audited: Audited, postgres: Postgres) -> Iterator[Heard]:
    name = uuid.uuid4().hex[:8]
    database, pki = DatabaseEngine(audited.openbao, postgres), PkiEngine(audited.openbao)
    database.static_role(f"{name}-static")
    database.dynamic_role(name)
    pki.role(name)
    audited.openbao.put_secret(name, {"value": "one"})
    items = [
        of_kind("static", "database", mount="database", staticRole=f"{name}-static"),
        of_kind("dynamic", "database", mount="database", role=name),
        of_kind("certificate", "pki", mount="pki", role=name, commonName="a.example"),
        binding("kv", name),
    ]
    with (
        watching(audited.openbao, items, token=shipped(audited.openbao, name)) as watch,
        hearing(audited, "tcp", watch.watcher.pushed),
    ):
        watch.looked(4)
        heard_again(audited, watch, name)
        with suppress(Empty):
            while True:
                watch.woken.get(timeout=0.3)
        yield Heard(watch, audited.openbao, database, pki, name)


def test_changes_are_seen_within_a_second_though_the_poll_is_an_hour_away(heard: Heard, unique: str) -> None:
    database, pki = heard.database, heard.pki
    pki.new_root(unique)
    changes: list[tuple[str, Callable[[], object]]] = [
        ("static", lambda: database.rotate(heard.static)),
        ("static", lambda: database.static_role(heard.static, period="12h")),
        ("dynamic", lambda: database.dynamic_role(heard.name, max_ttl="2h")),
        ("certificate", lambda: pki.role(heard.name, ttl="2h")),
        ("certificate", lambda: pki.use(unique)),
        ("certificate", lambda: pki.role(heard.name, ttl="2h", issuer="first")),
        ("certificate", lambda: pki.role(heard.name, ttl="2h")),
        ("certificate", lambda: pki.use("first")),
    ]
    for job, change in changes:
        started = time.monotonic()
        change()
        assert heard.watch.woken.get(timeout=10.0) == job
        assert time.monotonic() - started < SOON
    assert heard.watch.woken_so_far() == []


def test_what_changes_nothing_wakes_nobody(heard: Heard, unique: str) -> None:
    api, database, pki = heard.openbao.api, heard.database, heard.pki
    heard.watch.vault.reads.clear()
    for _ in range(5):
        api.get(f"/v1/database/static-creds/{heard.static}").expect()
        api.get(f"/v1/database/creds/{heard.name}").expect()
        api.put(f"/v1/pki/issue/{heard.name}", {"common_name": "a.example"}).expect()
    database.dynamic_role(f"{unique}-other")
    pki.role(f"{unique}-other")
    database.rotate(heard.static)
    assert heard.watch.woken.get(timeout=10.0) == "static"
    assert heard.watch.vault.reads == [f"database/static-roles/{heard.static}"]
    # A root that is not the default yet makes a look, and no more.
    pki.new_root(f"{unique}-next")
    looked_for = f"pki/roles/{heard.name}"
    wait_until("it is looked at", lambda: looked_for in heard.watch.vault.reads)
    assert heard.watch.woken_so_far() == []


def test_a_rotation_of_vaults_own_is_seen_when_it_is_due_though_nothing_tells_of_it(
    openbao: OpenBao, postgres: Postgres, unique: str
) -> None:
    database = DatabaseEngine(openbao, postgres)
    database.static_role(unique, period="5s")
    item = of_kind("web", "database", mount="database", staticRole=unique)
    with watching(openbao, [item], token=shipped(openbao, unique)) as watch:
        watch.looked(1)
        for _ in range(2):
            assert watch.woken.get(timeout=15.0) == "web"
            told = watch.vault.static_role("database", unique)
            assert told is not None
            rotated = datetime.fromisoformat(f"{told.rotated[:19]}+00:00")
            assert datetime.now(UTC) - rotated < timedelta(seconds=3)
