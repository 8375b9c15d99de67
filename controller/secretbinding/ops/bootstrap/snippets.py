"""What to do next, ready to paste: Nomad's agents, the controller, audit devices. Pure texts, no secret in them."""

import re
from collections.abc import Iterator
from shlex import quote
from textwrap import wrap

from secretbinding.models.binding import API_VERSION
from secretbinding.models.policy import POLICY_KIND
from secretbinding.ops.bootstrap.blocks import block
from secretbinding.ops.bootstrap.chart import kubernetes
from secretbinding.ops.bootstrap.controller_job import Program, controller_job
from secretbinding.ops.bootstrap.credentials import Credential, needed
from secretbinding.ops.bootstrap.pasting import Snippet, Surroundings, file_of
from secretbinding.ops.bootstrap.target import Login, Target
from secretbinding.ops.product import Product
from secretbinding.render.role import AUDIENCE
from secretbinding.render.text import go_string
from secretbinding.strictyaml import dump

_WIDTH = 100
_COMMAND = re.compile(r"`[^`]*`")
_JOINED = "\N{NO-BREAK SPACE}"


def snippets(target: Target, around: Surroundings) -> tuple[Snippet, ...]:
    """All texts for the chosen way to log in, in the order in which they are used."""
    audit = () if around.audited else tuple(AUDIT[product] for product in AUDIT if around.product in (product, _ANY))
    return (*_agents(target, around), first_rule(target), *_controller(target, around), *audit, check(target, around))


def first_rule(target: Target) -> Snippet:
    """The policy by which each tenant has its own secrets in its own namespace."""
    mounts = [mount.path for mount in target.scope.mounts if mount.kind == "kv"] or ["secret"]
    spec = {
        "tenants": [{"names": ["*"]}],
        "workloads": [{"namespaces": ["{{tenant}}"]}],
        "secrets": [{"kinds": ["kv"], "mounts": mounts, "paths": ["{{tenant}}/*"]}],
    }
    manifest = {"apiVersion": API_VERSION, "kind": POLICY_KIND, "metadata": {"name": "first-rule"}, "spec": spec}
    return Snippet(
        "The first rule: whose bindings may do what",
        "yaml",
        dump(manifest),
        (
            "Without a policy no binding is allowed. This one gives each tenant the secrets below its own name, in the "
            "Nomad namespace of its own name: `kubectl apply -f rule.yaml`, or `nomad var put "
            "nomad-vault/policies/first-rule manifest=@rule.yaml` in the controller's own namespace.",
            "For a single team that may have every secret: SECRETBINDING_TENANCY=open.",
        ),
    )


def _agents(target: Target, around: Surroundings) -> Iterator[Snippet]:
    yield Snippet(
        "Nomad clients: the `vault` block of the agent's configuration",
        "hcl",
        client_block(target, around),
        ("Restart the agent afterwards; its tasks go on meanwhile.",),
    )
    yield Snippet(
        "Nomad servers: the `vault` block of the agent's configuration",
        "hcl",
        server_block(),
        (
            "Only tasks with a `vault` block of their own need `default_identity`; the controller gives each task its "
            "identity itself.",
        ),
    )
    yield Snippet(
        "Nomad clients, the older form: do not use it any more",
        "hcl",
        older_block(around),
        (
            "Gone since Nomad 1.10.0: an agent still starts with it, ignores `token`, and no task gets a token by it. "
            "Bindings need the form above, which Nomad has since 1.7.0.",
        ),
    )


def client_block(target: Target, around: Surroundings) -> str:
    """The `vault` block of a Nomad client, workload identity form."""
    values = [("enabled", "true"), ("address", _string(around.vault_address))]
    values.append(("jwt_auth_backend_path", _string(target.scope.jwt_mount)))
    if around.vault_namespace:
        values.append(("namespace", _string(around.vault_namespace)))
    if around.vault_ca:
        values.append(("ca_file", _string(around.vault_ca)))
    if target.default_role:
        values.append(("create_from_role", _string(target.default_role)))
    return block("vault", values)


