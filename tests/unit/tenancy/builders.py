"""Bindings and policies for the tests of decisions, as manifests."""

from typing import Any

from secretbinding.models.binding import SecretBinding
from secretbinding.models.loading import parse_object
from secretbinding.models.policy import SecretBindingPolicy
from secretbinding.models.policy_loading import parse_policy_object
from secretbinding.tenancy import Decision, Target, Tenant, decide

Json = dict[str, Any]

PAYMENTS = Tenant("kubernetes", "payments", {"team": "money"})
API = Target("payments", "api", "global", frozenset({"docker"}))


def kv(path: str = "payments/app", **more: Any) -> Json:
    """A KV entry as one variable."""
    return {"name": "app", "kv": {"mount": "secret", "path": path, **more}, "env": {"A": "a"}}


def binding(*secrets: Json, **spec: Any) -> SecretBinding:
    """A binding to job `api`."""
    body = {"workload": {"job": "api"}, "secrets": list(secrets or [kv()]), **spec}
    return parse_object({"metadata": {"name": "api"}, "spec": body}, source="a test")


def templated(text: str, **file: Any) -> SecretBinding:
    """A binding whose one file has a template."""
    files = [{"destination": "secrets/app", "template": text, **file}]
    return binding({"name": "app", "kv": {"mount": "secret", "path": "payments/app"}, "files": files})


def policy(name: str = "own", **spec: Any) -> SecretBindingPolicy:
    """The rule of the common case, with parts of it replaced; None takes a part out."""
    body: Json = {
        "tenants": [{"names": ["*"]}],
        "workloads": [{"namespaces": ["{{tenant}}"]}],
        "secrets": [{"mounts": ["secret"], "paths": ["{{tenant}}/*"]}],
        **spec,
    }
    kept = {key: value for key, value in body.items() if value is not None}
    return parse_policy_object({"metadata": {"name": name}, "spec": kept}, source="a test")


def deny(**spec: Any) -> SecretBindingPolicy:
    """A Deny; of all jobs and secrets where nothing is said."""
    return policy("no", **{"effect": "Deny", "workloads": None, "secrets": None, **spec})


def judged(
    bound: SecretBinding, *policies: SecretBindingPolicy, tenant: Tenant = PAYMENTS, target: Target = API
) -> Decision:
    """The decision."""
    return decide(policies or (policy(),), tenant, bound, target)


def told(decision: Decision) -> str:
    """The messages of all refusals."""
    return "\n".join(refusal.message for refusal in decision.refusals)
