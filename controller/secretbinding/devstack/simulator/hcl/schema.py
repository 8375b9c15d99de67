"""Which arguments and blocks a job file may have where, and Nomad's words for those it may not."""

from collections.abc import Iterable

from secretbinding.devstack.simulator.hcl.syntax import Body, HclError

_SUGGESTED_DISTANCE = 2
"""Nomad suggests a name that so many changed letters lead to."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(sorted(text.split()))


_TARGET = "attribute operator value regexp version semver set_contains set_contains_any set_contains_all"
_ARGUMENTS = {
    "": (),
    "job": _names("all_at_once datacenters id meta name namespace node_pool priority region type"),
    "group": _names(
        "count max_client_disconnect max_run_duration meta prevent_reschedule_on_lost shutdown_delay "
        "stop_after_client_disconnect"
    ),
    "task": _names("driver env kill_signal kill_timeout kind leader meta shutdown_delay user"),
    "template": _names(
        "change_mode change_signal data destination env error_on_missing_key gid left_delimiter once perms "
        "right_delimiter source splay uid vault_grace"
    ),
    "wait": _names("max min"),
    "change_script": _names("args command fail_on_error run_on_first_render timeout"),
    "vault": _names(
        "allow_token_expiration change_mode change_signal cluster disable_file env namespace policies role"
    ),
    "identity": _names("aud change_mode change_signal env extra_claims file filepath name service_name ttl"),
    "resources": _names("cores cpu disk iops memory memory_max secrets"),
    "restart": _names("attempts delay interval mode render_templates"),
    "reschedule": _names("attempts delay delay_function interval max_delay unlimited"),
    "update": _names(
        "auto_promote auto_revert canary health_check healthy_deadline max_parallel min_healthy_time "
        "progress_deadline stagger"
    ),
    "migrate": _names("health_check healthy_deadline max_parallel min_healthy_time"),
    "disconnect": _names("lost_after reconcile replace stop_on_client_after"),
    "ephemeral_disk": _names("migrate size sticky"),
    "logs": _names("disabled enabled max_file_size max_files"),
    "lifecycle": _names("hook sidecar"),
    "dispatch_payload": _names("file"),
    "periodic": _names("cron crons enabled prohibit_overlap time_zone"),
    "parameterized": _names("meta_optional meta_required payload"),
    "constraint": _names(f"{_TARGET} distinct_hosts distinct_property is_not_set is_set"),
    "affinity": _names(f"{_TARGET} weight"),
    "spread": _names("attribute weight"),
    "volume_mount": _names("destination propagation_mode read_only selinux_label volume"),
}
_BLOCKS = {
    "": _names("job locals variable variables"),
    "job": _names(
        "affinity constraint group meta migrate multiregion parameterized periodic reschedule secret spread task ui "
        "update vault"
    ),
    "group": _names(
        "affinity constraint consul disconnect ephemeral_disk meta migrate network reschedule restart scaling secret "
        "service spread task update vault volume"
    ),
    "task": _names(
        "action affinity artifact config constraint consul csi_plugin dispatch_payload env identity lifecycle logs "
        "meta resources restart scaling schedule secret service template vault volume_mount"
    ),
    "template": _names("change_script wait"),
    "resources": _names("device network numa"),
    "spread": _names("target"),
}


def check_names(kind: str, body: Body) -> None:
    """Raise `HclError` for the first argument or block that Nomad does not expect in a block of this kind.

    The kind "" is the file itself. What is in a block of a kind that is not listed here is not looked at.
    """
    arguments, blocks = _ARGUMENTS.get(kind), _BLOCKS.get(kind, ())
    if arguments is None:
        return
    for name, place in body.places.items():
        if name not in arguments:
            near = _nearest(name, (one for one in arguments if one not in body.attributes))
            hint = f'Did you mean "{near}"?' if near else ""
            if not near and name in blocks:
                hint = f'Did you mean to define a block of type "{name}"?'
            text = f'Unsupported argument; An argument named "{name}" is not expected here. {hint}'
            raise HclError(f"{place}: {text.rstrip()}")
    for block in body.blocks:
        if block.kind not in blocks:
            near = _nearest(block.kind, blocks)
            hint = f'Did you mean "{near}"?' if near else ""
            if not near and block.kind in arguments:
                hint = (
                    f'Did you mean to define argument "{block.kind}"? If so, use the equals sign to assign it a value.'
                )
            text = f'Unsupported block type; Blocks of type "{block.kind}" are not expected here. {hint}'
            raise HclError(f"{block.place}: {text.rstrip()}")


def _nearest(name: str, others: Iterable[str]) -> str:
    return next((other for other in others if _distance(name, other) <= _SUGGESTED_DISTANCE), "")


def _distance(one: str, other: str) -> int:
    """How many letters must be put in, taken out or replaced to come from one text to the other (Levenshtein)."""
    row = list(range(len(other) + 1))
    for place, letter in enumerate(one, 1):
        above, row = row, [place]
        for column, match in enumerate(other, 1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (letter != match)))
    return row[-1]
