"""A throw-away PostgreSQL for leases of Vault's database engine."""

import os
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.processes import free_ports, wait_until

_PASSWORD = "postgres"
_CREATE = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"


def find_postgres() -> Path | None:
    """The folder of PostgreSQL's programs: those of `pgserver`, else the system's."""
    spec = find_spec("pgserver")
    inside = [Path(place) / "pginstall" / "bin" for place in (spec.submodule_search_locations or ())] if spec else []
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in [*inside, *system] if (folder / "postgres").exists()), None)


class Postgres:
    """A server on loopback, whose superuser is `postgres`; run as another user when started by root."""

    def __init__(self) -> None:
        found = find_postgres()
        if found is None:
            raise RuntimeError("no PostgreSQL: install pgserver")
        self._bin = found
        self._directory = Path(tempfile.mkdtemp(prefix="secretbinding-postgres-"))
        self._user = "nobody" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> "Postgres":
        if self._user is not None:
            shutil.chown(self._directory, self._user)
        password = self._directory / "password"
        password.write_text(_PASSWORD)
        password.chmod(0o644)
        data = self._directory / "data"
        self._run("initdb", "-D", str(data), "-U", "postgres", "-A", "md5", f"--pwfile={password}", "--no-sync")
        (self.port,) = free_ports(1)
        options = ["-p", str(self.port), "-h", "127.0.0.1", "-k", "", "-F"]
        log = (self._directory / "log").open("wb")
        self._process = subprocess.Popen(
            [str(self._bin / "postgres"), "-D", str(data), *options], user=self._user, stdout=log, stderr=log
        )
        wait_until(self._ready, timeout_seconds=30.0, what="PostgreSQL")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def roles(self) -> set[str]:
        """The users that Vault made and has not taken away."""
        query = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%'"
        answer = subprocess.run(
            [str(self._bin / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-Atc", query],
            env={"PGPASSWORD": _PASSWORD, "PATH": os.environ.get("PATH", "")},
            check=True,
            capture_output=True,
            text=True,
        )
        return set(answer.stdout.split())

    def join(self, vault: OpenBao, roles: dict[str, tuple[str, str]]) -> None:
        """A `database` mount with the given roles: default and greatest lifetime of each."""
        vault.api.put("/v1/sys/mounts/database", {"type": "database"}).expect(200, 204)
        connection = {
            "plugin_name": "postgresql-database-plugin",
            "allowed_roles": "*",
            "connection_url": f"postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{self.port}/postgres?sslmode=disable",
            "username": "postgres",
            "password": _PASSWORD,
        }
        vault.api.put("/v1/database/config/main", connection).expect(200, 204)
        for name, (ttl, max_ttl) in roles.items():
            body = {"db_name": "main", "creation_statements": _CREATE, "default_ttl": ttl, "max_ttl": max_ttl}
            vault.api.put(f"/v1/database/roles/{name}", body).expect(200, 204)

    def _ready(self) -> bool:
        return (
            subprocess.run(
                [str(self._bin / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)],
                check=False,
                capture_output=True,
            ).returncode
            == 0
        )

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._bin / program), *arguments], user=self._user, check=True, capture_output=True, cwd="/"
        )
