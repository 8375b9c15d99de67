"""What a binding made and leaves behind on purpose (`deletionPolicy: Retain`): its policy in Vault says so itself."""

from dataclasses import replace

from secretbinding.models.binding import DeletionPolicy
from secretbinding.naming import Owner, policy_name
from secretbinding.ports import Vault
from secretbinding.render.policy import policy_text, read_policy
from secretbinding.sources.base import SourceItem


def leaves_behind(item: SourceItem) -> bool:
    """True for a binding that is going, and that leaves behind what it made."""
    return item.deleting and item.binding is not None and item.binding.spec.deletion_policy is DeletionPolicy.RETAIN


def retain(vault: Vault, owner: Owner) -> None:
    """Have the policy say that it stays. Raises `errors.ServiceError` subclasses."""
    name = policy_name(owner)
    text = vault.read_policy(name)
    parsed = read_policy(text) if text is not None else None
    if parsed is not None and not parsed[0].retain:
        vault.write_policy(name, policy_text(replace(parsed[0], retain=True)))


def is_retained(vault: Vault, owner: Owner) -> bool:
    """True when the policy says that it stays. Raises `errors.ServiceError` subclasses."""
    text = vault.read_policy(policy_name(owner))
    parsed = read_policy(text) if text is not None else None
    return parsed is not None and parsed[0].retain
