"""What each kind of secret says of itself: rights, versions, fields, and how a template reads it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from secretbinding.errors import Denied
from secretbinding.kinds import KINDS, Pin, Reading, Right, SecretState
from secretbinding.kinds.base import RENEW
from secretbinding.models.binding import SecretEntry
from secretbinding.models.reasons import Reason
from secretbinding.ports import KvMetadata, KvVersion, LeaseLimits, PkiRole, StaticRole
from tests.support import builders as make
from tests.support.builders import created

PIN = Pin(7, created(7))
OFFERS = ("password", "username")
BOTH = '{"password":{{ .Data.password | toJSON }},"username":{{ .Data.username | toJSON }}}\n'


class KvServer:
    """The part of Vault that tells of KV secrets. Every other question is an error."""

    def __init__(
        self,
        metadata: KvMetadata | None = None,
        *,
        engine: str | None = "v2",
        deny: str = "",
        keeps: int | None = None,
    ) -> None:
        self.metadata, self.engine, self.deny, self.keeps = metadata, engine, deny, keeps
        self.asked: list[str] = []

    def kv_engine(self, mount: str) -> str | None:
        self.asked.append(f"engine {mount}")
        return self.engine

    def kv_max_versions(self, mount: str) -> int | None:
        return self.keeps

    def kv_metadata(self, mount: str, path: str) -> KvMetadata | None:
        self.asked.append(f"metadata {mount}/{path}")
        if self.deny == "metadata":
            raise Denied("no right to secret/metadata/myapp", system="vault")
        return self.metadata

    def kv_fields(self, mount: str, path: str, version: int) -> Mapping[str, Any] | None:
        self.asked.append(f"fields {version}")
        if self.deny == "fields":
            raise Denied("no right to secret/subkeys/myapp", system="vault")
        return {"password": None}


def metadata(current: int, **gone: tuple[int, ...]) -> KvMetadata:
    versions = {
        number: KvVersion(
            number, created(number), number in gone.get("deleted", ()), number in gone.get("destroyed", ())
        )
        for number in range(1, current + 1)
    }
    return KvMetadata(current, versions, max_versions=5)


def kv(**spec: Any) -> SecretEntry:
    return make.binding(make.kv("app", **spec)).spec.secrets[0]


def observe(entry: SecretEntry, server: Any, *versions: int) -> SecretState:
    return KINDS[entry.kind_name].observe(entry, server, versions)


def test_the_fields_of_the_newest_and_of_each_serving_version_are_looked_at_and_no_others() -> None:
    server = KvServer(metadata(5))
    state = observe(kv(), server, 3)
    assert set(state.fields) == {3, 5}
    assert (state.engine, state.pinnable, state.current, state.max_versions) == ("v2", True, 5, 5)


@pytest.mark.parametrize("keeps", [None, 0, 7])
def test_how_many_versions_the_mount_keeps_is_told_where_it_is_known(keeps: int | None) -> None:
    assert observe(kv(), KvServer(metadata(5), keeps=keeps)).mount_max_versions == keeps


def test_fields_of_a_version_that_cannot_be_read_are_not_asked_for() -> None:
    server = KvServer(metadata(5, deleted=(5,), destroyed=(3,)))
    assert observe(kv(version=4), server, 3).fields == {4: {"password": None}}
    assert [line for line in server.asked if line.startswith("fields")] == ["fields 4"]


def test_an_engine_that_is_named_is_not_asked_for() -> None:
    server = KvServer(metadata(1))
    observe(kv(engine="v2"), server)
    assert "engine secret" not in server.asked
    assert observe(kv(engine="v1"), KvServer()) == SecretState(engine="v1")


def test_an_engine_that_the_server_does_not_tell_is_taken_for_version_2() -> None:
    assert observe(kv(), KvServer(metadata(1), engine=None)).engine == "v2"


@pytest.mark.parametrize("there", [None, KvMetadata(0)])
def test_a_secret_that_is_not_there_is_a_fault(there: KvMetadata | None) -> None:
    fault = observe(kv(), KvServer(there)).fault
    assert fault is not None
    assert fault.reason is Reason.SECRET_NOT_FOUND
    assert "secret/myapp" in fault.message


@pytest.mark.parametrize("what", ["metadata", "fields"])
def test_a_missing_right_is_that_secrets_fault_and_no_one_elses(what: str) -> None:
    fault = observe(kv(), KvServer(metadata(1), deny=what)).fault
    assert fault is not None
    assert fault.reason is Reason.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("entry", "state", "pin", "right", "reading"),
    [
        (
            kv(),
            SecretState("v2", pinnable=True),
            PIN,
            Right("secret/data/myapp", ("read",)),
            Reading("secret/data/myapp?version=7", ".Data.data", polls=False),
        ),
        (
            kv(),
            SecretState("v2", pinnable=True),
            None,
            Right("secret/data/myapp", ("read",)),
            Reading("secret/data/myapp", ".Data.data", polls=True),
        ),
        (kv(), SecretState("v1"), None, Right("secret/myapp", ("read",)), Reading("secret/myapp", ".Data", polls=True)),
        (
            make.binding(make.generic("cloud")).spec.secrets[0],
            SecretState("generic"),
            None,
            Right("aws/creds/deploy", ("read",)),
            Reading("aws/creds/deploy", ".Data", polls=True, leased=True),
        ),
        (
            make.binding(make.database()).spec.secrets[0],
            SecretState("database"),
            None,
            Right("database/creds/app", ("read",)),
            Reading("database/creds/app", ".Data", polls=True, leased=True, default=BOTH, offers=OFFERS),
        ),
        (
            make.binding(make.database(staticRole="app")).spec.secrets[0],
            SecretState("database"),
            Pin.revision("2026-01-01T00:00:00Z"),
            Right("database/static-creds/app", ("read",)),
            Reading("database/static-creds/app", ".Data", polls=True, followed=True, default=BOTH, offers=OFFERS),
        ),
    ],
)
def test_rights_are_the_least_that_the_reading_needs(
    entry: SecretEntry, state: SecretState, pin: Pin | None, right: Right, reading: Reading
) -> None:
    kind = KINDS[entry.kind_name]
    renewal = (RENEW,) if entry.kind_name == "database" and reading.leased else ()
    assert kind.rights(entry, state) == (right, *renewal)
    assert kind.reading(entry, state, pin) == reading
    assert reading.path.partition("?")[0] == right.path


# --- database and PKI -------------------------------------------------------------------------------------------------


class Engines:
    """The part of Vault that tells of secrets engines without versions."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def __getattr__(self, question: str) -> Any:
        def answer(*asked: str) -> Any:
            found = self.answers.get(question)
            if isinstance(found, Exception):
                raise found
            return found

        return answer


