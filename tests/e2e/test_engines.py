"""Database credentials and certificates, with the whole controller on both Nomads, a real database, and the rights that
are shipped."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from secretbinding.models.reasons import ConditionType, Reason
from tests.support.pki import PkiEngine
from tests.support.postgres import DATABASE, DatabaseEngine, Postgres
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

POLICY = Path(__file__).parents[2] / "deploy" / "vault-policy.hcl"
HOUR = 3600.0
NEVER_NOW = {"kind": "Deny", "schedule": "* * * * *", "duration": "2m"}
VARIABLES = {"DB_USER": "username", "DB_PASS": "password"}


def controlled(stack: Stack, name: str, **own: Any) -> World:
    """A controller with the shipped rights in Vault."""
    stack.openbao.put_policy(f"controller-{name}", POLICY.read_text())
    body = {"policies": [f"controller-{name}"], "no_default_policy": True}
    token = stack.openbao.api.put("/v1/auth/token/create", body).expect().json()["auth"]["client_token"]
    return World(stack, vault_token=str(token), **own)


@pytest.fixture
def database(stack: Stack, postgres: Postgres) -> DatabaseEngine:
    return DatabaseEngine(stack.openbao, postgres)


@pytest.fixture
def pki(stack: Stack) -> PkiEngine:
    return PkiEngine(stack.openbao)


@pytest.fixture
def cleared(stack: Stack, unique: str) -> Iterator[None]:
    """The job is gone afterwards: it would keep its leases alive."""
    yield
    stack.api.delete(f"/v1/job/{unique}", purge="true")


def client_job(name: str, postgres: Postgres) -> dict[str, Any]:
    """A job that logs in to the database again and again, reports with what and how, and notes each refusal."""
    login = f"{postgres.psql} -h {postgres.host} -p {postgres.port} -U $DB_USER -d {DATABASE} -XAtc 'SELECT 1'"
    note = 'said=refused; test -z "$DB_USER" || echo $DB_USER >> local/refused'
    told = "echo $DB_USER $DB_PASS $said > local/new; mv local/new local/seen"
    tried = f"if PGPASSWORD=$DB_PASS {login} > /dev/null 2>&1; then said=ok; else {note}; fi"
    script = f"while true; do {tried}; {told}; sleep 0.3; done"
    job = a_job(name)
    job["TaskGroups"][0]["Tasks"][0]["Config"]["args"] = ["-c", script]
    return job


def manifest(name: str, secret: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    """A binding of one secret."""
    made = a_manifest(name, name, "none", **spec)
    made["spec"]["secrets"] = [{"name": "db", **secret}]
    return made


def credentials(world: World, name: str) -> list[str]:
    """User, password, and how the login went, of the one allocation that runs."""
    seen = world.seen(name)
    return seen[0].split() if len(seen) == 1 else []


def logged_in(world: World, name: str) -> bool:
    return credentials(world, name)[2:] == ["ok"]


def logged_in_anew(world: World, name: str, before: list[str]) -> bool:
    """Whether it logged in with another password."""
    now = credentials(world, name)
    return now[2:] == ["ok"] and now != before


def refusals(world: World, name: str) -> list[str]:
    """The allocations of a job that were refused by the database, whether they run still or not."""
    rows = world.api.get(f"/v1/job/{name}/allocations", all="true").expect().json()
    found = []
    for row in rows:
        listed = world.api.get(f"/v1/client/fs/ls/{row['ID']}", path="web/local").expect().json()
        if "refused" in [entry["Name"] for entry in listed]:
            found.append(str(row["ID"]))
    return found


def version(world: World, name: str) -> int:
    return int(world.job(name)["Version"])


def serving(world: World, name: str) -> str:
    status = world.status(name)
    assert status is not None
    return str(status.secrets[0].serving_version)


def last_rotation(world: World, role: str) -> str:
    found = world.vault.get(f"/v1/database/static-roles/{role}").expect().json()["data"]
    return str(found["last_vault_rotation"])


@pytest.mark.usefixtures("cleared")
def test_a_password_that_somebody_rotates_rolls_the_job_once_and_waits_for_no_window(
    stack: Stack, database: DatabaseEngine, postgres: Postgres, unique: str
) -> None:
    world = controlled(stack, unique)
    database.static_role(unique)
    world.register(client_job(unique, postgres))
    secret = {"database": {"mount": "database", "staticRole": unique}, "env": VARIABLES}
    with world.running():
        world.bind(manifest(unique, secret, rotation={"windows": [NEVER_NOW]}))
        wait_until("it logs in", lambda: logged_in(world, unique))
        world.await_reason(unique, Reason.READY)
        before, first = version(world, unique), credentials(world, unique)
        assert first
        assert serving(world, unique) == last_rotation(world, unique)
        database.rotate(unique)
        wait_until("it logs in anew", lambda: logged_in_anew(world, unique, first))
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        wait_until("the status says so", lambda: serving(world, unique) == last_rotation(world, unique))
        assert credentials(world, unique)[:2] == [unique, database.password(unique)]
        assert version(world, unique) == before + 1
        assert not postgres.lets_in(*first[:2])


@pytest.mark.usefixtures("cleared")
def test_a_password_that_vault_rotates_by_itself_rolls_the_job_though_polls_are_an_hour_apart(
    stack: Stack, database: DatabaseEngine, postgres: Postgres, unique: str
) -> None:
    world = controlled(stack, unique, poll_seconds=HOUR)
    database.static_role(unique, period="15s")
    world.register(client_job(unique, postgres))
    secret = {"database": {"mount": "database", "staticRole": unique}, "env": VARIABLES}
    with world.running():
        world.bind(manifest(unique, secret))
        wait_until("it logs in", lambda: logged_in(world, unique))
        first, before = credentials(world, unique), version(world, unique)
        assert first
        wait_until("it is registered", lambda: version(world, unique) > before)
        registered = datetime.fromtimestamp(world.job(unique)["SubmitTime"] / 1e9, UTC)
        rotated = datetime.fromisoformat(f"{last_rotation(world, unique)[:19]}+00:00")
        # Well before the next rotation: nobody has waited for a poll, however busy the machine is.
        assert registered - rotated < timedelta(seconds=10)
        wait_until("it logs in anew", lambda: logged_in_anew(world, unique, first))


@pytest.mark.usefixtures("cleared")
def test_credentials_that_end_are_replaced_before_it_and_nobody_is_ever_refused(
    stack: Stack, database: DatabaseEngine, postgres: Postgres, unique: str
) -> None:
    world = controlled(stack, unique, poll_seconds=HOUR)
    database.dynamic_role(unique, ttl="10s", max_ttl="30s")
    world.register(client_job(unique, postgres))
    secret = {"database": {"mount": "database", "role": unique}, "env": VARIABLES}
    with world.running():
        world.bind(manifest(unique, secret))
        wait_until("it logs in", lambda: logged_in(world, unique))
        world.await_reason(unique, Reason.READY)
        first, before = credentials(world, unique), version(world, unique)
        assert first
        (allocation,) = world.running_allocations(unique)
        wait_until("it is registered", lambda: version(world, unique) > before)
        age = world.job(unique)["SubmitTime"] - allocation["CreateTime"]
        assert 17.0 < age / 1e9 < 29.0
        wait_until("it logs in anew", lambda: logged_in_anew(world, unique, first))
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        assert version(world, unique) == before + 1
        assert refusals(world, unique) == []


# Two fifths of a life of 30 s are over when credentials are due, and windows are waited for until 17 to 24 s of it.
EARLY = 0.4


@pytest.mark.usefixtures("cleared")
def test_credentials_that_are_due_wait_for_a_window_and_are_replaced_before_they_end_though_it_stays_closed(
    stack: Stack, database: DatabaseEngine, postgres: Postgres, unique: str
) -> None:
    world = controlled(stack, unique, poll_seconds=HOUR, lease_share=EARLY)
    database.dynamic_role(unique, ttl="10s", max_ttl="30s")
    world.register(client_job(unique, postgres))
    secret = {"database": {"mount": "database", "role": unique}, "env": VARIABLES}
    with world.running():
        world.bind(manifest(unique, secret, rotation={"windows": [NEVER_NOW]}))
        wait_until("it logs in", lambda: logged_in(world, unique))
        world.await_reason(unique, Reason.READY)
        first, before = credentials(world, unique), version(world, unique)
        assert first
        (allocation,) = world.running_allocations(unique)
        world.await_reason(unique, Reason.NEW_VERSION_HELD, ConditionType.ROTATION_HEALTHY)
        assert "no window is open now" in world.message(unique, ConditionType.ROTATION_HEALTHY)
        wait_until("it is registered", lambda: version(world, unique) > before)
        age = (world.job(unique)["SubmitTime"] - allocation["CreateTime"]) / 1e9
        # A share of it that is cut to whole seconds, from a moment that is: up to a second earlier than 16.5.
        assert 15.0 < age < 30.0
        wait_until("it logs in anew", lambda: logged_in_anew(world, unique, first))
        assert refusals(world, unique) == []


@pytest.mark.usefixtures("cleared")
def test_credentials_of_a_group_that_nomad_would_replace_all_at_once_are_left_to_nomad(
    stack: Stack, database: DatabaseEngine, postgres: Postgres, unique: str
) -> None:
    world = controlled(stack, unique, poll_seconds=HOUR, lease_share=EARLY)
    database.dynamic_role(unique, ttl="10s", max_ttl="30s")
    job = client_job(unique, postgres)
    job["TaskGroups"][0]["Update"]["MaxParallel"] = 0
    world.register(job)
    secret = {"database": {"mount": "database", "role": unique}, "env": VARIABLES}
    with world.running():
        world.bind(manifest(unique, secret))
        wait_until("it logs in", lambda: logged_in(world, unique))
        world.await_reason(unique, Reason.READY)
        first, before = credentials(world, unique), version(world, unique)
        assert first
        (allocation,) = world.running_allocations(unique)
        world.await_reason(unique, Reason.UNGATED_UPDATE, ConditionType.ROTATION_HEALTHY)
        # Nomad fetches others when they have ended, and restarts the task in place.
        wait_until("it logs in anew", lambda: logged_in_anew(world, unique, first))
        assert [each["ID"] for each in world.running_allocations(unique)] == [allocation["ID"]]
        assert version(world, unique) == before
        assert world.reason(unique, ConditionType.ROTATION_HEALTHY) == Reason.UNGATED_UPDATE


@pytest.mark.usefixtures("cleared")
def test_another_issuer_rolls_the_job_once_to_certificates_of_its_own(
    stack: Stack, pki: PkiEngine, unique: str
) -> None:
    world = controlled(stack, unique)
    pki.role(unique)
    pki.new_root(unique)
    world.register(a_job(unique))
    secret = {
        "pki": {"mount": "pki", "role": unique, "commonName": "a.example", "ttl": "2h"},
        "files": [{"destination": "local/tls.pem"}],
    }

    def issuers() -> list[str]:
        """The names of the issuers of the certificates that the job has, its chain included."""
        (allocation,) = world.running_allocations(unique)
        text = world.api.get(f"/v1/client/fs/cat/{allocation['ID']}", path="web/local/tls.pem").expect().text
        assert "PRIVATE KEY" in text
        found = x509.load_pem_x509_certificates(text.encode())
        return [str(each.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value) for each in found]

    with world.running():
        world.bind(manifest(unique, secret))
        world.await_reason(unique, Reason.READY)
        before = version(world, unique)
        assert issuers() == ["root first"] * 2
        pki.use(unique)
        try:
            wait_until("it is registered", lambda: version(world, unique) > before)
            world.deployed(unique)
            world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
            assert issuers() == [f"root {unique}"] * 2
            assert version(world, unique) == before + 1
        finally:
            pki.use("first")
