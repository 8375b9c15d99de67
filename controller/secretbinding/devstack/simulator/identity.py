"""Workload identities: signed JWTs with Nomad's claims, and the keys that verify them."""

import base64
import time
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from secretbinding.devstack.simulator.state import REGION, new_id

DEFAULT_TTL_SECONDS = 30 * 24 * 3600


class Identities:
    """Signs with one key that is made at the start."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._key_id = new_id()

    def jwks(self) -> dict[str, Any]:
        """The body of `/.well-known/jwks.json`."""
        numbers = self._key.public_key().public_numbers()
        key = {
            "use": "sig",
            "kty": "RSA",
            "kid": self._key_id,
            "alg": "RS256",
            "n": _encoded(numbers.n),
            "e": _encoded(numbers.e),
        }
        return {"keys": [key]}

    def sign(self, row: Mapping[str, Any], task: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
        """The token of one identity of a task of an allocation.

        `sub` is `region:namespace:job:group:task:identity`; for children of periodic and parameterized jobs the
        job is the parent, as in Nomad.
        """
        now = int(time.time())
        job_id = row["Job"]["ParentID"] or row["JobID"]
        ttl = identity["TTL"] // 10**9 or DEFAULT_TTL_SECONDS
        audience = identity["Audience"] or []
        claims: dict[str, Any] = {
            "exp": now + ttl,
            "iat": now,
            "jti": new_id(),
            "nbf": now,
            "nomad_allocation_id": row["ID"],
            "nomad_job_id": job_id,
            "nomad_namespace": row["Namespace"],
            "nomad_task": task["Name"],
            "sub": ":".join((REGION, row["Namespace"], job_id, row["TaskGroup"], task["Name"], identity["Name"])),
        }
        if audience:
            claims["aud"] = audience[0] if len(audience) == 1 else audience
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._key_id})


def _encoded(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
