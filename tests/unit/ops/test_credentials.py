"""The controller's credentials: where they go, who can read them, and when new ones are made."""

from pathlib import Path
from typing import Any

import pytest

from secretbinding.errors import Denied, UsageError
from secretbinding.ops.bootstrap.credentials import Credential, Issuer, Store, needed, plan_files, show_files
from secretbinding.ops.bootstrap.planning import Change
from secretbinding.ops.bootstrap.target import Login, Target
from secretbinding.ops.ports import Issued


def target(**changes: Any) -> Target:
    return Target(**{"jwks_url": "http://nomad/keys", **changes})


def plan(store: Store, *, renew: bool = False, accepted: bool = True) -> dict[str, Change]:
    steps = plan_files(target(), store, renew=renew, accepts=lambda credential, value: accepted)
    return {step.path.name: step.change for step in steps}


class Makes:
    """Stands for both servers: gives out numbered tokens, or refuses."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.made = 0

    def create_token(self, *_: Any, **__: Any) -> Issued:
        if self.refuses:
            raise Denied("no", system="vault")
        self.made += 1
        return Issued(f"token-{self.made}")


def issue(store: Store, makes: Makes, *, renew: bool = False) -> None:
    issuer = Issuer(makes, makes)
    for step in plan_files(target(), store, renew=renew, accepts=lambda credential, value: True):
        issuer.issue(target(), step, store)


@pytest.mark.parametrize(
    ("login", "acl", "files"),
    [
        (Login.TOKEN, True, {"vault-token", "nomad-token"}),
        (Login.TOKEN, False, {"vault-token"}),
        (Login.APPROLE, True, {"role-id", "secret-id", "nomad-token"}),
        (Login.KUBERNETES, True, {"nomad-token"}),
        (Login.NOMAD, True, set()),
    ],
)
def test_what_is_needed_depends_on_the_login(login: Login, acl: bool, files: set[str]) -> None:
    assert {one.value for one in needed(target(login=login, nomad_acl=acl))} == files


def test_files_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    store, makes = Store(tmp_path / "new" / "place"), Makes()
    assert plan(store) == {"vault-token": Change.CREATE, "nomad-token": Change.CREATE}
    issue(store, makes)
    assert (store.directory / "vault-token").read_text() == "token-1"
    assert (store.directory / "vault-token").stat().st_mode & 0o777 == 0o600
    assert store.directory.stat().st_mode & 0o777 == 0o700
    assert plan(store) == {"vault-token": Change.KEEP, "nomad-token": Change.KEEP}
    issue(store, makes)
    assert makes.made == 2


def test_new_ones_take_the_place_of_the_old_ones_when_asked(tmp_path: Path) -> None:
    store, makes = Store(tmp_path), Makes()
    issue(store, makes)
    issue(store, makes, renew=True)
    assert (tmp_path / "vault-token").read_text() == "token-3"


def test_one_that_a_server_does_not_accept_any_more_is_in_the_way(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "vault-token").write_text("old")
    (tmp_path / "nomad-token").write_text("")
    assert plan(store, accepted=False) == {"vault-token": Change.CONFLICT, "nomad-token": Change.CONFLICT}
    steps = plan_files(target(), store, renew=False, accepts=lambda credential, value: False)
    assert "--new-credentials" in show_files(steps)
    assert "old" not in show_files(steps)


def test_a_file_that_others_can_read_is_spoken_of(tmp_path: Path) -> None:
    (tmp_path / "vault-token").write_text("x")
    (tmp_path / "vault-token").chmod(0o644)
    steps = plan_files(target(), Store(tmp_path), renew=False, accepts=lambda credential, value: True)
    assert "vault-token: others can read it: chmod 600" in show_files(steps)


def test_an_empty_file_is_never_taken_for_a_credential(tmp_path: Path) -> None:
    (tmp_path / "vault-token").write_text("\n")
    assert plan(Store(tmp_path))["vault-token"] is Change.CONFLICT


def test_no_credential_is_made_that_has_no_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    makes = Makes()
    with pytest.raises(UsageError, match="--credentials"):
        issue(Store(tmp_path / "file" / "below"), makes)
    assert makes.made == 0


def test_a_refusal_leaves_no_file_behind(tmp_path: Path) -> None:
    with pytest.raises(Denied):
        issue(Store(tmp_path), Makes(refuses=True))
    assert list(tmp_path.iterdir()) == []


def test_wrapped_credentials_have_a_name_of_their_own() -> None:
    store = Store(Path("x"), wrap_seconds=60)
    assert store.path(Credential.SECRET_ID).name == "secret-id.wrapped"
    assert store.path(Credential.ROLE_ID).name == "role-id"
    assert store.path(Credential.NOMAD_TOKEN).name == "nomad-token"


def test_a_credential_hides_its_value() -> None:
    assert "hvs" not in repr(Issued("hvs.value"))
