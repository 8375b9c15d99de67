"""A throw-away PostgreSQL on loopback for the tests, and the database engine of an OpenBao that is joined to it."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import pytest

from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.processes import ManagedProcess, ProcessError, free_ports

ADMIN = "admin"
DATABASE = "postgres"
MOUNT = "database"
CONNECTION = "postgres"

_NOBODY = 65534
_MISSING = (
    "no PostgreSQL: neither the package `pgserver` nor `postgres` on PATH nor /usr/lib/postgresql/*/bin; "
    "what needs a real database is not tested"
)
_CREATE = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"


def find_postgres() -> Path | None:
    """The directory with `postgres` and `initdb`: of the package `pgserver`, else the newest of this system."""
    # The package is not imported: that would make it write where it keeps its own servers.
    spec = importlib.util.find_spec("pgserver")
    places = [Path(spec.origin).parent / "pginstall" / "bin"] if spec is not None and spec.origin else []
    on_path = shutil.which("postgres")
    if on_path is not None:
        places.append(Path(on_path).resolve().parent)
    installed = Path("/usr/lib/postgresql")
    if installed.is_dir():
        places += sorted(installed.glob("*/bin"), key=lambda each: float(each.parent.name or 0), reverse=True)
    return next((each for each in places if all((each / name).exists() for name in ("postgres", "initdb"))), None)


class Postgres:
    """A running server that takes passwords (SCRAM) from loopback only, and keeps nothing.

    Attributes:
        port: where it listens, on 127.0.0.1.
        psql: the client's program.
    """

    host = "127.0.0.1"

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._process: ManagedProcess | None = None
        self._password = uuid.uuid4().hex
        # Of its own, since another user has to reach it: it refuses to run as root.
        self._directory = Path(tempfile.mkdtemp(prefix="secretbinding-postgres-"))
        self._user = _NOBODY if os.geteuid() == 0 else None
        self.port = 0
        self.psql = _beside_or_on_path(programs, "psql")

    @property
    def password(self) -> str:
        """The password of the superuser `ADMIN`."""
        return self._password

    def __enter__(self) -> "Postgres":
        try:
            self._make()
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def sql(self, text: str) -> str:
        """What the superuser's query gives, rows as lines, columns separated by `|`."""
        done = self._psql(ADMIN, self._password, text)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def lets_in(self, user: str, password: str) -> bool:
        """Whether somebody with these credentials may log in. Fails for any other reason than a refused password."""
        done = self._psql(user, password, "SELECT current_user")
        if done.returncode == 0:
            assert done.stdout.strip() == user
            return True
        # A user that is removed in the middle of a login does not exist at its end, by its name or by its number.
        gone = ("authentication failed", f'role "{user}" does not exist', "invalid role OID")
        assert any(text in done.stderr for text in gone), done.stderr
        return False

    def _psql(self, user: str, password: str, text: str) -> subprocess.CompletedProcess[str]:
        env = {"PGPASSWORD": password, "PATH": os.environ.get("PATH", ""), "PGCONNECT_TIMEOUT": "10"}
        argv = [self.psql, "-h", self.host, "-p", str(self.port), "-U", user, "-d", DATABASE, "-XAtc", text]
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30, check=False)

    def _make(self) -> None:
        self._hand_over(self._directory)
        password_file = self._directory / "password"
        password_file.touch(0o600)
        password_file.write_text(self._password)
        self._hand_over(password_file)
        argv = [str(self._programs / "initdb"), "-D", str(self._data), "-U", ADMIN, f"--pwfile={password_file}"]
        argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(
            argv,
            env={"PATH": os.environ.get("PATH", "")},
            cwd=self._directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
        )
        password_file.unlink()
        if done.returncode != 0:
            raise ProcessError(f"initdb failed: {done.stderr}")

    def _start(self) -> None:
        for attempt in range(3):
            (self.port,) = free_ports(1)
            settings = {
                "listen_addresses": self.host,
                "port": str(self.port),
                "unix_socket_directories": "",
                "fsync": "off",
                "full_page_writes": "off",
                "synchronous_commit": "off",
                "shared_buffers": "16MB",
                "max_wal_senders": "0",
                "wal_level": "minimal",
                "autovacuum": "off",
            }
            argv = [str(self._programs / "postgres"), "-D", str(self._data)]
            argv += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            self._process = ManagedProcess(
                "postgres",
                argv,
                log_path=self._directory / "postgres.log",
                env={"PATH": os.environ.get("PATH", "")},
                cwd=self._directory,
                # Immediate shutdown, backends included.
                death_signal=signal.SIGQUIT,
                user=self._user,
            )
            try:
                self._process.wait_ready(self._answers, timeout_seconds=30.0)
            except ProcessError:
                self._process.stop()
                if attempt == 2:
                    raise
            else:
                return

    def _answers(self) -> bool:
        return self._psql(ADMIN, self._password, "SELECT 1").returncode == 0

    def _stop(self) -> None:
        if self._process is not None:
            self._process.stop(grace_seconds=5.0)
            self._process = None
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _hand_over(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user, self._user)


