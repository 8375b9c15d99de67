"""The listener for socket audit devices and the reader of audit files, without a Vault."""

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from queue import Empty, Queue

import pytest
import structlog

from secretbinding import logs
from secretbinding.errors import UsageError
from secretbinding.watch.audit import AuditFile, AuditListener

CANARIES = ("canary-value", "canary-token", "canary-accessor", "hmac-sha256:canary", "canary-error", "canary-namespace")


def line(path: str, **changes: object) -> bytes:
    """A changing entry, full of what must not be repeated."""
    entry = {
        "type": "response",
        "auth": {"client_token": CANARIES[1], "accessor": CANARIES[2], "display_name": CANARIES[0]},
        "request": {
            "operation": "update",
            "path": path,
            "client_token": CANARIES[3],
            "namespace": {"id": CANARIES[5]},
            "data": {"data": {"password": CANARIES[0]}},
        },
        "response": {"data": {"deletion_time": CANARIES[3]}},
        **changes,
    }
    return json.dumps(entry).encode() + b"\n"


class Heard(Queue[str]):
    """The paths that were told, in order."""

    def within(self, seconds: float = 10.0) -> str:
        return self.get(timeout=seconds)

    def all_now(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.get_nowait())
            except Empty:
                return found


@pytest.fixture
def heard() -> Heard:
    return Heard()


# --- listening --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["tcp", "tcp6", "unix"])
def listener(request: pytest.FixtureRequest, heard: Heard, tmp_path: Path) -> Iterator[AuditListener]:
    binds: dict[str, tuple[str, int] | Path] = {
        "tcp": ("127.0.0.1", 0),
        "tcp6": ("::1", 0),
        "unix": tmp_path / "a.sock",
    }
    made = AuditListener(binds[request.param], heard.put)
    made.start()
    yield made
    made.stop()


def connected(listener: AuditListener) -> socket.socket:
    """As Vault connects."""
    if listener.address.startswith("/"):
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.connect(listener.address)
        return made
    host, _, port = listener.address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)))


def test_a_change_is_heard_at_once(listener: AuditListener, heard: Heard) -> None:
    with connected(listener) as vault:
        vault.sendall(line("sys/audit/test") + line("secret/data/app"))
        assert heard.within() == "secret/data/app"


def test_entries_in_pieces_and_garbage_in_between_do_no_harm(listener: AuditListener, heard: Heard) -> None:
    with connected(listener) as vault:
        whole = line("secret/data/one")
        vault.sendall(whole[:40])
        vault.sendall(whole[40:] + b"\0\xff{[}\n\n" + line("secret/data/two")[:-1])
        assert heard.within() == "secret/data/one"
        vault.sendall(b"\n")
        assert heard.within() == "secret/data/two"


def test_several_connections_keep_apart(listener: AuditListener, heard: Heard) -> None:
    with connected(listener) as one, connected(listener) as two:
        first, second = line("secret/data/one"), line("secret/data/two")
        one.sendall(first[:50])
        two.sendall(second[:60])
        one.sendall(first[50:])
        assert heard.within() == "secret/data/one"
        two.sendall(second[60:])
        assert heard.within() == "secret/data/two"


def test_a_connection_that_ends_in_the_middle_leaves_nothing_behind(listener: AuditListener, heard: Heard) -> None:
    with connected(listener) as vault:
        vault.sendall(line("secret/data/half")[:50])
    with connected(listener) as vault:
        vault.sendall(line("secret/data/app"))
        assert heard.within() == "secret/data/app"
    assert heard.all_now() == []


def test_an_entry_of_many_megabytes_is_taken_off_the_socket_and_forgotten(
    listener: AuditListener, heard: Heard
) -> None:
    with connected(listener) as vault:
        vault.settimeout(30.0)
        for _ in range(8):
            vault.sendall(b"x" * (1 << 20))
        vault.sendall(b"\n" + line("secret/data/app"))
        assert heard.within(30.0) == "secret/data/app"


def test_connections_are_bounded_and_the_first_ones_are_served(listener: AuditListener, heard: Heard) -> None:
    opened = [connected(listener) for _ in range(40)]
    try:
        opened[0].sendall(line("secret/data/app"))
        assert heard.within() == "secret/data/app"
        opened[-1].settimeout(10.0)
        assert opened[-1].recv(1) == b""
        opened.pop(0).close()
        opened[1].sendall(line("secret/data/more"))
        assert heard.within() == "secret/data/more"
    finally:
        for each in opened:
            each.close()


def test_stopping_closes_all_connections_and_the_address_is_free_again(
    listener: AuditListener, heard: Heard, tmp_path: Path
) -> None:
    with connected(listener) as vault:
        vault.sendall(line("secret/data/app"))
        heard.within()
        listener.stop()
        vault.settimeout(10.0)
        assert vault.recv(1) == b""
    with pytest.raises(OSError, match=r"refused|No such file"):
        connected(listener)


def test_an_address_in_use_is_a_fault_of_the_settings(listener: AuditListener, heard: Heard) -> None:
    if listener.address.startswith("/"):
        bind: tuple[str, int] | Path = Path(listener.address)
    else:
        host, _, port = listener.address.rpartition(":")
        bind = (host.strip("[]"), int(port))
    with pytest.raises(UsageError, match=r"SECRETBINDING_AUDIT_LISTEN: cannot listen at .* in use"):
        AuditListener(bind, heard.put).start()
    with connected(listener) as vault:
        vault.sendall(line("secret/data/app"))
        assert heard.within() == "secret/data/app"


