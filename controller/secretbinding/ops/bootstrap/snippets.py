"""What to do next, ready to paste: Nomad's agents, the controller, audit devices. Pure texts, no secret in them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from shlex import quote
from textwrap import wrap

from secretbinding.models.binding import API_VERSION
from secretbinding.models.policy import POLICY_KIND
from secretbinding.ops.bootstrap.blocks import block
from secretbinding.ops.bootstrap.controller_job import Driver, Program, controller_job
from secretbinding.ops.bootstrap.target import Login, Target
from secretbinding.ops.product import Product
from secretbinding.render.role import AUDIENCE
from secretbinding.render.text import go_string
from secretbinding.strictyaml import dump

_WIDTH = 100
CREDENTIALS = "/etc/secretbinding"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the texts name beside the target.

    Attributes:
        vault_address, nomad_address: as the controller, Nomad's clients and the servers' own tools reach them.
        lookup: the address by which the controller looks Vault up; "" when it takes `vault_address`.
        vault_namespace: of Vault; "" for the root namespace.
        vault_ca, nomad_ca: a file of certificates to trust; "" for the system's.
        credentials: the directory that credentials were written to; None when none were.
        wrapped: the credentials of Vault are response-wrapped.
        driver, image, command: how the controller's own job runs it.
        product: what kind of server Vault is.
        audited: it has an audit device that is no socket.
    """

    vault_address: str
    nomad_address: str
    lookup: str = ""
    vault_namespace: str = ""
    vault_ca: str = ""
    nomad_ca: str = ""
    credentials: PurePath | None = None
    wrapped: bool = False
    driver: Driver = Driver.DOCKER
    image: str = "secretbinding"
    command: str = "secretbinding"
    product: Product = Product.UNKNOWN
    audited: bool = False


@dataclass(frozen=True, slots=True)
class Snippet:
    """One text to paste. `language` is `hcl`, `yaml` or `shell`; `notes` are sentences above it."""

    title: str
    language: str
    text: str
    notes: tuple[str, ...] = field(default=())


def snippets(target: Target, around: Surroundings) -> tuple[Snippet, ...]:
    """All texts for the chosen way to log in, in the order in which they are used."""
    audit = () if around.audited else tuple(AUDIT[product] for product in AUDIT if around.product in (product, _ANY))
    return (*_agents(target, around), first_rule(target), *_controller(target, around), *audit, CHECK)


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
            yield from _on_kubernetes(target, around)
        case Login.APPROLE:
            once = (
                "The controller opens the wrapped secret ID, once, and keeps it in memory: after a restart it needs "
                "another one (--new-credentials). When it cannot be opened, somebody else has opened it: find out who.",
            )
            yield _on_a_host(target, around, *(once if around.wrapped else ()))
        case Login.KUBERNETES:
            yield from _on_kubernetes(target, around)
        case Login.NOMAD:
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
        values["VAULT_TOKEN_FILE"] = _file(around, "vault-token")
    if target.nomad_acl:
        values["NOMAD_TOKEN_FILE"] = _file(around, "nomad-token")
    lines = [f"export {name}={quote(value)}" for name, value in values.items()]
    text = "\n".join([*lines, "secretbinding run --source nomad", ""])
    return Snippet("The controller on a host", "shell", text, notes)


def _on_kubernetes(target: Target, around: Surroundings) -> Iterator[Snippet]:
    namespace, account = target.service_account
    name = target.scope.name
    files = [file for file in ("vault-token", "nomad-token") if _is_mounted(file, target)]
    if files:
        sources = "".join(f" \\\n  --from-file={file}={quote(_file(around, file))}" for file in files)
        yield Snippet(
            "The controller's Secret in Kubernetes",
            "shell",
            f"kubectl -n {namespace} create secret generic {name}{sources}\n",
        )
    values = _environment(target, around)
    for file in files:
        values[f"{file.upper().replace('-', '_')}_FILE"] = f"/var/run/secretbinding/{file}"
    lines = [f"serviceAccountName: {account}", "containers:", "  - name: controller", f"    image: {around.image}"]
    lines += ['    args: ["run", "--source", "kubernetes"]', "    env:"]
    lines += [f"      - {{name: {key}, value: {go_string(value)}}}" for key, value in values.items()]
    if files:
        lines += ["    volumeMounts:"]
        lines += ["      - {name: credentials, mountPath: /var/run/secretbinding, readOnly: true}", "volumes:"]
        lines += [f"  - {{name: credentials, secret: {{secretName: {name}, defaultMode: 0400}}}}"]
    yield Snippet("The controller's pod in Kubernetes: what its Deployment needs", "yaml", "\n".join([*lines, ""]))


def _is_mounted(file: str, target: Target) -> bool:
    return target.login is Login.TOKEN if file == "vault-token" else target.nomad_acl


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
                "SECRETBINDING_VAULT_LOGIN_ROLE_ID_FILE": _file(around, "role-id"),
                "SECRETBINDING_VAULT_LOGIN_SECRET_ID_FILE": _file(around, "secret-id"),
            }
            if around.wrapped:
                ids["SECRETBINDING_VAULT_LOGIN_SECRET_ID_FILE"] += ".wrapped"
                ids["SECRETBINDING_VAULT_LOGIN_SECRET_ID_WRAPPED"] = "true"
            return {"SECRETBINDING_VAULT_LOGIN": "approle"} | _unusual(target.approle_mount, "approle") | ids


def _unusual(mount: str, usual: str) -> dict[str, str]:
    return {"SECRETBINDING_VAULT_LOGIN_MOUNT": mount} if mount != usual else {}


def _unwrap(file: str, value: str, around: Surroundings) -> Snippet:
    path = _file(around, file)
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

CHECK = Snippet(
    "Check both sides",
    "shell",
    "secretbinding doctor\n",
    ("With your own token: it reads what the controller may not.",),
)


def show(texts: tuple[Snippet, ...]) -> str:
    """The texts below each other. Titles and notes are comments, so that a part can be pasted with them."""
    parts = []
    for one in texts:
        head = [f"## {one.title}", *(f"# {line}" for note in one.notes for line in wrap(note, _WIDTH))]
        parts.append("\n".join(head) + f"\n{one.text}")
    return "\n".join(parts)


def _file(around: Surroundings, name: str) -> str:
    return str((around.credentials or PurePath(CREDENTIALS)) / name)


def _string(value: str) -> str:
    return go_string(value)


def _duration(seconds: int) -> str:
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds}s"
