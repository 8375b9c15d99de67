"""The policies and Nomad configurations in `deploy/`: `python -m secretbinding.ops.shipped deploy` writes them. Made of
the same lists as those that `bootstrap` writes and prints."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from secretbinding.ops.bootstrap.pasting import Surroundings
from secretbinding.ops.bootstrap.snippets import client_block, job, older_block, server_block
from secretbinding.ops.bootstrap.target import Login, Target
from secretbinding.ops.engines import ENGINES
from secretbinding.ops.rights import (
    ELECTION,
    REVOKING,
    Mount,
    Scope,
    block,
    engine_rights,
    nomad_policy,
    variable_rights,
    variables_block,
    vault_policy,
    vault_rights,
)

SHIPPED = Scope(mounts=(Mount("kv", "secret"), Mount("database", "database"), Mount("pki", "pki")))
"""What the two main policies are for."""

_OTHERS = [kind for kind in ENGINES if kind not in {mount.kind for mount in SHIPPED.mounts}]
_FURTHER = Scope(mounts=tuple(Mount(kind, "kv" if kind == "kv1" else kind) for kind in _OTHERS))
_MADE = Scope(mounts=(Mount("database", "database", makes=True), Mount("pki", "pki", makes=True)))
_VARIABLES = Scope(nomad_variables=("nomad/jobs*",))


def files() -> Mapping[str, str]:
    """The texts, by the name of the file."""
    return {
        "vault-policy.hcl": vault_policy(SHIPPED),
        "vault-policy-engines.hcl": _engines(),
        "vault-policy-revoke.hcl": _revoking(),
        "nomad-policy.hcl": nomad_policy(SHIPPED),
        "nomad-policy-variables.hcl": _variables(),
        "nomad-policy-election.hcl": _election(),
        **_nomad(),
    }


def _nomad() -> Mapping[str, str]:
    """Nomad's agents and the controller as a job, for a Vault and a Nomad that are found in Consul's DNS."""
    around = Surroundings("http://vault.service.consul:8200", "http://nomad.service.consul:4646")
    target = Target(replace(SHIPPED, election=True), "http://nomad.service.consul:4646/keys", login=Login.NOMAD)
    return {
        "nomad/controller.nomad.hcl": _headed(
            "The controller as a Nomad job: nomad job run deploy/nomad/controller.nomad.hcl\n"
            "`secretbinding bootstrap --login nomad` makes what it needs in Vault and Nomad, and prints it with your\n"
            "addresses. Two allocations agree by a lock on a variable: one works, the other takes over.",
            job(target, around),
        ),
        "nomad/client.hcl": _headed(
            "Nomad clients: where Vault is, and where workload identities log in.", client_block(target, around)
        ),
        "nomad/server.hcl": _headed(
            "Nomad servers. Only tasks with a `vault` block of their own need `default_identity`: the controller\n"
            "gives each task its identity itself.",
            server_block(),
        ),
        "nomad/client-before-1.10.hcl": _headed(
            "The older form, with a token. Gone since Nomad 1.10.0: an agent still starts with it, ignores `token`,\n"
            "and no task gets a token by it. Bindings need the form in client.hcl, which Nomad has since 1.7.0.",
            older_block(around),
        ),
    }


def _headed(words: str, text: str) -> str:
    return "".join(f"# {line}\n" for line in words.splitlines()) + f"\n{text}"


def _engines() -> str:
    plain = set(engine_rights(replace(_MADE, mounts=tuple(replace(mount, makes=False) for mount in _MADE.mounts))))
    made = [right for right in engine_rights(_MADE) if right not in plain]
    return "\n".join(
        [
            '# What the controller may do besides in Vault or OpenBao, for instance "default": a second policy for its '
            "token, of which\n# you keep the blocks that you need. No path here gives a secret's value.\n",
            "# --- Further engines, each for the mount that bindings may use ---\n",
            *map(block, engine_rights(_FURTHER)),
            "# --- Roles that bindings have made (`create`) ---\n"
            "# Whoever may write a binding decides then what such a role does, within the connections and issuers\n"
            "# that the engine has. Give these only where you trust the people who write bindings.\n",
            *map(block, made),
        ]
    )


def _revoking() -> str:
    return "\n".join(
        [
            "# What `secretbinding revoke` may do in Vault or OpenBao: for a person's token, never the controller's.\n"
            "# Whoever has it can end every token of the namespace. No path here gives a token or a value.\n",
            *map(block, REVOKING),
            *(block(right) for right in vault_rights(SHIPPED) if right.path == "auth/token/lookup-self"),
        ]
    )


def _variables() -> str:
    known = variable_rights(Scope())
    rights = [right for right in variable_rights(_VARIABLES) if right not in known]
    return (
        "# What the controller may do besides in Nomad where bindings take values from Nomad variables\n"
        f"# (`nomadVariable`). A second policy for its token.\n{variables_block('*', rights)}"
    )


def _election() -> str:
    return (
        "# What the controller may do besides in Nomad where several of them agree by locks on variables\n"
        "# (SECRETBINDING_ELECTION=nomad). A further policy for its token. The namespace is written as in the first:\n"
        "# Nomad takes the rule with the closest name alone, and would take all other rights away there.\n"
        f"{variables_block('*', ELECTION)}"
    )


def main(directory: str) -> None:
    """Write them into a directory."""
    for name, text in files().items():
        path = Path(directory) / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
