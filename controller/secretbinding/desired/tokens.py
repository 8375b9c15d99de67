"""Which roles give tokens that live for a short while only, because Nomad renews them or their tasks come and go."""

from collections.abc import Mapping, Sequence

from secretbinding.desired.shares import Share
from secretbinding.job.inject import TaskPart
from secretbinding.job.marks import read_mark
from secretbinding.job.targets import REGISTERED_TYPES
from secretbinding.models.key import BindingKey
from secretbinding.ports import Json
from secretbinding.render.template import TemplateBlock


def renewed_roles(
    job: Json | None,
    parts: Mapping[tuple[str, str], TaskPart],
    shares: Sequence[Share],
    owners: Mapping[str, set[BindingKey]],
) -> set[str]:
    """The roles of tasks with templates that are read again and again, or that see their token: Nomad renews it. And
    all roles of a job whose tasks come and go, since tokens of tasks that have ended would heap up in Vault.

    `owners` are the bindings that each role serves; of a job that is not there yet, which has no `parts`, they tell.
    """
    if job is None:
        renewing = {
            share.key
            for share in shares
            if share.token_env or share.token_file or any(reads_again(block) for block in share.blocks)
        }
        return {name for name, keys in owners.items() if keys & renewing}
    if job.get("Periodic") or job.get("ParameterizedJob") or job.get("Type", "service") not in REGISTERED_TYPES:
        return set(owners)
    return {
        part.role
        for part in parts.values()
        if part.token_env or part.token_file or any(reads_again(item) for _, item in part.templates)
    }


def reads_again(template: TemplateBlock | Json) -> bool:
    """True for a template that reads a secret while its task runs. Of one that stays as it is its mark tells: a Nomad
    that cannot render once does not keep the template's own word."""
    if isinstance(template, TemplateBlock):
        return bool(template.of) and not template.once
    found = read_mark(template)
    return found is not None and bool(found[0].of) and not found[0].once
