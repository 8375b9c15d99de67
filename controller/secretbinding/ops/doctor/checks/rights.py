"""Checks of the controller's tokens: what they may do, what they must not, how long they live."""

from collections.abc import Iterator

from secretbinding.ops.approle_rights import VARIABLE, app_role_rights
from secretbinding.ops.doctor.checks.app_roles import uses_app_roles
from secretbinding.ops.doctor.checks.words import product, some
from secretbinding.ops.doctor.facts import Facts, Unknown
from secretbinding.ops.doctor.findings import Finding, Severity, check
from secretbinding.ops.nomad_rights import Granted
from secretbinding.ops.product import Product
from secretbinding.ops.rights import (
    NAMESPACE_CAPABILITIES,
    OPTIONAL_CAPABILITIES,
    VaultRight,
    variable_rights,
    vault_excess,
    vault_rights,
)

_SOON_SECONDS = 3600.0
_UNRENEWED_SHARE = 0.25
_NEW_POLICY = "secretbinding bootstrap, which writes the controller's policy"
_APPROLE_POLICY = "a second policy for the controller's token:"
# More than it needs in a namespace: values in logs and files, running programs, and what is others' to decide.
_TOO_MUCH = frozenset(
    {
        "read-logs",
        "read-fs",
        "alloc-exec",
        "alloc-node-exec",
        "alloc-lifecycle",
        "csi-write-volume",
        "sentinel-override",
    }
)
_ANOTHER = "no token of the controller was given, and the one that asks is another, which is not judged"
_TENANTS = ("nomad-vault/bindings/doctor", "nomad-vault/requests/doctor")


def _vault_token(facts: Facts) -> str:
    return f"Vault token ({facts.tokens.vault_from})"


def _nomad_token(facts: Facts) -> str:
    return f"Nomad token ({facts.tokens.nomad_from})"


def _others_in_vault(facts: Facts) -> Unknown | None:
    """Why the Vault token says nothing about the controller's rights; None where it is the controller's: it was given
    as that, or has the policy that `bootstrap` makes."""
    token = facts.tokens.vault
    if facts.tokens.vault_named or isinstance(token, Unknown) or facts.scope.name in token.policies:
        return None
    return Unknown(_ANOTHER, "name the controller's Vault token by --controller-vault-token-file")


def _others_in_nomad(facts: Facts) -> Unknown | None:
    """The same of the Nomad token; the anonymous one is nobody's."""
    token = facts.tokens.nomad
    if facts.tokens.nomad_named or facts.nomad.acl is False or token is None or isinstance(token, Unknown):
        return None
    if token.accessor == "anonymous" or facts.scope.name in token.policies:
        return None
    return Unknown(_ANOTHER, "name the controller's Nomad token by --controller-nomad-token-file")


@check("vault-token", "The controller's Vault token is no root token, lives, and can be renewed.")
def vault_token(facts: Facts) -> Iterator[Finding | Unknown]:
    token = facts.tokens.vault
    if isinstance(token, Unknown):
        yield token
        return
    other = _others_in_vault(facts)
    if other is not None:
        yield other
        return
    subject, how = _vault_token(facts), "auth/token/lookup-self"
    if token.is_root:
        yield Finding(
            Severity.WARNING, subject, "it is a root token: the controller must not run with it", f"{how}: policies",
            "secretbinding bootstrap --credentials DIR, and give the controller what is in DIR",
        )  # fmt: skip
        return
    if token.num_uses:
        yield Finding(
            Severity.ERROR, subject, f"it ends after {token.num_uses} more requests", f"{how}: num_uses", _anew(facts)
        )
    if token.expires and not token.renewable:
        severity = Severity.ERROR if token.ttl_seconds < _SOON_SECONDS else Severity.WARNING
        yield Finding(
            severity, subject, f"it ends in {_span(token.ttl_seconds)} and cannot be renewed", f"{how}: renewable, ttl",
            _anew(facts),
        )  # fmt: skip
    elif token.explicit_max_ttl_seconds:
        yield Finding(
            Severity.WARNING, subject,
            f"however often it is renewed, it ends {_span(token.explicit_max_ttl_seconds)} after it was made",
            f"{how}: explicit_max_ttl", _anew(facts),
        )  # fmt: skip
    elif token.expires and token.ttl_seconds < _UNRENEWED_SHARE * token.creation_ttl_seconds:
        yield Finding(
            Severity.WARNING, subject,
            f"nobody has renewed it for long: {_span(token.ttl_seconds)} left of {_span(token.creation_ttl_seconds)}",
            f"{how}: ttl, creation_ttl", "vault token renew, and see what should have renewed it",
        )  # fmt: skip
    if not token.orphan:
        yield Finding(
            Severity.WARNING, subject, "it ends with the token that made it", f"{how}: orphan = false", _anew(facts)
        )


