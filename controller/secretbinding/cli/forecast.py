"""What a plan leaves for later, rights that go once no allocation and no revert can need them, and what it replaces all
at once. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from secretbinding.desired.values import BindingInput, Policy
from secretbinding.engine.reconciler import Preview
from secretbinding.engine_roles import DeleteEngineRole, WriteEngineRole
from secretbinding.plan import Action, DeletePolicy, DeleteRole, RegisterJob, Rights, WritePolicy, WriteRole, make_plan
from secretbinding.render.policy import read_policy


def later(preview: Preview, bindings: Sequence[BindingInput], instance: str) -> tuple[Action, ...]:
    """The actions that a pass would take after this plan was carried out and the job's deployment has succeeded."""
    if preview.desired.held is not None:
        return ()
    observed = preview.observed
    policies, roles, job = dict(observed.policies), dict(observed.roles), observed.job
    engine_roles = dict(observed.engine_roles)
    for action in preview.plan.actions:
        match action:
            case WritePolicy(name=name, text=text):
                parsed = read_policy(text)
                policies[name] = Policy(text, parsed[0] if parsed else None, parsed[1] if parsed else False)
            case DeletePolicy(name=name):
                policies[name] = None
            case WriteRole(name=name, body=body):
                roles[name] = body
            case DeleteRole(name=name):
                roles[name] = None
            case WriteEngineRole(role=role):
                engine_roles[role.path] = role.body
            case DeleteEngineRole(path=path):
                engine_roles[path] = None
            case RegisterJob():
                job = action.job
    settled = replace(
        observed,
        policies=policies,
        roles=roles,
        engine_roles=engine_roles,
        job=job,
        deployments=(),
        allocations=(),
        purged_at_risk=False,
    )
    rest = make_plan(settled, preview.desired, bindings, instance)
    shown = Rights | DeletePolicy | DeleteRole | DeleteEngineRole
    return tuple(action for action in rest.actions if isinstance(action, shown))


def replaced_at_once(action: Action) -> str:
    """A warning of the groups that Nomad replaces all at once for a registration (`max_parallel` 0 means
    no deployment, and no health check); "" when there are none."""
    if not isinstance(action, RegisterJob) or action.job.get("Stop"):
        return ""
    before = {group.get("Name"): group for group in action.before.get("TaskGroups") or []}
    names = [
        str(group.get("Name"))
        for group in action.job.get("TaskGroups") or []
        if (group.get("Update") or {}).get("MaxParallel") == 0
        and group.get("Count") != 0
        and group.get("Tasks") != before.get(group.get("Name"), {}).get("Tasks")
    ]
    if not names:
        return ""
    label = f"group {names[0]} is" if len(names) == 1 else f"groups {', '.join(names)} are"
    return (
        f"warning: {label} replaced all at once, without health checks, since update.max_parallel is 0; "
        "set it to 1 or more to have it roll"
    )
