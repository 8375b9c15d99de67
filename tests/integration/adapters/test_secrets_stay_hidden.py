"""Canaries: neither a token nor a value that is written ever shows in an exception, a traceback or a log."""

import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from secretbinding.adapters.connection import NomadConnection, VaultConnection
from secretbinding.adapters.nomad import NomadAdapter
from secretbinding.adapters.nomad.admin import NomadAdminAdapter
from secretbinding.adapters.vault import VaultAdapter
from secretbinding.adapters.vault.admin import VaultAdminAdapter
from secretbinding.errors import SecretBindingError

from .misbehaving import Misbehaving, half, lines, misbehaving, reply, reset

TOKEN = "hvs.canary-token-5309"
VALUE = "canary-value-8675"
PLAIN = NomadConnection(address="http://localhost:4646", token=TOKEN)


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    with misbehaving() as running:
        yield running


def whole_chain(error: BaseException) -> str:
    """All that could be printed of an error: every exception behind it, with arguments, attributes and traceback."""
    texts = []
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is not None:
            texts += [str(each), repr(each), repr(each.args), repr(vars(each))]
            texts += traceback.format_exception(each)
            pending += [each.__cause__, each.__context__]
    return "\n".join(texts)


REPEATS = (
    reply(400, {"errors": [f"bad {TOKEN} {VALUE}"]}),
    reply(403, f"denied {TOKEN} {VALUE}".encode()),
    reply(404, f"nothing {TOKEN} {VALUE}".encode()),
    reply(409, {"Items": {"k": VALUE}}),
    reply(500, f"failed {TOKEN} {VALUE}".encode()),
    reply(200, f"garbage {TOKEN} {VALUE}".encode()),
    reply(200, [TOKEN, VALUE]),
    reply(307, Location=f"http://{TOKEN}:{VALUE}@elsewhere.invalid/{TOKEN}?v={VALUE}"),
    reset,
    half,
)
CALLS: tuple[Callable[[VaultAdminAdapter, NomadAdminAdapter], Any], ...] = (
    lambda vault, nomad: vault.write_policy("app", "text"),
    lambda vault, nomad: vault.list_policies(),
    lambda vault, nomad: vault.kv_metadata("secret", "app"),
    lambda vault, nomad: vault.static_role("database", "app"),
    lambda vault, nomad: vault.patch_kv("secret", "app", {"k": SecretStr(VALUE)}, seen=1),
    lambda vault, nomad: vault.patch_kv("secret", "app", {"k": SecretStr(VALUE)}, seen=0),
    lambda vault, nomad: vault.generate_password("strong"),
    lambda vault, nomad: vault.new_secret_id("approle", "app"),
    lambda vault, nomad: vault.rotate_root("database", "main"),
    lambda vault, nomad: nomad.job("default", "app"),
    lambda vault, nomad: nomad.write_variable("default", "a", {"k": VALUE}, cas=0),
    lambda vault, nomad: nomad.register({"ID": "app"}, modify_index=0),
    lambda vault, nomad: next(nomad.events(["Job:*"], "default")),
    lambda vault, nomad: vault.own_token(),
    lambda vault, nomad: vault.create_token("app", "app"),
    lambda vault, nomad: vault.create_secret_id("approle", "app"),
    lambda vault, nomad: nomad.agent(),
    lambda vault, nomad: nomad.own_token(),
    lambda vault, nomad: nomad.create_token("app", ["app"]),
)


@pytest.mark.parametrize("call", range(len(CALLS)))
@pytest.mark.parametrize("answer", range(len(REPEATS)))
def test_no_exception_and_no_log_line_holds_a_secret(
    server: Misbehaving, caplog: pytest.LogCaptureFixture, answer: int, call: int
) -> None:
    caplog.set_level(logging.DEBUG)
    settings: dict[str, Any] = {"address": server.address, "token": TOKEN, "retry_attempts": 2, "retry_seconds": 2.0}
    vault, nomad = VaultAdminAdapter(VaultConnection(**settings)), NomadAdminAdapter(NomadConnection(**settings))
    server.script = [REPEATS[answer]]
    try:
        CALLS[call](vault, nomad)
    except SecretBindingError as error:
        shown = whole_chain(error)
    else:
        shown = ""
    sent = server.requests[0].headers
    assert TOKEN in (sent.get("X-Vault-Token"), sent.get("X-Nomad-Token"))
    for canary in (TOKEN, VALUE):
        assert canary not in shown
        assert canary not in caplog.text


def test_of_an_agents_configuration_and_of_new_credentials_no_secret_is_kept_in_sight(server: Misbehaving) -> None:
    config = {"Vaults": [{"Name": "default", "Enabled": True, "Token": VALUE}], "Consuls": [{"Token": VALUE}]}
    nomad = NomadAdminAdapter(NomadConnection(address=server.address, token=TOKEN))
    server.script = [reply(200, {"config": config, "member": {}})]
    agent = nomad.agent()
    assert agent.vaults[0].has_token
    server.script = [reply(200, {"SecretID": VALUE, "AccessorID": "a", "Type": "client"})]
    issued = nomad.create_token("app", ["app"])
    assert issued.value == VALUE
    server.script = [reply(200, {"SecretID": VALUE, "AccessorID": "a", "Type": "client"})]
    assert VALUE not in repr((agent, issued, nomad.own_token()))


def test_a_stream_that_breaks_does_not_show_the_token(server: Misbehaving) -> None:
    for action in (lines("{}"), lines(TOKEN), lines("{}", then=reset)):
        server.script = [action]
        nomad = NomadAdapter(NomadConnection(address=server.address, token=TOKEN))
        with pytest.raises(SecretBindingError) as caught:
            list(nomad.events(["Job:*"], "default"))
        assert TOKEN not in whole_chain(caught.value)


def test_no_library_exception_is_left_behind_a_typed_one(server: Misbehaving) -> None:
    server.script = [reset]
    with pytest.raises(SecretBindingError) as caught:
        VaultAdapter(VaultConnection(address=server.address, token=TOKEN, retry_seconds=0.5)).read_policy("app")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_token_with_a_line_break_is_refused_without_being_shown(server: Misbehaving) -> None:
    server.script = [reply(200)]
    vault = VaultAdapter(VaultConnection(address=server.address, token=f"{TOKEN}\r\nX-Evil: 1"))
    with pytest.raises(SecretBindingError, match="odd characters") as caught:
        vault.read_policy("app")
    assert TOKEN not in whole_chain(caught.value)
    assert server.requests == []
