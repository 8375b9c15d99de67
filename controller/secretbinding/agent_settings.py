"""Settings of the Vault Agent sidecars, from the environment, each as `SECRETBINDING_AGENT_<NAME>`."""

import ssl
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from secretbinding.adapters.discovery import plain_address
from secretbinding.errors import UsageError
from secretbinding.models.agent import AgentDriver
from secretbinding.render.agent import AgentDefaults, Server

CHOICES = ("driver", "image", "command", "args", "user", "script")
_MOST_PEM = 32768
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_DEFAULTS = AgentDefaults()


def _name(name: str) -> str:
    return f"SECRETBINDING_AGENT_{name}"


class AgentSettings(BaseSettings):
    """What every sidecar has where its binding says nothing else, and what a binding may choose.

    Attributes:
        driver: Nomad's driver: docker, podman, exec or raw_exec.
        image: the image, for docker and podman.
        command: the program, `bao` or `vault`, or a path of it.
        args: further arguments, separated by spaces.
        user: the user that it runs as; the driver's own choice when empty.
        cpu: MHz; memory, memory_max: MiB, 0 for no maximum of its own.
        vault_addr: where agents find Vault; the controller's own address when empty.
        ca_cert: certificates that agents trust Vault by, a file of the controller's, which is written into the job;
            the controller's own when empty and the address is the controller's.
        tls_server_name: the name in Vault's certificate; likewise.
        allow: which of driver, image, command, args, user, script a binding may choose, separated by commas; they run
            on Nomad's clients, by the controller's right to register jobs.
        approle_mount: the AppRole auth mount, which is to be the controller's alone.
    """

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, populate_by_name=True)

    driver: AgentDriver = Field(AgentDriver(_DEFAULTS.driver), validation_alias=_name("DRIVER"))
    image: str = Field(_DEFAULTS.image, validation_alias=_name("IMAGE"))
    command: str = Field(_DEFAULTS.command, validation_alias=_name("COMMAND"))
    args: str = Field("", validation_alias=_name("ARGS"))
    user: str = Field("", validation_alias=_name("USER"))
    cpu: Annotated[int, Field(ge=1)] = Field(_DEFAULTS.cpu, validation_alias=_name("CPU"))
    memory: Annotated[int, Field(ge=10)] = Field(_DEFAULTS.memory, validation_alias=_name("MEMORY"))
    memory_max: Annotated[int, Field(ge=0)] = Field(0, validation_alias=_name("MEMORY_MAX"))
    vault_addr: str = Field("", validation_alias=_name("VAULT_ADDR"))
    ca_cert: Path | None = Field(None, validation_alias=_name("CA_CERT"))
    tls_server_name: str = Field("", validation_alias=_name("TLS_SERVER_NAME"))
    allow: str = Field("", validation_alias=_name("ALLOW"))
    approle_mount: str = Field(_DEFAULTS.approle_mount, validation_alias=_name("APPROLE_MOUNT"))

    @field_validator("allow")
    @classmethod
    def _allow_names_choices(cls, value: str) -> str:
        odd = sorted({word.strip() for word in value.split(",") if word.strip()} - set(CHOICES))
        if odd:
            raise ValueError(f"{odd[0]} is none of {', '.join(CHOICES)}")
        return value

    def defaults(
        self, *, address: str, namespace: str, ca_cert: str, tls_server_name: str, skip_verify: bool, jwt_mount: str
    ) -> AgentDefaults:
        """What the decisions need; the arguments are the controller's own connection to Vault. Raises
        `errors.UsageError` when the certificates cannot be read. Vault Agent looks nothing up: its address is plain."""
        own = self.vault_addr in ("", address)
        trusted = str(self.ca_cert) if self.ca_cert is not None else (ca_cert if own else "")
        return AgentDefaults(
            driver=self.driver.value,
            image=self.image,
            command=self.command,
            args=tuple(self.args.split()),
            user=self.user,
            cpu=self.cpu,
            memory=self.memory,
            memory_max=self.memory_max,
            server=Server(
                address=plain_address(self.vault_addr or address),
                namespace=namespace,
                ca_pem=_certificates(trusted) if trusted else "",
                tls_server_name=self.tls_server_name or (tls_server_name if own else ""),
                skip_verify=skip_verify and own,
            ),
            jwt_mount=jwt_mount,
            approle_mount=self.approle_mount.strip("/"),
            allowed=frozenset(word.strip() for word in self.allow.split(",") if word.strip()),
        )


def _certificates(path: str) -> str:
    """The certificates of a file, and nothing else that may be in it: they become a part of jobs."""
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError):
        raise UsageError(
            f"{path} cannot be read", remedy="correct SECRETBINDING_AGENT_CA_CERT or VAULT_CACERT"
        ) from None
    found = [f"{_BEGIN}{part.split(_END)[0]}{_END}\n" for part in text.split(_BEGIN)[1:]]
    pem = "".join(found)
    try:
        ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError):
        raise UsageError(f"{path} holds no certificates", remedy="give a file of PEM certificates") from None
    if not pem or len(pem) > _MOST_PEM:
        remedy = "give a file of Vault's own certificates only: they become a part of each job"
        raise UsageError(f"{path} holds no certificates, or too many", remedy=remedy)
    return pem