DENIED = Denied("no right to it", system="vault")
DYNAMIC = make.binding(make.database(role="app")).spec.secrets[0]
STATIC = make.binding(make.database(staticRole="app")).spec.secrets[0]
CERTIFICATE = make.binding(make.pki(ttl="72h", altNames=["a.example.com"], ipSans=["10.0.0.1"])).spec.secrets[0]


@pytest.mark.parametrize(
    ("role", "mount", "seconds"),
    [
        (LeaseLimits(60, 600), None, 600),
        (LeaseLimits(60, 0), LeaseLimits(10, 7200), 7200),
        (LeaseLimits(0, 0), LeaseLimits(10, 0), 0),
        (LeaseLimits(0, 0), None, 0),
    ],
    ids=["as the role says", "as its mount says", "nobody says", "the server does not tell"],
)
def test_dynamic_credentials_live_as_long_as_the_role_says_or_its_mount(
    role: LeaseLimits, mount: LeaseLimits | None, seconds: float
) -> None:
    state = observe(DYNAMIC, Engines(database_role=role, mount_limits=mount))
    assert (state.lease_seconds, state.revision, state.fault) == (seconds, None, None)
    assert set(state.fields[0]) == {"username", "password"}


def test_a_static_role_tells_when_its_password_was_rotated_and_when_it_will_be() -> None:
    state = observe(STATIC, Engines(static_role=StaticRole("2026-01-01T00:00:00.123Z", 3600)))
    assert state.revision == Pin.revision("2026-01-01T00:00:00.123Z")
    assert state.next_change == datetime(2026, 1, 1, 1, tzinfo=UTC)
    assert state.invalidates


