"""What carries our mark in Vault though no binding accounts for it any more."""

from collections.abc import Callable

from secretbinding.engine.store import Store
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.naming import name_prefix
from secretbinding.ports import Vault
from secretbinding.render.policy import read_policy


def find_orphans(
    vault: Vault, instance: str, store: Store, proven_absent: Callable[[BindingKey], bool]
) -> dict[WorkloadKey, set[BindingKey]]:
    """The owners of this instance's policies that are proven gone, by the workload that the policy names; also those
    whose binding names another workload now.

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
            found.setdefault(document.workload, set()).add(document.owner.key)
    return found
