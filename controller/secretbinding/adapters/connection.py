"""How to reach a server: address, token, TLS and limits, as plain values that hide the token."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from secretbinding.adapters.discovery.address import discovered
from secretbinding.errors import UsageError

_TOKEN = re.compile(r"[\x21-\x7e]*")
_HEADER_TEXT = re.compile(r"[\x20-\x7e]*")


class TokenFile:
    """A token kept in a file, read again whenever the file changes (as Vault Agent or Nomad renew it).

    Calling it gives the token, without surrounding white space. While the file is being replaced and cannot be
    read, the last token is given; raises `OSError` when there never was one.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._token = ""

    def __repr__(self) -> str:
        return f"TokenFile({str(self._path)!r})"

    def __call__(self) -> str:
        with self._lock:
            try:
                stat = self._path.stat()
                seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
                if seen != self._seen:
                    self._token = self._path.read_text(encoding="utf-8", errors="replace").strip()
                    self._seen = seen
            except OSError:
                if self._seen is None:
                    raise
            return self._token

    def refused(self, token: str) -> bool:
        """Whether the file holds another token by now than the one that was refused."""
        try:
            return self() != token
        except OSError:
            return False


class Session(Protocol):
    """A source of tokens that can get another one: it logs in."""

    def __call__(self) -> str:
        """The token now. Raises `errors.ServiceError` subclasses when there is none to be had."""
        ...

    def refused(self, token: str) -> bool:
        """A request with this token was denied. True when it is no longer the one to use: ask for it again."""
        ...

    def ends(self) -> datetime | None:
        """When the token ends; None for never, or when it is not known."""
        ...

    def close(self) -> None:
        """Give up what was got."""
        ...


TokenSource = str | TokenFile | Session | Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What every server's connection needs. Nothing is ever taken from the environment here.

    Attributes:
        address: `http://` or `https://`, host, port and, behind a proxy, a path; or `unix://` and the path of a socket.
        token: the token, a `TokenFile`, or a callable that gives the current token; asked before each request.
            The empty text means: send no token.
        ca_cert: file of PEM certificates to trust; with `ca_path` empty too, the system's own are trusted.
        ca_path: directory of PEM certificates, prepared by `openssl rehash`.
        client_cert, client_key: PEM files for mutual TLS, both or none. When one of the TLS files changes, new requests
            go over new connections that it was read for.
        tls_server_name: the name to send (SNI) and to expect in the certificate instead of the address's host.
        skip_verify: do not verify the server's certificate. For experiments only.
        timeout_seconds: how long the server may be silent before an answer counts as lost.
        answer_seconds: how long an ordinary answer may take as a whole, however slowly it drips in; a blocking query
            has its wait on top, an event stream no such limit. 0 means: twice `timeout_seconds`, and at least 60.
        connect_timeout_seconds: how long setting up a connection may take.
        retry_seconds: after a first failure, how long a call may go on trying; 0 means: never try again.
        retry_attempts: how many times a call is made at most, the first included.
        pool_size: open connections at most for ordinary calls: the number of worker threads.
        long_pool_size: open connections at most for blocking queries and event streams.
        max_answer_bytes: a longer answer is an error.
    """

    address: str
    token: TokenSource = field(default="", repr=False)
    ca_cert: str = ""
    ca_path: str = ""
    client_cert: str = ""
    client_key: str = ""
    tls_server_name: str = ""
    skip_verify: bool = False
    timeout_seconds: float = 30.0
    answer_seconds: float = 0.0
    connect_timeout_seconds: float = 5.0
    retry_seconds: float = 10.0
    retry_attempts: int = 4
    pool_size: int = 16
    long_pool_size: int = 16
    max_answer_bytes: int = 64 * 1024 * 1024

    @property
    def answer_limit_seconds(self) -> float:
        """`answer_seconds`, or what stands for 0."""
        return self.answer_seconds or max(60.0, 2 * self.timeout_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsulConnection(Connection):
    """Consul's HTTP API, where Vault is looked up. An empty address means the one in the address of Vault."""

    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultConnection(Connection):
    """A Vault or OpenBao server.

    Attributes:
        address: as for others, or what `discovery.address` knows: `srv+https://...`, `consul+http://...`.
        namespace: sent as `X-Vault-Namespace`; empty means the root namespace.
        consul: how to ask Consul, where the address names one.
    """

    namespace: str = ""
    consul: ConsulConnection = field(default_factory=ConsulConnection)