@pytest.mark.parametrize("role", [StaticRole("", 3600), StaticRole("2026-01-01T00:00:00Z", 0)])
def test_a_rotation_by_a_schedule_or_after_none_yet_is_not_foretold(role: StaticRole) -> None:
    state = observe(STATIC, Engines(static_role=role))
    assert state.next_change is None
    assert state.revision is not None


@pytest.mark.parametrize(
    ("role", "mount", "seconds"),
    [
        (LeaseLimits(3600, 360000), None, 72 * 3600),
        (LeaseLimits(3600, 7200), None, 7200),
        (LeaseLimits(0, 0), LeaseLimits(1, 10000), 10000),
    ],
)
def test_a_certificate_lives_as_long_as_was_asked_for_if_the_role_allows_it(
    role: LeaseLimits, mount: LeaseLimits | None, seconds: float
) -> None:
    state = observe(CERTIFICATE, Engines(pki_role=PkiRole(role), pki_issuer="digest", mount_limits=mount))
    assert (state.lease_seconds, state.revision) == (seconds, Pin.revision("digest"))


def test_a_certificate_without_a_wish_lives_as_its_role_or_mount_says() -> None:
    entry = make.binding(make.pki()).spec.secrets[0]
    engines = {"pki_issuer": "digest", "mount_limits": LeaseLimits(500, 10000)}
    assert observe(entry, Engines(pki_role=PkiRole(LeaseLimits(900, 0)), **engines)).lease_seconds == 900
    assert observe(entry, Engines(pki_role=PkiRole(LeaseLimits()), **engines)).lease_seconds == 500


def test_a_certificate_is_asked_for_with_everything_that_the_binding_says() -> None:
    reading = KINDS["pki"].reading(CERTIFICATE, SecretState("pki"), None)
    assert reading.arguments == (
        "common_name=api.example.com", "ttl=259200s", "alt_names=a.example.com", "ip_sans=10.0.0.1",
    )  # fmt: skip
    assert KINDS["pki"].rights(CERTIFICATE, SecretState("pki")) == (Right("pki/issue/web", ("update",)),)


@pytest.mark.parametrize(
    ("entry", "answers", "reason", "words"),
    [
        (DYNAMIC, {}, Reason.SECRET_NOT_FOUND, "database has no role app"),
        (STATIC, {}, Reason.SECRET_NOT_FOUND, "database has no staticRole app"),
        (CERTIFICATE, {}, Reason.SECRET_NOT_FOUND, "pki has no role web"),
        (CERTIFICATE, {"pki_role": PkiRole(LeaseLimits(1, 1), "old")}, Reason.SECRET_NOT_FOUND, "no issuer old"),
        (DYNAMIC, {"database_role": DENIED}, Reason.PERMISSION_DENIED, "no right"),
        (STATIC, {"static_role": DENIED}, Reason.PERMISSION_DENIED, "no right"),
        (CERTIFICATE, {"pki_role": DENIED}, Reason.PERMISSION_DENIED, "no right"),
    ],
)
def test_an_engine_that_lacks_it_or_does_not_let_us_look_is_that_secrets_fault(
    entry: SecretEntry, answers: dict[str, Any], reason: Reason, words: str
) -> None:
    fault = observe(entry, Engines(**answers)).fault
    assert fault is not None
    assert fault.reason is reason
    assert words in fault.message