def test_a_unix_socket_that_a_killed_controller_left_behind_is_replaced(tmp_path: Path, heard: Heard) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(path))
    made = AuditListener(path, heard.put)
    made.start()
    try:
        assert path.stat().st_mode & 0o777 == 0o660
        with connected(made) as vault:
            vault.sendall(line("secret/data/app"))
            assert heard.within() == "secret/data/app"
    finally:
        made.stop()
    assert not path.exists()


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path, heard: Heard) -> None:
    path = tmp_path / "a.sock"
    path.write_text("precious")
    with pytest.raises(UsageError):
        AuditListener(path, heard.put).start()
    assert path.read_text() == "precious"


# --- reading a file ---------------------------------------------------------------------------------------------------


@pytest.fixture
def audit_log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    path.write_bytes(line("secret/data/before"))
    return path


@pytest.fixture
def follow(audit_log: Path, heard: Heard) -> Iterator[Callable[[], list[str]]]:
    """Looks once, and gives what was heard; the reader's own thread waits for longer than any test."""
    reader = AuditFile(audit_log, heard.put, interval_seconds=3600.0)
    reader.start()

    def look() -> list[str]:
        reader.look()
        return heard.all_now()

    yield look
    reader.stop()


def append(path: Path, *texts: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"".join(texts))


def test_what_was_in_the_file_before_is_not_read(audit_log: Path, follow: Callable[[], list[str]]) -> None:
    assert follow() == []
    append(audit_log, line("secret/data/app"), line("secret/data/more"))
    assert follow() == ["secret/data/app", "secret/data/more"]
    assert follow() == []


def test_half_an_entry_waits_for_its_other_half(audit_log: Path, follow: Callable[[], list[str]]) -> None:
    whole = line("secret/data/app")
    append(audit_log, whole[:30])
    assert follow() == []
    append(audit_log, whole[30:])
    assert follow() == ["secret/data/app"]


def test_a_file_that_is_renamed_is_read_on_while_vault_still_writes_to_it(
    audit_log: Path, follow: Callable[[], list[str]]
) -> None:
    append(audit_log, line("secret/data/a"))
    old = audit_log.with_suffix(".1")
    audit_log.rename(old)
    append(old, line("secret/data/b"))
    assert follow() == ["secret/data/a", "secret/data/b"]
    audit_log.touch()
    assert follow() == []
    append(old, line("secret/data/c"))
    append(audit_log, line("secret/data/d"))
    assert sorted(follow()) == ["secret/data/c", "secret/data/d"]
    append(audit_log, line("secret/data/e"))
    assert follow() == ["secret/data/e"]


def test_many_rotations_keep_few_files_open(audit_log: Path, follow: Callable[[], list[str]]) -> None:
    for number in range(30):
        audit_log.rename(audit_log.with_suffix(f".{number}"))
        append(audit_log, line(f"secret/data/{number}"))
        follow()
    opened = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    assert sum(str(audit_log) in each for each in opened) <= 5


def test_a_file_that_is_emptied_is_read_from_its_new_beginning(
    audit_log: Path, follow: Callable[[], list[str]]
) -> None:
    append(audit_log, line("secret/data/a"), line("secret/data/a")[:30])
    assert follow() == ["secret/data/a"]
    audit_log.write_bytes(line("secret/data/b"))
    assert follow() == ["secret/data/b"]


def test_a_file_that_is_not_there_yet_is_read_from_its_beginning(tmp_path: Path, heard: Heard) -> None:
    path = tmp_path / "later.log"
    reader = AuditFile(path, heard.put, interval_seconds=3600.0)
    reader.start()
    reader.look()
    append(path, line("secret/data/app"))
    reader.look()
    reader.look()
    assert heard.all_now() == ["secret/data/app"]
    reader.stop()


def test_what_is_no_file_is_said_once_and_not_waited_for(
    tmp_path: Path, heard: Heard, logged: Callable[[], str]
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = AuditFile(path, heard.put, interval_seconds=3600.0)
    reader.start()
    for _ in range(3):
        reader.look()
    reader.stop()
    assert logged().count("not a regular file") == 1


# --- what is told of it -----------------------------------------------------------------------------------------------


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    """All that is logged, at the finest level."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = StringIO()
    logs.configure("DEBUG", "text", stream)
    yield stream.getvalue
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level


def test_nothing_of_an_entry_but_its_path_reaches_a_log(
    logged: Callable[[], str], heard: Heard, tmp_path: Path
) -> None:
    texts = [
        line("secret/data/app"),
        line("secret/data/app", error=CANARIES[4]),
        line("secret/data/app", type=CANARIES[0]),
        line("secret/data/app")[:-20] + b"\n",
        CANARIES[0].encode() + line("secret/data/app"),
        line("secret/data/app", request=CANARIES[0]),
        b'"response" /data/ ' + CANARIES[3].encode() + b"\n",
        line("secret/data/last"),
    ]

    def fail(path: str) -> None:
        heard.put(path)
        raise RuntimeError(CANARIES[0])

    path = tmp_path / "audit.log"
    listener, reader = AuditListener(("127.0.0.1", 0), fail), AuditFile(path, fail, interval_seconds=0.01)
    listener.start()
    reader.start()
    with connected(listener) as vault:
        for text in texts:
            vault.sendall(text)
            append(path, text)
        assert {heard.within() for _ in range(4)} >= {"secret/data/app"}
        while "secret/data/last" not in (heard.within(),):
            pass
    listener.stop()
    reader.stop()
    shown = logged()
    assert "audit entry not understood" in shown
    assert not [canary for canary in CANARIES if canary in shown]
