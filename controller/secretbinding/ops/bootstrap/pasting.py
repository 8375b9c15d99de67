"""A text to paste, and what such texts name. Pure."""

from dataclasses import dataclass, field
from pathlib import PurePath

from secretbinding.ops.bootstrap.controller_job import Driver
from secretbinding.ops.product import Product

CREDENTIALS = "/etc/secretbinding"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the texts name beside the target.

    Attributes:
        vault_address, nomad_address: as the controller, Nomad's clients and the servers' own tools reach them.
        lookup: the address by which the controller looks Vault up; "" when it takes `vault_address`.
        vault_namespace: of Vault; "" for the root namespace.
        vault_ca, nomad_ca: a file of certificates to trust; "" for the system's.
        credentials: the directory that credentials were written to; None when none were.
        wrapped: the credentials of Vault are response-wrapped.
        driver, image, command: how the controller's own job runs it.
        product: what kind of server Vault is.
        audited: it has an audit device that is no socket.
    """

    vault_address: str
    nomad_address: str
    lookup: str = ""
    vault_namespace: str = ""
    vault_ca: str = ""
    nomad_ca: str = ""
    credentials: PurePath | None = None
    wrapped: bool = False
    driver: Driver = Driver.DOCKER
    image: str = "secretbinding"
    command: str = "secretbinding"
    product: Product = Product.UNKNOWN
    audited: bool = False


@dataclass(frozen=True, slots=True)
class Snippet:
    """One text to paste. `language` is `hcl`, `yaml` or `shell`; `notes` are sentences above it."""

    title: str
    language: str
    text: str
    notes: tuple[str, ...] = field(default=())


def file_of(around: Surroundings, name: str) -> str:
    """Where a credential of this name is, or is expected to be."""
    return str((around.credentials or PurePath(CREDENTIALS)) / name)
