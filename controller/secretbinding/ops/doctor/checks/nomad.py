"""Checks of Nomad itself."""

from collections.abc import Iterator

from secretbinding.ops.doctor.checks.words import is_loopback, some, version_of
from secretbinding.ops.doctor.facts import Facts, Unknown
from secretbinding.ops.doctor.findings import Finding, Severity, check

_IDENTITIES_SINCE = (1, 7, 0)
_TAGS_SINCE = (1, 9, 0)
_ONCE_SINCE = (1, 10, 2)


def _subject(facts: Facts) -> str:
    return f"Nomad at {facts.nomad.endpoint.address}"


@check("nomad-reachable", "Nomad answers, and its certificate can be verified.")
def reachable(facts: Facts) -> Iterator[Finding | Unknown]:
    leader = facts.nomad.leader
    if isinstance(leader, Unknown) and not facts.nomad.leaderless:
        yield Finding(Severity.ERROR, _subject(facts), leader.why, "GET /v1/status/leader", leader.remedy)


@check("nomad-leader", "Nomad has a leader.")
def leader(facts: Facts) -> Iterator[Finding | Unknown]:
    if facts.nomad.leaderless:
        yield Finding(
            Severity.ERROR,
            _subject(facts),
            "it has no leader, so nothing can be registered",
            "GET /v1/status/leader: No cluster leader",
            "nomad server members; see that a majority of the servers is up",
        )
    elif isinstance(facts.nomad.leader, Unknown):
        yield Unknown("Nomad does not answer", "see the finding about that")


@check("nomad-version", "Nomad's agents are new enough (1.10.2; 1.7 at least).")
def version(facts: Facts) -> Iterator[Finding | Unknown]:
    agent, nodes = facts.nomad.agent, facts.nomad.nodes
    texts: dict[str, list[str]] = {}
    if isinstance(agent, Unknown):
        yield agent
    else:
        texts.setdefault(agent.version, []).append("the agent that answers")
    if isinstance(nodes, Unknown):
        yield nodes
    else:
        for node in nodes:
            texts.setdefault(node.version, []).append(f"node {node.name}")
    for text, who in sorted(texts.items()):
        severity, message = _judge_version(text)
        if severity is not None:
            yield Finding(
                severity,
                some(who),
                message,
                f"version {text} (/v1/agent/self, /v1/nodes)",
                "upgrade it to 1.10.2 or newer",
            )


def _judge_version(text: str) -> tuple[Severity | None, str]:
    number = version_of(text)
    if number is None:
        return None, ""
    if number < _IDENTITIES_SINCE:
        return Severity.ERROR, "it has no workload identities for Vault (1.7.0), so no task can log in"
    if number < _TAGS_SINCE:
        return (
            Severity.WARNING,
            "it has no version tags (1.9.0), so that a failed version is forgotten with its deployment, after an hour",
        )
    if number < _ONCE_SINCE:
        return (
            Severity.WARNING,
            "it renders no template once (1.10.2), so that running tasks keep reading their secrets, and end when a "
            "version that they read is deleted or pruned",
        )
    return None, ""


@check("nomad-tls", "Nomad is reached by TLS that is verified, or on this machine.")
def tls(facts: Facts) -> Iterator[Finding | Unknown]:
    endpoint = facts.nomad.endpoint
    if not endpoint.address.startswith("https:") and not is_loopback(endpoint.address):
        yield Finding(
            Severity.WARNING,
            _subject(facts),
            "tokens and jobs travel in the clear",
            f"NOMAD_ADDR={endpoint.address}",
            "set `tls { http = true ... }` in its agents, and NOMAD_ADDR to https:// and NOMAD_CACERT",
        )
    if not endpoint.verified:
        yield Finding(
            Severity.WARNING,
            _subject(facts),
            "anybody in between can pass for Nomad",
            "NOMAD_SKIP_VERIFY is set",
            "unset NOMAD_SKIP_VERIFY, and set NOMAD_CACERT to the CA that signed its certificate",
        )


@check("nomad-acl", "Nomad has ACLs.")
def acl(facts: Facts) -> Iterator[Finding | Unknown]:
    if isinstance(facts.nomad.acl, Unknown):
        yield facts.nomad.acl
    elif not facts.nomad.acl:
        yield Finding(
            Severity.WARNING,
            _subject(facts),
            "whoever reaches it can register any job, and so get any secret that a job may have",
            "/v1/acl/token/self: ACLs are disabled",
            "set `acl { enabled = true }` in its agents, then `nomad acl bootstrap` and `secretbinding bootstrap`",
        )


@check("nodes-without-vault", "Every client node has reached Vault.")
def nodes_without_vault(facts: Facts) -> Iterator[Finding | Unknown]:
    lacking, nodes = facts.nomad.without_vault, facts.nomad.nodes
    if isinstance(lacking, Unknown):
        yield lacking
        return
    ready = [node for node in lacking if node.status == "ready"]
    if not ready:
        return
    every = not isinstance(nodes, Unknown) and len(ready) == len([node for node in nodes if node.status == "ready"])
    yield Finding(
        Severity.ERROR if every else Severity.WARNING,
        some([f"node {node.name}" for node in ready]),
        "it has not reached Vault, so that no task with secrets is placed there"
        if len(ready) == 1
        else "they have not reached Vault, so that no task with secrets is placed there",
        "/v1/nodes: no attribute vault.accessible (agents look until they reach Vault once, and not again after that)",
        "set `vault { enabled = true ... }` in the client's configuration (`secretbinding bootstrap` prints it), and "
        "see that the address can be reached from there",
    )


@check("nodes-at-another-vault", "Every client node uses the same Vault as the controller.")
def nodes_at_another_vault(facts: Facts) -> Iterator[Finding | Unknown]:
    found, health = facts.nomad.elsewhere, facts.vault.health
    if isinstance(found, Unknown):
        yield found
    elif found and not isinstance(health, Unknown):
        yield Finding(
            Severity.ERROR,
            some([f"node {node.name}" for node in found]),
            "tasks log in to another Vault there than the one in which their roles are made",
            f"/v1/nodes: attribute vault.cluster_name is not {health.cluster}, as VAULT_ADDR says",
            f'correct VAULT_ADDR, or set `vault {{ address = "{facts.vault.endpoint.address}" }}` on these clients',
        )


CHECKS = (reachable, leader, version, tls, acl, nodes_without_vault, nodes_at_another_vault)
