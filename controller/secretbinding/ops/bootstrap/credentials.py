"""The controller's credentials: which ones it needs, which are there, and new ones into files that only their owner can
read."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from secretbinding.errors import UsageError
from secretbinding.ops.bootstrap.planning import Change
from secretbinding.ops.bootstrap.target import Login, Target
from secretbinding.ops.ports import Issued, NomadAdmin, VaultAdmin


class Credential(StrEnum):
    """A credential, by the name of its file."""

    VAULT_TOKEN = "vault-token"
    NOMAD_TOKEN = "nomad-token"
    ROLE_ID = "role-id"
    SECRET_ID = "secret-id"


_OF_LOGIN: Mapping[Login, tuple[Credential, ...]] = {
    Login.TOKEN: (Credential.VAULT_TOKEN,),
    Login.APPROLE: (Credential.ROLE_ID, Credential.SECRET_ID),
    Login.NOMAD: (),
    Login.KUBERNETES: (),
}
_WRAPPABLE = (Credential.VAULT_TOKEN, Credential.SECRET_ID)


def needed(target: Target) -> tuple[Credential, ...]:
    """The credentials that the controller needs. As a Nomad job it has a workload identity for both servers."""
    of_nomad = (Credential.NOMAD_TOKEN,) if target.nomad_acl and target.login is not Login.NOMAD else ()
    return (*_OF_LOGIN[target.login], *of_nomad)


@dataclass(frozen=True, slots=True)
class Store:
    """Where credentials go: a directory, one file each, mode 0600.

    `wrap_seconds`: tokens and secret IDs of Vault are written response-wrapped (`*.wrapped`), to be opened once within
    this time; 0 for as they are.
    """

    directory: Path
    wrap_seconds: int = 0

    def path(self, credential: Credential) -> Path:
        """The file of a credential."""
        wrapped = self.wrap_seconds and credential in _WRAPPABLE
        return self.directory / (f"{credential.value}.wrapped" if wrapped else credential.value)


@dataclass(frozen=True, slots=True)
class FileStep:
    """One credential's file, and what is to be done with it."""

    credential: Credential
    path: Path
    change: Change
    why: str = ""


Accepts = Callable[[Credential, str], bool]
"""Whether a server accepts the credential. Raises `errors.ServiceError` subclasses when it cannot tell."""


def plan_files(target: Target, store: Store, *, renew: bool, accepts: Accepts) -> tuple[FileStep, ...]:
    """What is to be done with each file: one that is there and good stays. Raises `UsageError` for a file that cannot
    be read."""
    return tuple(_file_step(credential, store, renew=renew, accepts=accepts) for credential in needed(target))


def _file_step(credential: Credential, store: Store, *, renew: bool, accepts: Accepts) -> FileStep:
    path = store.path(credential)
    try:
        value = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return FileStep(credential, path, Change.CREATE)
    except (OSError, UnicodeDecodeError) as error:
        raise _told(path, "read", error) from None
    if renew:
        return FileStep(credential, path, Change.UPDATE)
    if path.suffix == ".wrapped" or (value and accepts(credential, value)):
        open_to_others = path.stat().st_mode & 0o077
        return FileStep(credential, path, Change.KEEP, "others can read it: chmod 600" if open_to_others else "")
    why = "what is in the file is not accepted (any more); --new-credentials makes new ones"
    return FileStep(credential, path, Change.CONFLICT, why)


def show_files(steps: tuple[FileStep, ...]) -> str:
    """The steps for people."""
    signs = {Change.CREATE: "+", Change.UPDATE: "~", Change.KEEP: "=", Change.CONFLICT: "!"}
    lines = [f"{signs[step.change]} file {step.path}" + (f": {step.why}" if step.why else "") for step in steps]
    return "".join(f"{line}\n" for line in lines)


class Issuer:
    """Makes credentials."""

    def __init__(self, vault: VaultAdmin, nomad: NomadAdmin) -> None:
        self._vault = vault
        self._nomad = nomad

    def issue(self, target: Target, step: FileStep, store: Store) -> Issued | None:
        """Make one and write it, or do nothing for a file that stays. The file is made first, so that no credential is
        lost for want of a place. Raises `UsageError` and `errors.ServiceError` subclasses."""
        if step.change not in (Change.CREATE, Change.UPDATE):
            return None
        with _reserved(step.path) as write:
            issued = self._make(target, step.credential, store.wrap_seconds)
            write(issued.value)
        return issued

    def _make(self, target: Target, credential: Credential, wrap_seconds: int) -> Issued:
        name = target.scope.name
        match credential:
            case Credential.VAULT_TOKEN:
                return self._vault.create_token(name, name, wrap_seconds=wrap_seconds)
            case Credential.ROLE_ID:
                return Issued(self._vault.role_id(target.approle_mount, name))
            case Credential.SECRET_ID:
                return self._vault.create_secret_id(target.approle_mount, name, wrap_seconds=wrap_seconds)
            case Credential.NOMAD_TOKEN:
                return self._nomad.create_token(name, [name])


@contextlib.contextmanager
def _reserved(path: Path) -> Iterator[Callable[[str], None]]:
    """A new file beside `path`, which takes its place when it was written; only its owner can read it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number, new = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _told(path, "written", error) from None

    def write(value: str) -> None:
        try:
            os.write(number, value.encode())
            os.fsync(number)
            os.replace(new, path)
        except OSError as error:
            raise _told(path, "written", error) from None

    try:
        yield write
    finally:
        os.close(number)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)


def _told(path: Path, what: str, error: OSError | ValueError) -> UsageError:
    reason = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
    return UsageError(f"{path} cannot be {what}: {reason.lower()}", remedy="name another directory by --credentials")
