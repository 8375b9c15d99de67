"""When the simulator renews leases and reads secrets again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from secretbinding.devstack.simulator.certificates import certificate_in
from secretbinding.devstack.simulator.leases import (
    Renewal,
    certificate_seconds,
    read_again_seconds,
    renewal_of,
    rotates_now,
)
from secretbinding.devstack.simulator.template import Secret, load_json, secret_of

DAY = 86400.0


def secret(data: str = "{}", **fields: Any) -> Secret:
    return secret_of({"data": load_json(data), "lease_id": "", "lease_duration": 0, **fields})


def test_a_lease_is_renewed_while_that_makes_it_longer_and_given_up_shortly_before_its_end() -> None:
    renewal, now, ends, renewals = Renewal("a", 8.0, 0.0), 0.0, 20.0, 0
    while (pause := renewal.renewed(min(8.0, ends - now), now)) is not None:
        now += pause
        renewals += 1
    assert 2 <= renewals <= 4
    assert 0 < ends - now < 8.0 / 2


def test_a_lease_that_may_not_be_renewed_is_used_up() -> None:
    renewal, now = Renewal("a", 100.0, 0.0), 0.0
    while (pause := renewal.not_renewed(now)) is not None:
        now += pause
    assert renewal.refused
    assert 60.0 < now < 100.0


def test_only_a_renewable_lease_is_renewed() -> None:
    assert renewal_of(secret(lease_id="a", lease_duration=60, renewable=False), 0.0) is None
    renewal = renewal_of(secret(lease_id="a", lease_duration=60, renewable=True), 0.0)
    assert renewal is not None
    assert renewal.lease == "a"


def test_a_rotating_secret_is_read_a_second_after_its_time_and_at_once_when_that_is_over() -> None:
    waiting = secret('{"rotation_period": 60, "ttl": 40}')
    assert read_again_seconds(waiting, 300.0) == 41.0
    assert not rotates_now(waiting)
    assert rotates_now(secret('{"rotation_period": 60, "ttl": 0}'))
    assert not rotates_now(secret('{"ttl": 0}'))


@pytest.mark.parametrize(
    ("found", "life"),
    [
        (secret(), 300.0),
        (secret(lease_id="a", lease_duration=60), 60.0),
        (secret('{"certificate": "x", "expiration": 1}'), 300.0),
        (secret('{"expiration": 99999999999}'), 300.0),
    ],
)
def test_what_is_not_renewed_is_read_again_when_most_of_its_life_is_over(found: Secret, life: float) -> None:
    for _ in range(20):
        assert 0.849 * life < read_again_seconds(found, 300.0) < 0.951 * life


def test_a_certificate_is_asked_for_again_when_most_of_its_life_is_over() -> None:
    ends = datetime.now(UTC) + timedelta(days=1)
    found = secret(f'{{"certificate": "x", "expiration": {int(ends.timestamp())}}}')
    for _ in range(20):
        assert 0.849 * DAY < read_again_seconds(found, 300.0) < 0.951 * DAY


def test_a_certificate_is_good_for_nine_tenths_of_its_life() -> None:
    now = datetime.now(UTC)
    assert 81 < certificate_seconds(now - timedelta(seconds=8), now + timedelta(seconds=92)) < 83
    assert certificate_seconds(now - timedelta(seconds=95), now + timedelta(seconds=5)) < 0


def test_certificate_key_and_authorities_are_found_in_any_text() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    root, leaf = _certificate(key, authority=True), _certificate(key, authority=False)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    found = certificate_in(["serial 1", root, f"x{leaf}y", root, pem])
    assert found is not None
    assert found.secret.fields["Cert"] == leaf
    assert found.secret.fields["Key"] == pem
    assert found.secret.fields["CAChain"] == [root]
    assert found.secret.fields["CA"] == root
    assert found.ends - found.begins == timedelta(days=1)
    assert certificate_in(["nothing", root]) is None


def _certificate(key: ec.EllipticCurvePrivateKey, *, authority: bool) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    begins = datetime(2030, 1, 1, tzinfo=UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()
