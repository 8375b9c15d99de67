"""A certificate for the webhook where nobody gives it one: made by the process itself, and made anew in time."""

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from secretbinding.errors import UsageError

if TYPE_CHECKING:
    from cryptography import x509

VALID = timedelta(days=90)
RENEWED_BEFORE = timedelta(days=30)


def write_certificate(folder: Path, hosts: Sequence[str], now: datetime) -> tuple[Path, Path]:
    """Write a self-signed certificate for the names and addresses, and its key, into a folder of the process's own.
    Whoever trusts the certificate trusts nothing else: it is no authority for others. Gives their paths; raises
    `UsageError` when the library for it is not installed."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise UsageError(
            "a certificate for the admission webhook cannot be made: the package cryptography is not installed",
            remedy="install it, or give SECRETBINDING_ADMISSION_CERT and SECRETBINDING_ADMISSION_KEY",
        ) from None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "secretbinding admission webhook")])
    names: list[x509.GeneralName] = [_general_name(host) for host in dict.fromkeys(hosts)]
    # The server's clock may be behind ours.
    first = now - timedelta(hours=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(first)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "tls.crt", folder / "tls.key"
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(private, pem)
    _write(certificate, made.public_bytes(serialization.Encoding.PEM))
    return certificate, private


def expires_soon(written: datetime, now: datetime | None = None) -> bool:
    """Whether a certificate that was made then has to be made anew."""
    return (now or datetime.now(UTC)) - written > VALID - RENEWED_BEFORE


def _general_name(host: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: Path, data: bytes) -> None:
    """Replace a file by one that nobody else may read, so that it is never seen in part."""
    draft = path.with_suffix(".new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    draft.replace(path)