@dataclass(frozen=True, slots=True, kw_only=True)
class NomadConnection(Connection):
    """A Nomad server or agent.

    Attributes:
        region: sent with every request; empty means the region of the agent that answers.
        heartbeat_seconds: how often the event stream is known to send something (Nomad: 30); a stream that is
            silent for more than twice as long counts as cut.
    """

    region: str = ""
    heartbeat_seconds: float = 30.0


def refused(source: TokenSource, token: str) -> bool:
    """Tell the source that the server denied a request with `token`; whether it has another one to try."""
    ask = getattr(source, "refused", None)
    return bool(ask(token)) if ask is not None else False


def token_ends(source: TokenSource) -> datetime | None:
    """When the source's token ends, as far as it knows by itself."""
    ask = getattr(source, "ends", None)
    found = ask() if ask is not None else None
    return found if isinstance(found, datetime) else None


def close_source(source: TokenSource) -> None:
    """Close a source that is a `Session`; any other has nothing to close."""
    close = getattr(source, "close", None)
    if close is not None:
        close()


def check(connection: Connection, system: str) -> None:
    """Raise `UsageError` for a connection that can never work; `system` is `vault` or `nomad`. It names settings by
    their variables, such as VAULT_CACERT."""
    name, variable = system.capitalize(), system.upper()
    if not (isinstance(connection, VaultConnection) and discovered(connection.address) is not None):
        _check_address(connection.address, name, variable)
    if bool(connection.client_cert) != bool(connection.client_key):
        raise UsageError(
            f"only one of client certificate and key is given for {name}",
            remedy=f"set both {variable}_CLIENT_CERT and {variable}_CLIENT_KEY, or none",
        )
    for what, path, is_kind, of in (
        ("CA certificate", connection.ca_cert, Path.is_file, "CACERT"),
        ("CA directory", connection.ca_path, Path.is_dir, "CAPATH"),
        ("client certificate", connection.client_cert, Path.is_file, "CLIENT_CERT"),
        ("client key", connection.client_key, Path.is_file, "CLIENT_KEY"),
    ):
        if path and not is_kind(Path(path)):
            raise UsageError(
                f"the {what} for {name}, {path}, is not there",
                remedy=f"put it there, or correct the path in {variable}_{of}",
            )
    if isinstance(connection, VaultConnection) and not _HEADER_TEXT.fullmatch(connection.namespace):
        raise UsageError("the Vault namespace has odd characters", remedy="check VAULT_NAMESPACE")


def _check_address(address: str, name: str, variable: str) -> None:
    url = urlsplit(address)
    if url.scheme == "unix":
        if url.netloc or not url.path.startswith("/") or url.query or url.fragment:
            raise UsageError(
                f"the address of {name} is not the path of a socket", remedy=f"set {variable}_ADDR to unix:///path"
            )
    elif url.scheme not in ("http", "https") or not url.hostname:
        raise UsageError(f"the address of {name} is not a URL", remedy=f"set {variable}_ADDR to http(s)://host:port")
    if url.username is not None or url.password is not None:
        raise UsageError(f"the address of {name} holds a user or password", remedy="give the token by itself")
    if url.query or url.fragment:
        raise UsageError(f"the address of {name} holds a query", remedy=f"set {variable}_ADDR to http(s)://host:port")


def current_token(source: TokenSource) -> str:
    """The token of `source` now. Raises `OSError` or `ValueError`, neither of which holds the token."""
    token = source if isinstance(source, str) else source()
    if not _TOKEN.fullmatch(token):
        raise ValueError("the token has characters that a header cannot carry")
    return token
