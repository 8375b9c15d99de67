"""When the secrets of a running task's templates are renewed or read again: by the rules of consul-template."""

import random
from datetime import UTC, datetime

from secretbinding.devstack.simulator.template import Secret
from secretbinding.devstack.simulator.template.values import JsonNumber

_CHANCE = random.Random()

_LIFE_SHARE = 0.9
_LIFE_SPREAD = 0.05


class Renewal:
    """A lease that is renewed for as long as that makes it longer. Times are seconds of a clock that never goes back.

    It is renewed at once, and then whenever two thirds of what is left have passed; when too little would be left by
    then (10 to 20 % of a whole lease), it is given up, and the secret is read anew.
    """

    def __init__(self, lease: str, seconds: float, now: float) -> None:
        self.lease = lease
        self.refused = False
        self._before = seconds
        self._grace = _grace(seconds)
        self._expires = now + seconds

    def renewed(self, seconds: float, now: float) -> float | None:
        """The lease lives for so long now: seconds until the next renewal, None when there is to be none."""
        self._expires = now + seconds
        return self._next(seconds)

    def not_renewed(self, now: float) -> float | None:
        """The token may not renew it: the lease is used up then. As above."""
        self.refused = True
        return self._next(max(0.0, self._expires - now))

    def _next(self, left: float) -> float | None:
        if left > self._before:
            self._grace = _grace(left)
        self._before = left
        pause = left * 2 / 3 + self._grace / 3
        return None if left - pause <= self._grace else pause


def renewal_of(secret: Secret, now: float) -> Renewal | None:
    """The lease of a secret, None for one that cannot be renewed."""
    if not secret.fields.get("Renewable"):
        return None
    return Renewal(str(secret.fields["LeaseID"]), float(secret.fields["LeaseDuration"]), now)


def rotates_now(secret: Secret) -> bool:
    """True for a static role's password whose time is over while Vault has not rotated it yet: it is read again."""
    return _rotating(secret) == 0


def read_again_seconds(secret: Secret, default_seconds: float) -> float:
    """In how many seconds a secret without a renewable lease is read again.

    A rotating one a second after its time; any other when 85 to 95 % of its life are over: of a certificate, a lease,
    or `default_seconds` for one that does not end.
    """
    rotating = _rotating(secret)
    if rotating is not None:
        return rotating + 1.0
    life = float(secret.fields["LeaseDuration"])
    expiration = _number(secret, "expiration") if "certificate" in _data(secret) else None
    if expiration is not None and not secret.fields["LeaseID"]:
        life = expiration - datetime.now(UTC).timestamp()
    return (life if life > 0 else default_seconds) * _share()


def certificate_seconds(begins: datetime, ends: datetime) -> float:
    """How long a certificate of `pkiCert` is good for; not above 0 when a new one is to be had."""
    life = (ends - begins).total_seconds()
    return (begins - datetime.now(UTC)).total_seconds() + life * _LIFE_SHARE


def _rotating(secret: Secret) -> float | None:
    return _number(secret, "ttl") if "rotation_period" in _data(secret) and not secret.fields["LeaseID"] else None


def _data(secret: Secret) -> dict[str, object]:
    data = secret.fields.get("Data")
    return data if isinstance(data, dict) else {}


def _number(secret: Secret, name: str) -> float | None:
    value = _data(secret).get(name)
    return float(value) if isinstance(value, JsonNumber) else None


def _share() -> float:
    return _LIFE_SHARE + _CHANCE.uniform(-_LIFE_SPREAD, _LIFE_SPREAD)


def _grace(seconds: float) -> float:
    return seconds * _CHANCE.uniform(0.1, 0.2)