def server_block() -> str:
    """The `vault` block of a Nomad server."""
    identity = [("aud", f"[{_string(AUDIENCE)}]"), ("env", "false"), ("file", "false"), ("ttl", '"1h"')]
    return block("vault", [("enabled", "true")], block("default_identity", identity))


def older_block(around: Surroundings) -> str:
    """The form with a token, for agents before 1.10."""
    values = [("enabled", "true"), ("address", _string(around.vault_address)), ("token", '"<nomad-vault-token>"')]
    return block("vault", values)


def _controller(target: Target, around: Surroundings) -> Iterator[Snippet]:
    match target.login:
        case Login.TOKEN:
            if around.wrapped:
                yield _unwrap("vault-token", "token", around)
            yield _on_a_host(
                target,
                around,
                f"The controller renews its token while it runs. The token ends {_duration(target.period_seconds)} "
                "after the last renewal: start the controller before that, or make another one with --new-credentials.",
            )
            yield from kubernetes(target, around)
        case Login.APPROLE:
            once = (
                "The controller opens the wrapped secret ID, once, and keeps it in memory: after a restart it needs "
                "another one (--new-credentials). When it cannot be opened, somebody else has opened it: find out who.",
            )
            yield _on_a_host(target, around, *(once if around.wrapped else ()))
        case Login.KUBERNETES:
            yield from kubernetes(target, around)
        case Login.NOMAD:
            if target.job_namespace != "default":
                yield Snippet(
                    "The namespace of the controller's Nomad job",
                    "shell",
                    f"nomad namespace apply {target.job_namespace}\n",
                    ("Nomad takes no job for a namespace that is not there. One that is there stays as it is.",),
                )
            yield Snippet(
                "The controller as a Nomad job",
                "hcl",
                job(target, around),
                (
                    "No secret is kept anywhere: the controller logs in to Vault with its workload identity, which "
                    "Nomad's client keeps fresh; Nomad's ACL policy is attached to the job.",
                ),
            )


def _on_a_host(target: Target, around: Surroundings, *notes: str) -> Snippet:
    values = _environment(target, around)
    if target.login is Login.TOKEN:
        values["VAULT_TOKEN_FILE"] = file_of(around, "vault-token")
    if target.nomad_acl:
        values["NOMAD_TOKEN_FILE"] = file_of(around, "nomad-token")
    lines = [f"export {name}={quote(value)}" for name, value in values.items()]
    text = "\n".join([*lines, "secretbinding run --source nomad", ""])
    return Snippet("The controller on a host", "shell", text, notes)


def job(target: Target, around: Surroundings) -> str:
    """The controller as a Nomad job, with a workload identity for both servers, health checks that gate its own
    deployments, and two allocations where they agree by locks on variables."""
    return controller_job(
        target.job,
        target.job_namespace,
        Program(around.driver, around.image, around.command),
        _environment(target, around),
        nomad_acl=target.nomad_acl,
        several=target.scope.election,
    )


def _environment(target: Target, around: Surroundings) -> dict[str, str]:
    values = {"VAULT_ADDR": around.lookup or around.vault_address, "NOMAD_ADDR": around.nomad_address}
    optional = {
        "VAULT_NAMESPACE": around.vault_namespace,
        "VAULT_CACERT": around.vault_ca,
        "NOMAD_CACERT": around.nomad_ca,
        "SECRETBINDING_INSTANCE": target.scope.instance if target.scope.instance != "default" else "",
        "SECRETBINDING_ELECTION": "nomad" if target.scope.election else "",
        "SECRETBINDING_JWT_MOUNT": target.scope.jwt_mount if target.scope.jwt_mount != "jwt-nomad" else "",
    }
    return values | {name: value for name, value in (optional | _login(target, around)).items() if value}


