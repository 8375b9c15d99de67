"""Checks of Vault itself."""

from collections.abc import Iterator

from secretbinding.ops.bootstrap.snippets import AUDIT
from secretbinding.ops.doctor.checks.words import is_loopback, product, some, version_of
from secretbinding.ops.doctor.facts import Facts, Unknown
from secretbinding.ops.doctor.findings import Finding, Severity, check
from secretbinding.ops.product import Product

_SUBKEYS_SINCE = (1, 10, 0)


def _subject(facts: Facts) -> str:
    return f"Vault at {facts.vault.endpoint.address}"


@check("vault-reachable", "Vault answers, and its certificate can be verified.")
def reachable(facts: Facts) -> Iterator[Finding | Unknown]:
    health = facts.vault.health
    if isinstance(health, Unknown):
        yield Finding(Severity.ERROR, _subject(facts), health.why, "GET /v1/sys/health", health.remedy)


@check("vault-sealed", "Vault is initialized and unsealed.")
def sealed(facts: Facts) -> Iterator[Finding | Unknown]:
    health = facts.vault.health
    if isinstance(health, Unknown):
        yield Unknown("Vault does not answer", "see the finding about that")
    elif not health.initialized:
        yield Finding(
            Severity.ERROR, _subject(facts), "it is not initialized", "sys/health: initialized = false",
            "vault operator init",
        )  # fmt: skip
    elif health.sealed:
        yield Finding(
            Severity.ERROR, _subject(facts), "it is sealed", "sys/health: sealed = true",
            "vault operator unseal; running tasks go on meanwhile",
        )  # fmt: skip


@check("vault-leader", "Vault has an active server.")
def leader(facts: Facts) -> Iterator[Finding | Unknown]:
    found = facts.vault.leader
    if isinstance(found, Unknown):
        yield found
    elif not found.known:
        yield Finding(
            Severity.ERROR,
            _subject(facts),
            "no server of the cluster is active",
            "sys/leader: ha_enabled = true, and no leader_address",
            "vault operator raft list-peers; see that a majority of the servers is up and unsealed",
        )


@check("vault-version", "Vault is new enough (HashiCorp Vault 1.10, any OpenBao).")
def version(facts: Facts) -> Iterator[Finding | Unknown]:
    health = facts.vault.health
    if isinstance(health, Unknown):
        yield Unknown("Vault does not answer", "see the finding about that")
        return
    number = version_of(health.version)
    if number is None:
        yield Unknown(f"Vault calls its version {health.version!r}")
    elif product(facts) is not Product.OPENBAO and number < _SUBKEYS_SINCE:
        yield Finding(
            Severity.ERROR,
            _subject(facts),
            f"version {health.version} cannot tell the field names of a secret (`subkeys`), so no secret is rolled",
            f"sys/health: version = {health.version}",
            "upgrade it to 1.10 or newer",
        )


@check("vault-tls", "Vault is reached by TLS that is verified, or on this machine.")
def tls(facts: Facts) -> Iterator[Finding | Unknown]:
    endpoint = facts.vault.endpoint
    if not endpoint.address.startswith("https:") and not is_loopback(endpoint.address):
        yield Finding(
            Severity.WARNING,
            _subject(facts),
            "tokens and names of secrets travel in the clear",
            f"VAULT_ADDR={endpoint.setting or endpoint.address}",
            "give Vault's listener a certificate, speak https:// in VAULT_ADDR, and set VAULT_CACERT",
        )
    if not endpoint.verified:
        yield Finding(
            Severity.WARNING,
            _subject(facts),
            "anybody in between can pass for Vault",
            "VAULT_SKIP_VERIFY is set",
            "unset VAULT_SKIP_VERIFY, and set VAULT_CACERT to the CA that signed its certificate",
        )


@check("audit-missing", "Vault has an audit device.")
def audit_missing(facts: Facts) -> Iterator[Finding | Unknown]:
    devices = facts.vault.audit
    if isinstance(devices, Unknown):
        yield devices
    elif not devices:
        yield Finding(
            Severity.WARNING,
            _subject(facts),
            "nobody can tell afterwards who read which secret",
            "sys/audit: no device",
            _audit_remedy(facts),
        )


@check("audit-socket-alone", "No `socket` device is the only audit device.")
def audit_socket_alone(facts: Facts) -> Iterator[Finding | Unknown]:
    devices = facts.vault.audit
    if isinstance(devices, Unknown):
        yield devices
    elif devices and all(device.type == "socket" for device in devices.values()):
        names = [f"{name} ({device.target})" for name, device in sorted(devices.items())]
        yield Finding(
            Severity.ERROR,
            _subject(facts),
            "while nobody listens at its only audit device, Vault answers every request of everybody with an error",
            f"sys/audit: {some(names)}",
            _audit_remedy(facts),
        )


def _audit_remedy(facts: Facts) -> str:
    kind = product(facts)
    texts = [snippet.text for known, snippet in AUDIT.items() if kind in (known, Product.UNKNOWN)]
    place = "in the server's configuration, then SIGHUP:\n" if kind is Product.OPENBAO else ""
    return place + "\nor, on OpenBao, in the server's configuration:\n".join(texts).rstrip("\n")


CHECKS = (reachable, sealed, leader, version, tls, audit_missing, audit_socket_alone)
