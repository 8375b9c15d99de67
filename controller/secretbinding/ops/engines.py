"""What the controller has to read of each kind of secrets engine, and what would give it a secret there. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """One path of the controller's policy for an engine. `{mount}` and `{prefix}` are filled in.

    Attributes:
        probe: a path that it covers.
        without: what does not work without it.
    """

    path: str
    capabilities: tuple[str, ...]
    why: str
    probe: str
    without: str


@dataclass(frozen=True, slots=True)
class Engine:
    """One kind of secrets engine.

    Attributes:
        lines: what is read of it. None of these paths gives a secret.
        makes: what is written where bindings may have roles made for them (`create`); empty for engines without that.
        secrets: paths that give a secret, with the capability and what that would mean.
    """

    lines: tuple[Line, ...]
    makes: tuple[Line, ...] = ()
    secrets: tuple[tuple[str, tuple[str, ...], str], ...] = ()


_EVERY = ("create", "read", "update", "delete")
_READ, _WRITE = ("read", "sudo"), ("create", "update", "sudo")

_TUNE = Line(
    "sys/mounts/{mount}/tune",
    ("read",),
    "How long what it gives out lives where a role leaves that to the mount.",
    "sys/mounts/{mount}/tune",
    "leases that only the mount of {mount} limits are not renewed ahead of time",
)


def _roles(why: str, path: str = "{mount}/roles/*") -> Line:
    return Line(path, ("read",), why, path.replace("*", "doctor").replace("+", "doctor"), "secrets of {mount} are held")


def _made(path: str, why: str) -> Line:
    whole = f"{{mount}}/{path}/{{prefix}}*"
    return Line(whole, _EVERY, why, whole.replace("*", "doctor"), "bindings with `create` are held")


ENGINES: Mapping[str, Engine] = {
    "kv": Engine(
        lines=(
            Line(
                "{mount}/metadata/*",
                ("read",),
                "KV mount `{mount}`: versions of secrets, never values.",
                "{mount}/metadata/doctor",
                "secrets of {mount} are not rolled",
            ),
            Line(
                "{mount}/subkeys/*",
                ("read",),
                "Field names of a version, so that one that lacks a field is not rolled.",
                "{mount}/subkeys/doctor",
                "secrets of {mount} are not rolled",
            ),
            Line(
                "{mount}/detailed-metadata/*",
                ("list",),
                "The versions of all secrets of a folder at once. OpenBao only; without it each is read by itself.",
                "{mount}/detailed-metadata/doctor",
                "each secret is read by itself",
            ),
            Line(
                "{mount}/config",
                ("read",),
                "How many versions the mount keeps, so that jobs roll before the one that they use is pruned. Leave it "
                "out where the mount sets no `max_versions`.",
                "{mount}/config",
                "a version in use may be pruned before its job rolls, where the mount of {mount} sets `max_versions`",
            ),
        ),
        secrets=(("{mount}/data/doctor", _READ, "it could read secret values"),),
    ),
    # What would be metadata in version 2 is a secret here.
    "kv1": Engine(
        lines=(
            Line(
                "sys/mounts/{mount}/tune",
                ("read",),
                "KV mount `{mount}` of version 1: that it is of version 1. There is nothing else to see; leave it out "
                "when every binding says `engine`.",
                "sys/mounts/{mount}/tune",
                "bindings of {mount} have to say `engine: v1`",
            ),
        ),
        secrets=(("{mount}/doctor", _READ, "it could read secret values"),),
    ),
    "database": Engine(
        lines=(
            Line(
                "{mount}/static-roles/*",
                ("list", "read"),
                "Database mount `{mount}`: when a static role's password was last rotated, and that no two roles take "
                "one user. Passwords are at `static-creds`.",
                "{mount}/static-roles/doctor",
                "secrets of {mount} are held",
            ),
            _roles("How long the credentials of a role live. Credentials are at `creds`."),
            _TUNE,
        ),
        makes=(
            _made(
                "roles",
                "Roles that bindings have made for them (`create`): who may bind so can run SQL as Vault's own user.",
            ),
            _made("static-roles", "The same for static roles."),
        ),
        secrets=(
            ("{mount}/creds/doctor", _READ, "it could take database credentials"),
            ("{mount}/static-creds/doctor", _READ, "it could read passwords of static roles"),
        ),
    ),
    "pki": Engine(
        lines=(
            _roles("PKI mount `{mount}`: which issuer a role has, how long certificates live. Issuers are public."),
            _TUNE,
        ),
        makes=(_made("roles", "Roles that bindings have made for them (`create`)."),),
        secrets=(("{mount}/issue/doctor", _WRITE, "it could issue certificates"),),
    ),
    "ssh": Engine(
        lines=(_roles("SSH mount `{mount}`: how long what a role gives lives."), _TUNE),
        secrets=(
            ("{mount}/issue/doctor", _WRITE, "it could issue SSH keys"),
            ("{mount}/sign/doctor", _WRITE, "it could sign SSH keys"),
            ("{mount}/creds/doctor", _WRITE, "it could take one-time passwords"),
        ),
    ),
    "transit": Engine(
        lines=(_roles("Transit mount `{mount}`: what a key can do. Keys are at `export`.", "{mount}/keys/*"),),
        secrets=(
            ("{mount}/decrypt/doctor", _WRITE, "it could decrypt"),
            ("{mount}/export/encryption-key/doctor", _READ, "it could export keys"),
        ),
    ),
    "aws": Engine(
        lines=(
            _roles("AWS mount `{mount}`: what kind a role is of. Credentials are at `creds` and `sts`."),
            Line(
                "{mount}/config/lease",
                ("read",),
                "How long credentials of users live.",
                "{mount}/config/lease",
                "bindings of users have to say `maxTTL`",
            ),
            _TUNE,
        ),
        secrets=(
            ("{mount}/creds/doctor", (*_READ, "update"), "it could take AWS credentials"),
            ("{mount}/sts/doctor", (*_READ, "update"), "it could take AWS credentials"),
        ),
    ),
    "gcp": Engine(
        lines=(
            # One segment only: what lies below gives tokens and keys.
            _roles("GCP mount `{mount}`: what kind a roleset is of.", "{mount}/roleset/+"),
            _roles("The same for static accounts.", "{mount}/static-account/+"),
            _roles("The same for impersonated accounts.", "{mount}/impersonated-account/+"),
            Line(
                "{mount}/config",
                ("read",),
                "How long keys live; the engine's own credentials are not shown.",
                "{mount}/config",
                "bindings of keys have to say `maxTTL`",
            ),
            _TUNE,
        ),
        secrets=(
            ("{mount}/roleset/doctor/token", _READ, "it could take GCP tokens"),
            ("{mount}/static-account/doctor/key", _READ, "it could take GCP keys"),
        ),
    ),
    "azure": Engine(
        lines=(_roles("Azure mount `{mount}`: how long credentials of a role live. They are at `creds`."), _TUNE),
        secrets=(("{mount}/creds/doctor", _READ, "it could take Azure credentials"),),
    ),
}
"""By the name of the kind in a binding (`spec.secrets[].<kind>`); `kv1` for KV of version 1."""
