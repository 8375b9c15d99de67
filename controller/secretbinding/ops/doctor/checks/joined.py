"""Checks of what joins Nomad to Vault: clocks, the JWT mount, keys, audiences."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from secretbinding.naming import PREFIX
from secretbinding.ops.doctor.checks.words import some
from secretbinding.ops.doctor.facts import Facts, Unknown
from secretbinding.ops.doctor.findings import Finding, Severity, check
from secretbinding.ops.ports import Clock
from secretbinding.render.role import AUDIENCE, IDENTITY

_SKEW_SECONDS = 5.0
_LEEWAY_SECONDS = 60.0
"""How far Vault's JWT auth method lets clocks be apart by default (`clock_skew_leeway`)."""
_TICK_SECONDS = 1.0
"""A `Date` header is cut off to whole seconds."""
_UNREACHABLE = ("fetching keys", "get keys failed", "error fetching", "error checking")
_REACHED = ("failed to verify", "signature", "no known key")
_BOOTSTRAP = "secretbinding bootstrap --dry-run, then secretbinding bootstrap"


@check("clock-skew", "The clocks of this machine, Vault and Nomad agree.")
def clock_skew(facts: Facts) -> Iterator[Finding | Unknown]:
    spans = {"this machine": (0.0, 0.0)}
    for name, clock in (("Vault", facts.vault.clock), ("Nomad", facts.nomad.clock)):
        if isinstance(clock, Unknown):
            yield clock
        elif not clock.server:
            yield Unknown(f"{name} sends no Date with its answers; a proxy may take it away")
        else:
            spans[name] = _ahead(clock)
    for (one, (low, high)), (other, (lower, higher)) in itertools.combinations(spans.items(), 2):
        # The least that they can be apart, whatever the answers' times on the way.
        apart = max(low - higher, lower - high, 0.0)
        if apart > _SKEW_SECONDS:
            ahead, behind = (one, other) if low > higher else (other, one)
            severe = apart > _LEEWAY_SECONDS
            yield Finding(
                Severity.ERROR if severe else Severity.WARNING,
                f"the clocks of {one} and {other}",
                f"{ahead} is at least {apart:.0f} s ahead of {behind}"
                + ("; Vault refuses identities that are that far apart" if severe else ""),
                "Date headers of /v1/sys/health and /v1/status/leader",
                f"run an NTP client (chrony, systemd-timesyncd) where {ahead} and {behind} run",
            )


def _ahead(clock: Clock) -> tuple[float, float]:
    """The least and the most that a server's clock is ahead of ours."""
    return clock.server - clock.received, clock.server + _TICK_SECONDS - clock.sent


@check("jwt-mount", "The JWT auth mount is there, of type jwt, and knows where Nomad's keys are.")
def jwt_mount(facts: Facts) -> Iterator[Finding | Unknown]:
    mount, mounts, config = facts.scope.jwt_mount, facts.vault.mounts, facts.vault.config
    subject = f"auth mount {mount}"
    if not isinstance(mounts, Unknown):
        if mount not in mounts:
            others = [path for path, one in sorted(mounts.items()) if one.type == "jwt"]
            hint = f", or set SECRETBINDING_JWT_MOUNT to {some(others)}" if others else ""
            yield Finding(
                Severity.ERROR,
                subject,
                "Vault has no such auth method, so no task can log in",
                "sys/auth",
                _BOOTSTRAP + hint,
            )
            return
        if mounts[mount].type != "jwt":
            yield Finding(
                Severity.ERROR,
                subject,
                f"it is of type {mounts[mount].type}, not jwt",
                "sys/auth",
                "set SECRETBINDING_JWT_MOUNT to another mount, and run `secretbinding bootstrap`",
            )
            return
    if isinstance(config, Unknown):
        yield config
    elif config is None or not _sources(config):
        yield Finding(
            Severity.ERROR,
            subject,
            "it does not know Nomad's keys, so no task can log in",
            f"auth/{mount}/config: no jwks_url, no oidc_discovery_url and no keys",
            _BOOTSTRAP,
        )


def _sources(config: Mapping[str, Any]) -> list[str]:
    names = ("jwks_url", "oidc_discovery_url", "jwt_validation_pubkeys", "jwks_pairs")
    return [name for name in names if config.get(name)]


