"""What each kind of secret says of itself: rights, versions, fields, and how a template reads it."""

from collections.abc import Mapping
from typing import Any

import pytest

from secretbinding.errors import Denied
from secretbinding.kinds import KINDS, Pin, Reading, Right, SecretState
from secretbinding.models.binding import SecretEntry
from secretbinding.models.reasons import Reason
from secretbinding.ports import KvMetadata, KvVersion
from tests.support import builders as make
from tests.support.builders import created

PIN = Pin(7, created(7))


class KvServer:
    """The part of Vault that tells of KV secrets. Every other question is an error."""

    def __init__(self, metadata: KvMetadata | None = None, *, engine: str | None = "v2", deny: str = "") -> None:
        self.metadata, self.engine, self.deny = metadata, engine, deny
        self.asked: list[str] = []

    def kv_engine(self, mount: str) -> str | None:
        self.asked.append(f"engine {mount}")
        return self.engine

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
    ],
)
def test_rights_are_the_least_that_the_reading_needs(
    entry: SecretEntry, state: SecretState, pin: Pin | None, right: Right, reading: Reading
) -> None:
    kind = KINDS[entry.kind_name]
    assert kind.rights(entry, state) == (right,)
    assert kind.reading(entry, state, pin) == reading
    assert reading.path.partition("?")[0] == right.path
