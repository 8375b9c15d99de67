"""An OpenBao with audit devices of every kind that the controller can hear."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.processes import free_ports


@dataclass(frozen=True)
class Audited:
    """The server, and where its devices write to."""

    openbao: OpenBao
    port: int
    socket: Path
    file: Path

    def settings(self, device: str) -> dict[str, str]:
        """The controller's settings to hear one device."""
        return {
            "tcp": {"audit_listen": f"127.0.0.1:{self.port}"},
            "unix": {"audit_listen": f"unix:{self.socket}"},
            "file": {"audit_file": str(self.file)},
        }[device]


def device(kind: str, name: str, **options: object) -> str:
    """A block of OpenBao's server configuration."""
    lines = "\n".join(f'    {key} = "{value}"' for key, value in options.items())
    return f'audit "{kind}" "{name}" {{\n  options {{\n{lines}\n  }}\n}}\n'


@pytest.fixture(scope="package")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    """Started while nobody listens, as it is when the controller is away."""
    folder = tmp_path_factory.mktemp("audited")
    (port,) = free_ports(1)
    address, file = folder / "a.sock", folder / "audit.log"
    configuration = (
        device("socket", "tcp", address=f"127.0.0.1:{port}", socket_type="tcp", skip_test="true")
        + device("socket", "unix", address=address, socket_type="unix", skip_test="true")
        + device("file", "file", file_path=file)
    )
    with OpenBao(folder / "openbao", configuration=configuration) as server:
        yield Audited(server, port, address, file)