@check("jwt-keys-reachable", "Vault can fetch Nomad's signing keys.")
def keys_reachable(facts: Facts) -> Iterator[Finding | Unknown]:
    said, config, mount = facts.vault.probe, facts.vault.config, facts.scope.jwt_mount
    if isinstance(said, Unknown):
        yield said
        return
    url = ""
    if not isinstance(config, Unknown) and config is not None:
        url = str(config.get("jwks_url") or config.get("oidc_discovery_url") or "")
    if any(word in said for word in _UNREACHABLE):
        yield Finding(
            Severity.ERROR,
            f"auth mount {mount}",
            f"Vault cannot fetch Nomad's signing keys{f' from {url}' if url else ''}, so no new task can log in",
            f"a login with a false token: {_short(said)}",
            "open the way from Vault to Nomad's HTTP port, or give an address that Vault reaches: "
            "secretbinding bootstrap --jwks-url URL [--jwks-ca FILE]",
        )
    elif not any(word in said for word in _REACHED):
        yield Unknown(f"Vault's answer to a login with a false token tells nothing of the keys: {_short(said)}")


def _short(text: str) -> str:
    return text.partition("Vault says: ")[2] or text


@check("jwt-keys-match", "The keys that Vault checks are those that this Nomad signs with.")
def keys_match(facts: Facts) -> Iterator[Finding | Unknown]:
    trusted, own, config = facts.vault.keys, facts.nomad.keys, facts.vault.config
    if isinstance(trusted, Unknown):
        yield trusted
    elif isinstance(own, Unknown):
        yield own
    elif not own <= trusted and not isinstance(config, Unknown):
        url = str((config or {}).get("jwks_url") or "")
        partly = bool(own & trusted)
        yield Finding(
            Severity.WARNING if partly else Severity.ERROR,
            f"auth mount {facts.scope.jwt_mount}",
            "some keys that Nomad signs with are not served there: its answer may be old, or a cache in between"
            if partly
            else "it trusts the keys of another Nomad (or of nobody), so tasks of this one cannot log in",
            f"{url} serves {len(trusted)} keys, of which {len(own & trusted)} of this Nomad's {len(own)}",
            f"secretbinding bootstrap --jwks-url {facts.nomad.endpoint.address}/.well-known/jwks.json",
        )


@check("jwt-issuer", "The issuer that Vault expects is the one that Nomad signs.")
def issuer(facts: Facts) -> Iterator[Finding | Unknown]:
    config, signed = facts.vault.config, facts.nomad.issuer
    if isinstance(config, Unknown):
        yield config
        return
    bound = str((config or {}).get("bound_issuer") or "")
    if not bound:
        return
    if isinstance(signed, Unknown):
        yield signed
    elif signed != bound:
        yield Finding(
            Severity.ERROR,
            f"auth mount {facts.scope.jwt_mount}",
            f"Vault expects the issuer {bound}, and Nomad signs {signed or 'none'}, so no task can log in",
            f"auth/{facts.scope.jwt_mount}/config: bound_issuer; Nomad's /.well-known/openid-configuration",
            f'set `server {{ oidc_issuer = "{bound}" }}` on Nomad\'s servers, or clear bound_issuer in Vault',
        )


@check("jwt-audience", "Roles take the audience that Nomad's identities have.")
def audience(facts: Facts) -> Iterator[Finding | Unknown]:
    roles, agent, config = facts.vault.roles, facts.nomad.agent, facts.vault.config
    if isinstance(roles, Unknown):
        yield roles
        return
    for name, role in sorted(roles.items()):
        bound = [str(one) for one in role.get("bound_audiences") or []]
        if name.startswith(f"{PREFIX}.") and AUDIENCE not in bound:
            yield Finding(
                Severity.ERROR,
                f"role {name}",
                f"it takes tokens for {some(bound) or 'nobody'}, and tasks have tokens for {AUDIENCE}",
                f"auth/{facts.scope.jwt_mount}/role/{name}: bound_audiences",
                "the controller puts it back at its next pass; see who changed it",
            )
    default = "" if isinstance(config, Unknown) else str((config or {}).get("default_role") or "")
    if isinstance(agent, Unknown):
        yield agent
        return
    for block in agent.vaults:
        wanted = block.identity_audiences
        bare = roles.get(block.role or default)
        if not block.enabled or wanted is None or bare is None:
            continue
        bound = [str(one) for one in bare.get("bound_audiences") or []]
        if not set(bound) & set(wanted):
            yield Finding(
                Severity.ERROR,
                f"role {block.role or default}",
                f"tasks without an identity of their own have tokens for {some(wanted)}; the role takes {some(bound)}",
                f"/v1/agent/self: vault.default_identity.aud; auth/{facts.scope.jwt_mount}/role: bound_audiences",
                f'set `default_identity {{ aud = ["{bound[0] if bound else AUDIENCE}"] }}` on Nomad\'s servers',
            )


