"""What a template asks Vault or Nomad for, and the name that Nomad's events give it."""

import hashlib
import json
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from secretbinding.devstack.simulator.state import REGION


@dataclass(frozen=True, slots=True)
class Dependency:
    """One read or write; hashable.

    Attributes:
        path: the first argument of `secret` or `pkiCert`, query included.
        arguments: the other arguments, sorted; with any, even an empty one, `secret` writes.
        writes: it is a write.
        certificate: where a template with `pkiCert` is rendered to: what lies there is good until it is about to end.
            Empty for `secret`.
        namespace: of a Nomad variable (`nomadVar`); empty for what is asked of Vault.
    """

    path: str
    arguments: tuple[tuple[str, str], ...] = ()
    writes: bool = False
    certificate: str = ""
    namespace: str = ""

    @classmethod
    def of(cls, arguments: list[str], destination: str = "") -> "Dependency":
        """What the arguments of `secret`, or of `pkiCert` with a destination, say. Raises ValueError with
        consul-template's words."""
        path = arguments[0].strip().strip("/")
        if not path:
            raise ValueError('vault.read: invalid format: ""')
        pairs = {}
        for text in filter(None, arguments[1:]):
            name, separator, value = text.partition("=")
            if not separator:
                raise ValueError(f"not k=v pair {json.dumps(text, ensure_ascii=False)}")
            pairs[name.strip()] = value.strip()
        return cls(path, tuple(sorted(pairs.items())), len(arguments) > 1 and not destination, destination)

    @classmethod
    def of_variable(cls, argument: str, namespace: str) -> "Dependency":
        """What the argument of `nomadVar` says, `path` or `path@namespace`, where tasks of `namespace` ask."""
        path, _, other = argument.strip().strip("/").partition("@")
        return cls(path, namespace=other or namespace)

    def __str__(self) -> str:
        """`vault.read(secret/data/app.v7)`, `vault.write(pki/issue/web -> 1a2b3c4d)`: arguments show as a hash;
        `nomad.var.block(nomad/jobs/app@default.global)`."""
        if self.namespace:
            return f"nomad.var.block({self.path}@{self.namespace}.{REGION})"
        url = urlsplit(self.path)
        if self.certificate:
            return f"vault.pki({url.path}->{self.certificate})"
        if self.writes:
            texts = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in self.arguments)
            digest = hashlib.sha1("".join(texts).encode(), usedforsecurity=False).hexdigest()
            return f"vault.write({self.path} -> {digest[:8]})"
        version = parse_qs(url.query).get("version")
        return f"vault.read({url.path}.v{version[0]})" if version else f"vault.read({url.path})"
