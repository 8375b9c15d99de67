"""Certificates as `pkiCert` gives them to a template: taken out of any text with PEM blocks."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from secretbinding.devstack.simulator.template import Secret, certificate_of

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Certificate:
    """`secret` is what the template sees; the certificate is valid from `begins` to `ends`."""

    secret: Secret
    begins: datetime
    ends: datetime


def certificate_in(texts: Iterable[str]) -> Certificate | None:
    """The certificate, its key and its authorities; None when there is no certificate among the PEM blocks."""
    found: x509.Certificate | None = None
    cert = key = ""
    chain: list[str] = []
    for match in _BLOCK.finditer("\n".join(texts)):
        block = match[0] + "\n"
        if match[1].endswith("PRIVATE KEY"):
            key = block
        elif match[1] == "CERTIFICATE":
            parsed = x509.load_pem_x509_certificate(block.encode())
            if not _is_authority(parsed):
                found, cert = parsed, block
            elif block not in chain:
                chain.append(block)
    if found is None:
        return None
    return Certificate(certificate_of(cert, key, chain), found.not_valid_before_utc, found.not_valid_after_utc)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False