@check(
    "vault-block", "The agent's `vault` block is enabled, and names the mount and namespace that the controller uses."
)
def vault_block(facts: Facts) -> Iterator[Finding | Unknown]:
    agent = facts.nomad.agent
    if isinstance(agent, Unknown):
        yield agent
        return
    subject = "`vault` block of the Nomad agent that answers"
    enabled = [block for block in agent.vaults if block.enabled]
    if not enabled:
        yield Finding(
            Severity.ERROR if agent.is_client else Severity.WARNING,
            subject,
            "Nomad's use of Vault is not enabled there",
            "/v1/agent/self: vault.enabled",
            "set `vault { enabled = true ... }` (`secretbinding bootstrap` prints it), and restart the agent",
        )
    default = next((block for block in enabled if block.name == "default"), None)
    if default is None:
        return
    if default.jwt_mount != facts.scope.jwt_mount:
        yield Finding(
            Severity.ERROR,
            subject,
            f"tasks log in at {default.jwt_mount}, and the controller makes its roles at {facts.scope.jwt_mount}",
            "/v1/agent/self: vault.jwt_auth_backend_path; SECRETBINDING_JWT_MOUNT",
            f'set `jwt_auth_backend_path = "{facts.scope.jwt_mount}"` on Nomad\'s clients, '
            f"or SECRETBINDING_JWT_MOUNT={default.jwt_mount}",
        )
    if default.namespace != facts.vault.namespace:
        yield Finding(
            Severity.ERROR,
            subject,
            f"tasks log in to Vault's namespace {default.namespace or 'root'}, and the controller works in "
            f"{facts.vault.namespace or 'root'}",
            "/v1/agent/self: vault.namespace; VAULT_NAMESPACE",
            "make both the same",
        )


@check("default-identity", "Tasks with a `vault` block and no identity get one from Nomad's servers.")
def default_identity(facts: Facts) -> Iterator[Finding | Unknown]:
    agent, jobs = facts.nomad.agent, facts.nomad.jobs
    if isinstance(agent, Unknown):
        yield agent
        return
    if not agent.is_server or any(block.identity_audiences is not None for block in agent.vaults):
        return
    remedy = (
        "set `default_identity` in the `vault` block of Nomad's servers (`secretbinding bootstrap` prints it), or give "
        f'the tasks `identity {{ name = "{IDENTITY}" ... }}`; bindings need neither'
    )
    if isinstance(jobs, Unknown):
        yield jobs
        return
    if facts.nomad.jobs_hidden is not None:
        yield facts.nomad.jobs_hidden
    lacking = [
        f"{job.get('Namespace')}/{job.get('ID')} task {task.get('Name')}"
        for job in jobs
        if not job.get("Stop")
        for group in job.get("TaskGroups") or []
        for task in group.get("Tasks") or []
        if task.get("Vault") and not _has_identity(task)
    ]
    if lacking:
        yield Finding(
            Severity.WARNING,
            some(lacking),
            "such tasks stay pending when they are placed: they have a `vault` block, and no identity to log in with",
            "/v1/agent/self: no vault.default_identity; the jobs' tasks have no identity for Vault",
            remedy,
        )
    else:
        yield Finding(
            Severity.INFO,
            "Nomad's servers",
            "they have no vault.default_identity; no job needs it now",
            "/v1/agent/self",
            remedy,
        )


def _has_identity(task: Mapping[str, Any]) -> bool:
    cluster = (task.get("Vault") or {}).get("Cluster") or "default"
    return any(one.get("Name") == f"vault_{cluster}" for one in task.get("Identities") or [])


@check("agent-vault-token", "No Nomad agent has a Vault token in its configuration.")
def agent_token(facts: Facts) -> Iterator[Finding | Unknown]:
    agent = facts.nomad.agent
    if isinstance(agent, Unknown):
        yield agent
        return
    for block in agent.vaults:
        if block.has_token:
            yield Finding(
                Severity.WARNING,
                f"`vault` block {block.name} of the Nomad agent that answers",
                "it holds a Vault token that no task is served by since Nomad 1.10.0, and that /v1/agent/self shows to "
                "everybody with agent:read",
                "/v1/agent/self: vault.token is set",
                "take `token` out of the block, restart the agent, and revoke the token",
            )


CHECKS = (
    clock_skew,
    jwt_mount,
    keys_reachable,
    keys_match,
    issuer,
    audience,
    vault_block,
    default_identity,
    agent_token,
)
