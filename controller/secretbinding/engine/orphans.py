"""What carries our mark in Vault though no binding accounts for it any more."""

from collections.abc import Callable
from dataclasses import replace

from secretbinding.engine.store import Store
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.naming import name_prefix
from secretbinding.ports import Vault
from secretbinding.render.policy import PolicyDocument, read_policy


def find_orphans(
    vault: Vault, instance: str, store: Store, proven_absent: Callable[[BindingKey], bool], *, jwt_mount: str
) -> dict[WorkloadKey, set[BindingKey]]:
    """The owners of this instance's policies that are proven gone, by the jobs that the policy and its roles let in
    (of a binding that was moving there are two); also those whose binding names another workload now.

    Policies that are kept on purpose (`retain`) are left out. Raises `errors.ServiceError` subclasses.
    """
    found: dict[WorkloadKey, set[BindingKey]] = {}
    prefix = name_prefix(instance)
    for name in vault.list_policies():
        if not name.startswith(prefix):
            continue
        text = vault.read_policy(name)
        parsed = read_policy(text) if text is not None else None
        if parsed is None or parsed[0].owner.instance != instance or parsed[0].retain:
            continue
        document = parsed[0]
        entry = store.get(document.owner.key)
        if entry is not None:
            named = (entry.workload.namespace, entry.workload.job)
            if entry.workload.job and named != (document.workload.namespace, document.workload.job):
                found.setdefault(document.workload, set()).add(document.owner.key)
            continue
        if proven_absent(document.owner.key):
            for workload in {document.workload, *let_in(vault, jwt_mount, document)}:
                found.setdefault(workload, set()).add(document.owner.key)
    return found


def let_in(vault: Vault, jwt_mount: str, document: PolicyDocument) -> set[WorkloadKey]:
    """The jobs whose tasks log in with the roles of a policy, as the roles' claims say."""
    found: set[WorkloadKey] = set()
    for name in document.roles:
        claims = (vault.read_jwt_role(jwt_mount, name) or {}).get("bound_claims") or {}
        namespace, job = claims.get("nomad_namespace"), claims.get("nomad_job_id")
        if isinstance(namespace, str) and isinstance(job, str) and job:
            found.add(replace(document.workload, namespace=namespace, job=job))
    return found
