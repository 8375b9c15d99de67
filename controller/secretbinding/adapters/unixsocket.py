"""Connections to a server on a Unix socket, such as the one in which a Nomad agent serves its API to a task."""

import socket
from urllib.parse import unquote, urlsplit

from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from secretbinding.adapters.deadline import TimedHTTPConnection


def socket_path(address: str) -> str:
    """The path of `unix:///path`, `""` for any other address."""
    url = urlsplit(address)
    return unquote(url.path) if url.scheme == "unix" and not url.netloc else ""


def unix_connection(path: str) -> type[TimedHTTPConnection]:
    """A class of connections that all lead to the socket at `path`, whatever their host."""

    class Connection(_UnixConnection):
        socket_file = path

    return Connection


class _UnixConnection(TimedHTTPConnection):
    socket_file = ""

    def _new_conn(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(self.timeout if isinstance(self.timeout, int | float) else None)
            made.connect(self.socket_file)
        except TimeoutError as error:
            made.close()
            raise ConnectTimeoutError(self, "connecting took too long") from error
        except OSError as error:
            made.close()
            raise NewConnectionError(self, "no connection to the socket") from error
        return made
