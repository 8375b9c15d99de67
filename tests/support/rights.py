"""Tokens with just the rights that `deploy/` gives a controller."""

from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path

from secretbinding.ops.rights import nomad_policy, vault_policy
from secretbinding.ops.shipped import SHIPPED
from tests.support.servers import Stack

DEPLOY = Path(__file__).parents[2] / "deploy"


def shipped(*files: str, **names: str) -> str:
    """The texts of optional policies in `deploy/`, with names of their examples replaced."""
    text = "\n".join((DEPLOY / file).read_text() for file in files)
    for example, name in names.items():
        text = text.replace(f"/{example}", f"/{name}")
    return text


@cache
def controller_tokens(stack: Stack, instance: str, more_vault: str = "", more_nomad: str = "") -> tuple[str, str]:
    """A token of Vault and one of Nomad with what `deploy/vault-policy.hcl` and `deploy/nomad-policy.hcl` give, for an
    instance of that name, and with what further policies give. Nomad's is empty where it has no ACLs."""
    scope = replace(SHIPPED, instance=instance)
    return _of_vault(stack, [vault_policy(scope), more_vault]), _of_nomad(stack, [nomad_policy(scope), more_nomad])


def _of_vault(stack: Stack, texts: list[str]) -> str:
    names = [name_of(text) for text in texts if text]
    for name, text in zip(names, texts, strict=False):
        stack.openbao.put_policy(name, text)
    body = {"policies": names, "no_parent": True, "no_default_policy": True, "ttl": "24h"}
    return str(stack.openbao.api.put("/v1/auth/token/create", body).expect().json()["auth"]["client_token"])


def _of_nomad(stack: Stack, texts: list[str]) -> str:
    if not stack.token:
        return ""
    names = [name_of(text) for text in texts if text]
    for name, text in zip(names, texts, strict=False):
        stack.api.put(f"/v1/acl/policy/{name}", {"Name": name, "Rules": text}).expect()
    body = {"Name": "controller", "Type": "client", "Policies": names}
    return str(stack.api.put("/v1/acl/token", body).expect().json()["SecretID"])


def name_of(text: str) -> str:
    """The name that a policy of this text is given, in Vault and in Nomad."""
    return f"shipped-{sha256(text.encode()).hexdigest()[:16]}"