def _anew(facts: Facts) -> str:
    return "secretbinding bootstrap --credentials DIR --new-credentials, which makes a periodic token without a parent"


@check("vault-rights", "The controller's Vault token may do what the controller does.")
def vault_right(facts: Facts) -> Iterator[Finding | Unknown]:
    granted, subject = facts.tokens.capabilities, _vault_token(facts)
    if isinstance(granted, Unknown):
        yield granted
        return
    other = _others_in_vault(facts)
    if other is not None:
        yield other
        return
    besides = app_role_rights(facts.vault.approle_mount) if uses_app_roles(facts) else ()
    for right in (*vault_rights(facts.scope), *besides):
        has = granted.get(right.probe, frozenset())
        missing = [one for one in right.capabilities if one not in has and "root" not in has]
        if missing:
            yield Finding(
                _weight(right, product(facts)),
                subject,
                f"it may not {some(missing)} {right.path}"
                + (f": {right.without}" if right.without else "; no binding works without it"),
                f"sys/capabilities-self of {right.probe}: {some(sorted(has)) or 'nothing'}",
                f"{_APPROLE_POLICY} deploy/vault-policy-approle.hcl"
                if right in besides
                else f'{_NEW_POLICY}, or add to it:\npath "{right.path}" {{ capabilities = {_listed(right)} }}',
            )


def _weight(right: VaultRight, kind: Product) -> Severity:
    if not right.without:
        return Severity.ERROR
    # HashiCorp Vault has no such list, and each secret is read by itself there.
    saves = right.path.endswith("/detailed-metadata/*")
    return Severity.INFO if saves and kind is not Product.OPENBAO else Severity.WARNING


def _listed(right: VaultRight) -> str:
    return f"[{', '.join(chr(34) + one + chr(34) for one in right.capabilities)}]"


@check("vault-excess", "The controller's Vault token cannot read a value, nor widen its own rights.")
def vault_too_much(facts: Facts) -> Iterator[Finding | Unknown]:
    granted, token = facts.tokens.capabilities, facts.tokens.vault
    if isinstance(granted, Unknown):
        yield granted
        return
    other = _others_in_vault(facts)
    if other is not None:
        yield other
        return
    if not isinstance(token, Unknown) and token.is_root:
        yield Unknown(
            "the token is a root token, which says nothing about the controller's rights",
            "name the controller's token by --controller-vault-token-file",
        )
        return
    for excess in vault_excess(facts.scope):
        has = granted.get(excess.path, frozenset())
        found = sorted(has & {*excess.capabilities, "root"})
        if found:
            yield Finding(
                Severity.WARNING,
                _vault_token(facts),
                f"{excess.means}: it may {some(found)} {excess.path}",
                f"sys/capabilities-self of {excess.path}",
                f"{_NEW_POLICY}; give the token no other policy, and not `default`",
            )


@check("nomad-token", "The controller's Nomad token is no management token, and lives.")
def nomad_token(facts: Facts) -> Iterator[Finding | Unknown]:
    token, acl, subject = facts.tokens.nomad, facts.nomad.acl, _nomad_token(facts)
    if isinstance(token, Unknown):
        yield token
        return
    if token is None or acl is False:
        return
    other = _others_in_nomad(facts)
    if other is not None:
        yield other
        return
    how = "/v1/acl/token/self"
    if token.type == "management":
        yield Finding(
            Severity.WARNING, subject, "it is a management token: the controller must not run with it", f"{how}: Type",
            "secretbinding bootstrap --credentials DIR, and give the controller what is in DIR",
        )  # fmt: skip
    if token.accessor == "anonymous":
        yield Finding(
            Severity.ERROR, subject, "there is none: Nomad takes it for the anonymous token", how,
            "set NOMAD_TOKEN or NOMAD_TOKEN_FILE",
        )  # fmt: skip
    if token.expires:
        yield Finding(
            Severity.WARNING, subject, f"it ends at {token.expires}, and Nomad's tokens cannot be renewed",
            f"{how}: ExpirationTime", "secretbinding bootstrap --credentials DIR --new-credentials",
        )  # fmt: skip


