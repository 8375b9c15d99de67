"""Service checks of Nomad's own provider: HTTP and TCP, while the allocation runs."""

import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import urllib3

from secretbinding.devstack.simulator.ports import HOST_IP, ports_of

Row = Mapping[str, Any]


class Checks:
    """All checks of one allocation's services; `changed` is called when one of them passes or fails anew."""

    def __init__(self, row: Row, group: Row, changed: Callable[[], None]) -> None:
        self._ports = ports_of(row)
        self._changed = changed
        self._stopped = threading.Event()
        self._passing: dict[str, bool] = {}
        self._checks = [
            (f"{service['Name']}/{check['Name']}", service, check)
            for service in _services(group)
            for check in service["Checks"] or []
        ]

    def start(self) -> None:
        """Begin to look."""
        for name, service, check in self._checks:
            self._passing[name] = False
            thread = threading.Thread(target=self._run, args=(name, service, check), name="check", daemon=True)
            thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    @property
    def pass_all(self) -> bool:
        """True when every check passed at its last look."""
        return len(self._passing) == len(self._checks) and all(self._passing.values())

    def _run(self, name: str, service: Row, check: Row) -> None:
        while not self._stopped.wait(check["Interval"] / 1e9):
            passing = self._look(service, check)
            if passing != self._passing[name]:
                self._passing[name] = passing
                self._changed()

    def _look(self, service: Row, check: Row) -> bool:
        port = self._ports.get(str(check["PortLabel"] or service["PortLabel"]))
        if port is None:
            return False
        seconds = check["Timeout"] / 1e9
        try:
            if check["Type"] == "tcp":
                socket.create_connection((HOST_IP, port), timeout=seconds).close()
                return True
            url = f"http://{HOST_IP}:{port}{check['Path']}"
            answer = urllib3.request(check["Method"] or "GET", url, timeout=seconds, retries=False)
            return 200 <= answer.status < 400
        except (OSError, urllib3.exceptions.HTTPError):
            return False


def _services(group: Row) -> Iterable[Row]:
    own = [service for task in group["Tasks"] for service in task["Services"] or []]
    return [service for service in [*(group["Services"] or []), *own] if service["Provider"] == "nomad"]
