"""TLS: verified unless told otherwise, with a CA of one's own, mutual, and under another server name."""

import hashlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from secretbinding.adapters.connection import NomadConnection, VaultConnection
from secretbinding.adapters.nomad import NomadAdapter
from secretbinding.adapters.vault import VaultAdapter
from secretbinding.errors import Unreachable

from .misbehaving import Misbehaving, misbehaving, reply

POLICY = {"data": {"name": "app", "policy": "text"}}


@dataclass(frozen=True)
class Files:
    """PEM files of one authority: its own certificate, and a client's."""

    ca: str
    client_cert: str
    client_key: str


def write_files(authority: trustme.CA, directory: Path) -> Files:
    directory.mkdir()
    client = authority.issue_cert("client@example.com")
    files = Files(str(directory / "ca.pem"), str(directory / "client.pem"), str(directory / "client-key.pem"))
    authority.cert_pem.write_to_path(files.ca)
    client.cert_chain_pems[0].write_to_path(files.client_cert)
    client.private_key_pem.write_to_path(files.client_key)
    return files


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> Files:
    return write_files(authority, tmp_path / "ours")


def server_context(authority: trustme.CA, *names: str, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    return context


@pytest.fixture
def server(authority: trustme.CA) -> Iterator[Misbehaving]:
    with misbehaving(server_context(authority, "127.0.0.1")) as running:
        running.script = [reply(200, POLICY)]
        yield running


@pytest.fixture
def mutual(authority: trustme.CA) -> Iterator[Misbehaving]:
    with misbehaving(server_context(authority, "127.0.0.1", mutual=True)) as running:
        running.script = [reply(200, POLICY)]
        yield running


@pytest.fixture
def elsewhere(authority: trustme.CA) -> Iterator[Misbehaving]:
    with misbehaving(server_context(authority, "vault.example.com")) as running:
        running.script = [reply(200, POLICY)]
        yield running


def test_a_certificate_of_the_given_ca_is_accepted(server: Misbehaving, files: Files) -> None:
    assert VaultAdapter(VaultConnection(address=server.address, ca_cert=files.ca)).read_policy("app") == "text"


def test_a_directory_of_certificates_is_accepted(server: Misbehaving, files: Files, tmp_path: Path) -> None:
    directory = tmp_path / "trusted"
    directory.mkdir()
    pem = Path(files.ca).read_text()
    der = ssl.PEM_cert_to_DER_cert(pem)
    (directory / f"{subject_hash(der)}.0").write_text(pem)
    assert VaultAdapter(VaultConnection(address=server.address, ca_path=str(directory))).read_policy("app") == "text"


def test_without_a_ca_the_certificate_is_refused_and_the_setting_is_named(server: Misbehaving) -> None:
    with pytest.raises(Unreachable, match=r"not trusted.*set VAULT_CACERT"):
        VaultAdapter(VaultConnection(address=server.address, token="opensesame")).read_policy("app")
    assert server.requests == []


def test_a_certificate_of_another_ca_is_refused_once_and_the_setting_is_named(
    server: Misbehaving, tmp_path: Path
) -> None:
    other = write_files(trustme.CA(), tmp_path / "other")
    connection = NomadConnection(address=server.address, token="opensesame", ca_cert=other.ca)
    with pytest.raises(Unreachable, match=r"not trusted.*set NOMAD_CACERT"):
        NomadAdapter(connection).job("default", "app")
    assert server.requests == []
    assert server.connections == 1


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_verification_is_off_only_when_told_so(server: Misbehaving) -> None:
    assert VaultAdapter(VaultConnection(address=server.address, skip_verify=True)).read_policy("app") == "text"


def test_a_certificate_for_another_name_is_refused_and_the_setting_is_named(
    elsewhere: Misbehaving, files: Files
) -> None:
    with pytest.raises(Unreachable, match=r"for another name.*VAULT_TLS_SERVER_NAME"):
        VaultAdapter(VaultConnection(address=elsewhere.address, ca_cert=files.ca)).read_policy("app")
    assert elsewhere.requests == []


def test_the_given_server_name_is_expected_in_the_certificate(elsewhere: Misbehaving, files: Files) -> None:
    def connection(name: str) -> VaultConnection:
        return VaultConnection(address=elsewhere.address, ca_cert=files.ca, tls_server_name=name)

    assert VaultAdapter(connection("vault.example.com")).read_policy("app") == "text"
    with pytest.raises(Unreachable, match="for another name"):
        VaultAdapter(connection("other.example.com")).read_policy("app")


def test_a_client_certificate_is_shown_to_a_server_that_wants_one(mutual: Misbehaving, files: Files) -> None:
    connection = VaultConnection(
        address=mutual.address, ca_cert=files.ca, client_cert=files.client_cert, client_key=files.client_key
    )
    assert VaultAdapter(connection).read_policy("app") == "text"


def test_a_missing_client_certificate_is_unreachable_and_the_settings_are_named(
    mutual: Misbehaving, files: Files
) -> None:
    with pytest.raises(Unreachable, match="VAULT_CLIENT_CERT"):
        VaultAdapter(VaultConnection(address=mutual.address, ca_cert=files.ca)).read_policy("app")
    assert mutual.requests == []


def test_a_client_certificate_of_another_ca_is_unreachable(mutual: Misbehaving, files: Files, tmp_path: Path) -> None:
    other = write_files(trustme.CA(), tmp_path / "other")
    connection = VaultConnection(
        address=mutual.address, ca_cert=files.ca, client_cert=other.client_cert, client_key=other.client_key
    )
    with pytest.raises(Unreachable, match="VAULT_CLIENT_CERT"):
        VaultAdapter(connection).read_policy("app")
    assert mutual.requests == []


def test_https_to_a_port_without_tls_says_so() -> None:
    with misbehaving() as plain:
        plain.script = [reply(200, POLICY)]
        address = plain.address.replace("http://", "https://")
        with pytest.raises(Unreachable, match=r"does not speak TLS.*use http://"):
            VaultAdapter(VaultConnection(address=address, skip_verify=True)).read_policy("app")


def subject_hash(der: bytes) -> str:
    """The name under which OpenSSL looks for a certificate in a directory."""
    subject = x509.load_der_x509_certificate(der).subject
    # OpenSSL hashes the canonical form: values lower-cased, as UTF8String, without the outer SEQUENCE header.
    canonical = b"".join(_canonical_rdn(attribute) for attribute in subject)
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def _canonical_rdn(attribute: x509.NameAttribute[str | bytes]) -> bytes:
    oid = _oid(attribute.oid.dotted_string)
    text = " ".join(str(attribute.value).lower().split()).encode()
    return _tlv(0x31, _tlv(0x30, _tlv(0x06, oid) + _tlv(0x0C, text)))


def _oid(dotted: str) -> bytes:
    first, second, *rest = (int(part) for part in dotted.split("."))
    encoded = bytearray([first * 40 + second])
    for number in rest:
        chunk = [number & 0x7F]
        while number := number >> 7:
            chunk.append(0x80 | (number & 0x7F))
        encoded += bytes(reversed(chunk))
    return bytes(encoded)


def _tlv(tag: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([tag, len(content)]) + content
