"""A status fits into a Nomad variable, which counts bytes, whatever its messages say."""

import json

import pytest

from secretbinding.models.status import Condition, ConditionStatus, SecretBindingStatus, SecretStatus
from secretbinding.ports import Variable
from secretbinding.sources.nomad import read_status, status_items

_MOST = 65536
_TYPES = ("Ready", "Stalled", "VaultSynced", "JobSynced", "RotationHealthy")


def a_status(text: str, *, secrets: int = 32, roles: int = 0) -> SecretBindingStatus:
    conditions = tuple(
        Condition(
            type=name,
            status=ConditionStatus.FALSE,
            reason="RefusedByPolicy",
            message=text,
            last_transition_time="2026-01-31T02:00:00Z",
        )
        for name in _TYPES
    )
    return SecretBindingStatus(
        conditions=conditions,
        secrets=tuple(
            SecretStatus(
                name=f"s{index:02}-{'x' * 59}",
                serving_version="v" * 128,
                wanted_version="w" * 128,
                changed_at="2026-01-31T02:00:00Z",
                next_rotation_at="2026-01-31T02:00:00Z",
                message=text,
            )
            for index in range(secrets)
        ),
        roles=tuple(f"{index:03}{'r' * 509}" for index in range(roles)),
    )


def size(items: dict[str, str]) -> int:
    return sum(len(name.encode()) + len(text.encode()) for name, text in items.items())


@pytest.mark.parametrize("char", ["x", '"', "\n", "\\", "\x01", "ß", "€", "\U0001f511"])
def test_it_fits_with_messages_of_any_characters_and_length(char: str) -> None:
    items = status_items(a_status(char * 40_000))
    assert size(items) <= _MOST
    assert items["reason"] == "RefusedByPolicy"
    assert items["message"].startswith(char)
    read = read_status(Variable("ns", "path", 1, items))
    assert [one.type for one in read.conditions] == list(_TYPES)
    assert len(read.secrets) == 32


def test_what_is_short_arrives_as_it_is() -> None:
    status = a_status("größer als 1 €", secrets=2)
    items = status_items(status)
    assert items["message"] == "größer als 1 €"
    assert json.loads(items["status"]) == status.to_json()


def test_where_nothing_else_helps_what_people_look_for_arrives_alone() -> None:
    items = status_items(a_status("x" * 5_000, roles=256))
    assert set(items) == {"ready", "reason", "message", "rotation"}
    assert size(items) <= _MOST