@check("nomad-rights", "The controller's Nomad token may do what the controller does.")
def nomad_right(facts: Facts) -> Iterator[Finding | Unknown]:
    policies = facts.tokens.policies
    other = _others_in_nomad(facts)
    if other is not None:
        yield other
        return
    if isinstance(policies, Unknown):
        yield policies
        return
    if _is_free(facts):
        return
    granted = Granted(policies)
    subject, how = _nomad_token(facts), _how(facts)
    for namespace in _namespaces(facts, granted):
        has = granted.in_namespace(namespace)
        for capability, use in NAMESPACE_CAPABILITIES.items():
            if capability not in has:
                optional = capability in OPTIONAL_CAPABILITIES
                yield Finding(
                    Severity.INFO if optional else Severity.ERROR,
                    subject,
                    f"it lacks {capability} in namespace {namespace}, with which it would {use}",
                    how,
                    f'{_NEW_POLICY}, or add to it:\nnamespace "{namespace}" {{ capabilities = ["{capability}"] }}',
                )
        besides = (VARIABLE,) if uses_app_roles(facts) else ()
        for right in (*variable_rights(facts.scope), *besides):
            missing = [one for one in right.capabilities if one not in granted.on_variable(namespace, right.probe)]
            if missing:
                wanted = ", ".join(f'"{one}"' for one in right.capabilities)
                yield Finding(
                    Severity.WARNING if facts.source not in ("", "nomad") else Severity.ERROR,
                    subject,
                    f"it may not {some(missing)} {right.path} in namespace {namespace}: {right.without}",
                    how,
                    f"{_APPROLE_POLICY} deploy/nomad-policy-approle.hcl"
                    if right in besides
                    else f'{_NEW_POLICY}, or add to it:\nnamespace "{namespace}" {{ variables {{ path "{right.path}" '
                    f"{{ capabilities = [{wanted}] }} }} }}",
                )


@check("nomad-excess", "The controller's Nomad token may do no more than the controller needs.")
def nomad_too_much(facts: Facts) -> Iterator[Finding | Unknown]:
    policies, token = facts.tokens.policies, facts.tokens.nomad
    other = _others_in_nomad(facts)
    if other is not None:
        yield other
        return
    if isinstance(policies, Unknown):
        yield policies
        return
    if not isinstance(token, Unknown) and token is not None and token.type == "management":
        yield Unknown(
            "the token is a management token, which says nothing about the controller's rights",
            "name the controller's token by --controller-nomad-token-file",
        )
        return
    granted = Granted(policies)
    for namespace in _namespaces(facts, granted):
        extra = sorted(granted.in_namespace(namespace) & _TOO_MUCH)
        if extra:
            yield Finding(
                Severity.WARNING,
                _nomad_token(facts),
                f"in namespace {namespace} it also has {some(extra)}, which the controller never uses",
                _how(facts),
                _NEW_POLICY,
            )
        for path in _TENANTS:
            forged = sorted(granted.on_variable(namespace, path) & {"write", "destroy"})
            if forged:
                yield Finding(
                    Severity.WARNING,
                    _nomad_token(facts),
                    f"it may {some(forged)} the tenants' {path.rpartition('/')[0]}/* in namespace {namespace}",
                    _how(facts),
                    _NEW_POLICY,
                )


def _is_free(facts: Facts) -> bool:
    """Nothing is withheld from the token: there are no ACLs, or it is a management token."""
    token = facts.tokens.nomad
    return facts.nomad.acl is False or token is None or (not isinstance(token, Unknown) and token.type == "management")


def _namespaces(facts: Facts, granted: Granted) -> list[str]:
    """The namespaces that bindings name; where none were given, those that the policies are for; else all."""
    bindings = () if isinstance(facts.bindings, Unknown) else facts.bindings
    named = sorted({one.namespace for one in bindings if one.namespace})
    return named or granted.namespaces or ["*"]


def _how(facts: Facts) -> str:
    policies = facts.tokens.policies
    names = [] if isinstance(policies, Unknown) else [policy.name for policy in policies]
    return f"/v1/acl/token/self, and the policies {some(names) or '(none)'}"


def _span(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


CHECKS = (vault_token, vault_right, vault_too_much, nomad_token, nomad_right, nomad_too_much)
