"""A PKI engine of an OpenBao, with root certificates of its own."""

from dataclasses import dataclass, field

from secretbinding.devstack.openbao import OpenBao


@dataclass(slots=True)
class PkiEngine:
    """The engine at `mount`, which is enabled with a first root, `first`, when it is needed.

    Roles are named as the caller says, so that each test has its own.
    """

    openbao: OpenBao
    mount: str = "pki"
    _enabled: bool = field(default=False, init=False)

    def role(self, name: str, *, ttl: str = "72h", max_ttl: str = "", issuer: str = "default") -> None:
        """A role for any name."""
        body = {"allow_any_name": True, "ttl": ttl, "max_ttl": max_ttl or "0", "issuer_ref": issuer}
        self._write(f"roles/{name}", body)

    def new_root(self, name: str) -> None:
        """A further root, which is not the default yet."""
        self._enable()
        self._generate(name)

    def use(self, issuer: str) -> None:
        """Make an issuer the engine's default."""
        self._write("config/issuers", {"default": issuer})

    def _write(self, path: str, body: dict[str, object]) -> None:
        self._enable()
        self.openbao.api.put(f"/v1/{self.mount}/{path}", body).expect(200, 204)

    def _enable(self) -> None:
        api = self.openbao.api
        if self._enabled:
            return
        if api.get(f"/v1/{self.mount}/issuer/first/json").status != 200:
            body = {"type": "pki", "config": {"max_lease_ttl": "87600h"}}
            api.put(f"/v1/sys/mounts/{self.mount}", body).expect(200, 204)
            self._generate("first")
        self._enabled = True

    def _generate(self, name: str) -> None:
        body = {"common_name": f"root {name}", "issuer_name": name, "ttl": "43800h", "key_type": "ec"}
        self.openbao.api.put(f"/v1/{self.mount}/root/generate/internal", body).expect(200)