def _beside_or_on_path(programs: Path, name: str) -> str:
    beside = programs / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"no `{name}` beside PostgreSQL in {programs} nor on PATH")
    return found


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL; skips visibly where there is none."""
    programs = find_postgres()
    if programs is None:
        pytest.skip(_MISSING)
    with Postgres(programs) as server:
        yield server


@dataclass(slots=True)
class DatabaseEngine:
    """The database engine at `database/` of an OpenBao, joined to the PostgreSQL by the connection `postgres`.

    Roles are named as the caller says, so that each test has its own.
    """

    openbao: OpenBao
    postgres: Postgres
    mount: str = MOUNT
    _joined: bool = field(default=False, init=False)

    def dynamic_role(self, name: str, *, ttl: str = "1h", max_ttl: str = "24h") -> None:
        """A role that makes a user for each lease."""
        body = {
            "db_name": CONNECTION,
            "creation_statements": [_CREATE],
            "default_ttl": ttl,
            "max_ttl": max_ttl,
        }
        self._write(f"roles/{name}", body)

    def static_role(self, name: str, *, period: str = "24h") -> str:
        """A static role and its database user, which is named as the role; returns the user's name. OpenBao takes five
        seconds as the shortest period, and rotates up to five seconds late."""
        exists = self.postgres.sql(f"SELECT count(*) FROM pg_roles WHERE rolname = '{name}'")
        if exists == "0":
            self.postgres.sql(f"CREATE ROLE \"{name}\" WITH LOGIN PASSWORD '{uuid.uuid4().hex}'")
        self._write(f"static-roles/{name}", {"db_name": CONNECTION, "username": name, "rotation_period": period})
        return name

    def rotate(self, name: str) -> None:
        """Rotate a static role's password now."""
        self._write(f"rotate-role/{name}", {})

    def password(self, name: str) -> str:
        """A static role's present password."""
        found = self.openbao.api.get(f"/v1/{self.mount}/static-creds/{name}").expect(200).json()["data"]
        return str(found["password"])

    def users(self, role: str) -> list[str]:
        """The database users that a dynamic role has made and not removed yet."""
        rows = self.postgres.sql(f"SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%-{role[:8]}-%' ORDER BY 1")
        return rows.split()

    def _write(self, path: str, body: dict[str, object]) -> None:
        self._join()
        self.openbao.api.put(f"/v1/{self.mount}/{path}", body).expect(200, 204)

    def _join(self) -> None:
        """Mount and configure the engine, where another test has not done so."""
        api = self.openbao.api
        if self._joined:
            return
        if api.get(f"/v1/{self.mount}/config/{CONNECTION}").status != 200:
            api.put(f"/v1/sys/mounts/{self.mount}", {"type": "database"}).expect(200, 204)
            body = {
                "plugin_name": "postgresql-database-plugin",
                "allowed_roles": ["*"],
                "connection_url": (
                    f"postgresql://{{{{username}}}}:{{{{password}}}}@{self.postgres.host}:{self.postgres.port}/"
                    f"{DATABASE}?sslmode=disable"
                ),
                "username": ADMIN,
                "password": self.postgres.password,
            }
            api.put(f"/v1/{self.mount}/config/{CONNECTION}", body).expect(200, 204)
        self._joined = True