def _login(target: Target, around: Surroundings) -> dict[str, str]:
    """The settings of the controller's own login; its role has the name that the controller expects."""
    match target.login:
        case Login.TOKEN:
            return {}
        case Login.NOMAD:
            return {"SECRETBINDING_VAULT_LOGIN": "nomad"}
        case Login.KUBERNETES:
            mount = target.kubernetes_mount
            return {"SECRETBINDING_VAULT_LOGIN": "kubernetes"} | _unusual(mount, "kubernetes")
        case Login.APPROLE:
            ids = {
                "SECRETBINDING_VAULT_LOGIN_ROLE_ID_FILE": file_of(around, "role-id"),
                "SECRETBINDING_VAULT_LOGIN_SECRET_ID_FILE": file_of(around, "secret-id"),
            }
            if around.wrapped:
                ids["SECRETBINDING_VAULT_LOGIN_SECRET_ID_FILE"] += ".wrapped"
                ids["SECRETBINDING_VAULT_LOGIN_SECRET_ID_WRAPPED"] = "true"
            return {"SECRETBINDING_VAULT_LOGIN": "approle"} | _unusual(target.approle_mount, "approle") | ids


def _unusual(mount: str, usual: str) -> dict[str, str]:
    return {"SECRETBINDING_VAULT_LOGIN_MOUNT": mount} if mount != usual else {}


def _unwrap(file: str, value: str, around: Surroundings) -> Snippet:
    path = file_of(around, file)
    token = f'VAULT_TOKEN="$(cat {quote(f"{path}.wrapped")})"'
    return Snippet(
        f"Open the wrapped {file}, once, where the controller runs",
        "shell",
        f"umask 077\n{token} vault unwrap -field={value} > {quote(path)}\n",
        ("When that fails, somebody else has opened it: make new ones with --new-credentials, and find out who.",),
    )


_ANY = Product.UNKNOWN
AUDIT = {
    Product.VAULT: Snippet(
        "Audit devices on HashiCorp Vault",
        "shell",
        "vault audit enable file file_path=/var/log/vault/audit.log\n",
        (
            "Have one that depends on nothing but the disk before any other. A `socket` device must never be the only "
            "one: Vault answers every request with an error while nobody listens there.",
        ),
    ),
    Product.OPENBAO: Snippet(
        "Audit devices on OpenBao: in the server's configuration, then SIGHUP",
        "hcl",
        'audit "file" "log" {\n  options {\n    file_path = "/var/log/openbao/audit.log"\n  }\n}\n',
        (
            "OpenBao does not take audit devices over its API. A `socket` device must never be the only one, as on "
            "Vault: it answers every request with an error while nobody listens there.",
        ),
    ),
}


def check(target: Target, around: Surroundings) -> Snippet:
    """How to have both sides checked, the controller's tokens with them where they are in files."""
    files = [one for one in needed(target) if around.credentials is not None and one in _JUDGED]
    options = "".join(f" \\\n  {_JUDGED[one]} {quote(file_of(around, one.value))}" for one in files)
    return Snippet(
        "Check both sides",
        "shell",
        f"secretbinding doctor{options}\n",
        ("With your own tokens in VAULT_TOKEN and NOMAD_TOKEN: it reads what the controller may not.",),
    )


_JUDGED = {
    Credential.VAULT_TOKEN: "--controller-vault-token-file",
    Credential.NOMAD_TOKEN: "--controller-nomad-token-file",
}


def show(texts: tuple[Snippet, ...]) -> str:
    """The texts below each other. Titles and notes are comments, so that a part can be pasted with them."""
    parts = []
    for one in texts:
        head = [f"## {one.title}", *(f"# {line}" for note in one.notes for line in _lines(note))]
        parts.append("\n".join(head) + f"\n{one.text}")
    return "\n".join(parts)


def _lines(note: str) -> list[str]:
    """A note in lines. A command in it stays whole, so that it can be copied."""
    whole = _COMMAND.sub(lambda found: found[0].replace(" ", _JOINED), note)
    lines = wrap(whole, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return [line.replace(_JOINED, " ") for line in lines]


def _string(value: str) -> str:
    return go_string(value)


def _duration(seconds: int) -> str:
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds}s"
