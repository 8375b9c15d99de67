"""Workload identities and Vault: logging in, tokens, what a refusal does."""

import base64
import json
from typing import Any

from tests.conformance.nomad import (
    SECOND,
    Nomad,
    changed,
    env_template,
    events,
    file_template,
    job,
    say,
    task,
    vault_task,
)

_GIVEN_UP = "Failed due to unhealthy allocations"


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return decoded


def pinned(path: str, version: int) -> dict[str, Any]:
    """An env template that sets V to the field `user` of that version."""
    secret = f"secret/data/{path}?version={version}"
    return env_template(f'{{{{ with secret "{secret}" }}}}V={{{{ .Data.data.user | toJSON }}}}\n{{{{ end }}}}')


def test_a_task_logs_in_and_sees_the_pinned_version(nomad: Nomad, unique: str) -> None:
    vault = nomad.stack.openbao
    vault.put_secret(unique, {"user": "one"})
    vault.put_secret(unique, {"user": "two"})
    nomad.grant(unique, unique)
    for version in (1, 2):
        sent = vault_task(unique, [pinned(unique, version)], say("echo $V"))
        nomad.register(job(f"{unique}-{version}", sent))
    for version, expected in ((1, "one"), (2, "two")):
        assert nomad.said(f"{unique}-{version}") == f"{expected}\n"


def test_moving_the_pin_rolls_the_job_and_the_tasks_see_the_new_value(nomad: Nomad, unique: str) -> None:
    vault = nomad.stack.openbao
    vault.put_secret(unique, {"user": "one"})
    vault.put_secret(unique, {"user": "two"})
    nomad.grant(unique, unique)

    def sent(version: int) -> dict[str, Any]:
        return job(unique, vault_task(unique, [pinned(unique, version)], "echo $V; exec sleep 3000"), count=2)

    nomad.register(sent(1))
    nomad.wait_deployed(unique, 0)
    nomad.register(sent(2))
    nomad.wait_deployed(unique, 1)
    assert [nomad.logs(one) for one in nomad.running(unique)] == ["two\n", "two\n"]


def test_the_identity_carries_nomads_claims(nomad: Nomad, unique: str) -> None:
    identity = {"Name": "vault_default", "Audience": ["vault.io"], "TTL": 3600 * SECOND, "File": True, "Env": True}
    script = say("cat $NOMAD_SECRETS_DIR/nomad_vault_default.jwt; echo; echo $NOMAD_TOKEN_vault_default")
    nomad.register(job(unique, task(script, Identities=[identity])))
    from_file, from_env = nomad.said(unique).split()
    running = nomad.running(unique)[0]
    for token in (from_file, from_env):
        claims = claims_of(token)
        assert claims["sub"] == f"global:default:{unique}:g:t:vault_default"
        assert claims["aud"] == "vault.io"
        assert claims["exp"] - claims["iat"] == 3600
        assert claims["nomad_allocation_id"] == running["ID"]
        assert (claims["nomad_namespace"], claims["nomad_job_id"], claims["nomad_task"]) == ("default", unique, "t")


def test_a_role_bound_to_the_subject_lets_that_task_in_and_no_other(nomad: Nomad, unique: str) -> None:
    nomad.stack.openbao.put_secret(unique, {"user": "one"})
    nomad.grant(unique, unique, bound_subject=f"global:default:{unique}:g:t:vault_default")
    template = env_template(f'{{{{ with secret "secret/data/{unique}" }}}}V={{{{ .Data.data.user }}}}\n{{{{ end }}}}')
    nomad.register(job(unique, vault_task(unique, [template])))
    nomad.wait_allocation(unique, "running")
    nomad.register(job(f"{unique}-other", vault_task(unique, [template])))
    refused = nomad.wait_allocation(f"{unique}-other", "failed")
    assert "Vault: failed to derive vault token: " in dict(events(refused))["Killing"]


def test_a_missing_role_fails_the_allocation_without_another_try(nomad: Nomad, unique: str) -> None:
    policy = {"Attempts": 5, "Interval": 60 * SECOND, "Delay": SECOND, "Mode": "fail"}
    nomad.register(job(unique, vault_task(f"{unique}-none", []), RestartPolicy=policy))
    failed = nomad.wait_allocation(unique, "failed")
    message = dict(events(failed))["Killing"]
    assert message.startswith(
        "Vault: failed to derive vault token: failed to derive Vault token for identity vault_default: failed to login "
        "with JWT: Error making API request.\n\nURL: PUT http://127.0.0.1:"
    )
    assert f'Code: 400. Errors:\n\n* role "{unique}-none" could not be found' in message
    assert failed["TaskStates"]["t"]["Restarts"] == 0
    assert nomad.wait_deployed(unique, 0, "failed")["StatusDescription"] == _GIVEN_UP


def test_a_policy_that_does_not_cover_the_secret_leaves_the_task_waiting(nomad: Nomad, unique: str) -> None:
    nomad.stack.openbao.put_secret(unique, {"user": "one"})
    nomad.grant(unique, f"{unique}-other")
    template = file_template(f'{{{{ with secret "secret/data/{unique}?version=1" }}}}x{{{{ end }}}}')
    nomad.register(job(unique, vault_task(unique, [template])))
    waiting = nomad.wait_event(unique, f"Missing: vault.read(secret/data/{unique}.v1)")
    assert waiting["ClientStatus"] == "pending"
    assert nomad.wait_deployed(unique, 0, "failed")["StatusDescription"] == _GIVEN_UP


def test_a_vault_block_without_an_identity_leaves_the_task_waiting(nomad: Nomad, unique: str) -> None:
    nomad.grant(unique, unique)
    sent = changed(job(unique, vault_task(unique, [])), lambda _, one: one.pop("Identities"))
    nomad.register(sent)
    nomad.wait_event(unique, "Task not running by healthy_deadline of 4s")
    assert nomad.allocations(unique)[0]["ClientStatus"] == "pending"


def test_the_token_reaches_the_task_only_where_the_block_says_so(nomad: Nomad, unique: str) -> None:
    nomad.grant(unique, unique)
    script = say('test -n "$VAULT_TOKEN" && echo env; test -s $NOMAD_SECRETS_DIR/vault_token && echo file')
    both = job(f"{unique}-both", vault_task(unique, [], script))
    neither = changed(
        {**both, "ID": f"{unique}-neither"}, lambda _, one: one["Vault"].update(Env=False, DisableFile=True)
    )
    for sent in (both, neither):
        nomad.register(sent)
    for sent, expected in ((both, "env\nfile\n"), (neither, "")):
        assert nomad.said(sent["ID"]) == expected


def test_the_keys_are_served_without_a_token(nomad: Nomad) -> None:
    keys = nomad.api.get("/.well-known/jwks.json").expect(200).json()["keys"]
    assert {"kid", "kty", "alg", "use", "n", "e"} <= set(keys[0])
    assert keys[0]["alg"] == "RS256"
