"""What a plan would change, as unified diffs for a reader. Of the job, only our own part is printed."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from secretbinding.job.inject import is_our_vault, strip, without_volatile
from secretbinding.job.marks import Mark, read_mark
from secretbinding.job.sidecar import bare, is_sidecar
from secretbinding.kinds.base import Pin
from secretbinding.ports import Json
from secretbinding.render.agent import IDENTITY as AGENT_IDENTITY
from secretbinding.render.role import IDENTITY

_NANOSECONDS = 1_000_000_000
_Task = tuple[str, str]


def job_diff(before: Json | None, after: Json, instance: str) -> str:
    """A unified diff of our part of each task where it changes, written like HCL, and one line for each other thing
    that changes, named but not shown. `""` when nothing changes. `before` is None for a job that is not there yet."""
    old, new = _parts(before or {}, instance), _parts(after, instance)
    names = [*new, *(name for name in old if name not in new)]
    sections = [_task_diff(name, old.get(name, ("", [])), new.get(name, ("", []))) for name in names]
    sections.extend(f"{line}\n" for line in _others(before or {}, after, instance))
    return "".join(section for section in sections if section)


def policy_diff(before: str | None, after: str | None) -> str:
    """A unified diff of two texts of a policy; None for one that is not there."""
    return _unified(before or "", after or "", "policy")


def role_diff(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    """A unified diff of two bodies of a role, one line of JSON for each value. Of `before` only what `after` sets is
    compared: the server answers with values of its own."""
    names = set(after if after is not None else before or {})
    return _unified(_role_lines(before, names), _role_lines(after, names), "role")


def changed_groups(before: Json | None, after: Json, instance: str) -> tuple[str, ...]:
    """The names of the groups in which our part changes, in the job's order."""
    old, new = _parts(before or {}, instance), _parts(after, instance)
    groups = [group for group, task in {**new, **old} if old.get((group, task)) != new.get((group, task))]
    return tuple(dict.fromkeys(groups))


def _parts(job: Json, instance: str) -> dict[_Task, tuple[str, list[Json]]]:
    """Our part of each task that has one: as text, and as the blocks themselves."""
    parts: dict[_Task, tuple[str, list[Json]]] = {}
    for group in job.get("TaskGroups") or []:
        for task in group.get("Tasks") or []:
            blocks, texts = [], []
            if is_sidecar(task, instance):
                blocks.append(bare(task))
                texts.append(_sidecar_text(task))
            vault = task.get("Vault")
            if is_our_vault(vault, instance):
                blocks.append(vault)
                texts.append(_vault_text(vault))
            templates = [(read_mark(template), template) for template in task.get("Templates") or []]
            ours = [(found[0], item) for found, item in templates if found and found[0].owner.instance == instance]
            if any("identity" in mark.adds for mark, _ in ours):
                identities = [item for item in task.get("Identities") or [] if item.get("Name") == IDENTITY]
                blocks.extend(identities)
                texts.extend(_identity_text(item) for item in identities)
            blocks.extend(item for _, item in ours)
            texts.extend(_template_text(mark, item) for mark, item in ours)
            if blocks:
                parts[group["Name"], task["Name"]] = ("".join(texts), blocks)
    return parts


def _task_diff(name: _Task, old: tuple[str, list[Json]], new: tuple[str, list[Json]]) -> str:
    if old[0] == new[0]:
        return f"task {name[0]}/{name[1]}: only marks of ownership change\n" if old[1] != new[1] else ""
    return _unified(old[0], new[0], f"task {name[0]}/{name[1]}")


def _others(before: Json, after: Json, instance: str) -> Iterator[str]:
    """One line for each thing beside our part that would change."""
    if before:
        yield from _named_changes("job", _own(before, instance), _own(after, instance), ("TaskGroups",))
    ours_before, ours_after = _groups_of(before, instance), _groups_of(after, instance)
    for group in sorted(ours_after - ours_before):
        yield f"group {group}: Nomad adds its constraints for Vault and workload identity"
    for group in sorted(ours_before - ours_after):
        yield f"group {group}: Nomad's constraints for Vault and workload identity go"


def _own(job: Json, instance: str) -> Json:
    return without_volatile(strip(job, instance).job)


def _named_changes(label: str, old: Json, new: Json, inner: Sequence[str]) -> Iterator[str]:
    for name in sorted({*old, *new} - set(inner)):
        if old.get(name) == new.get(name):
            continue
        told = list(_by_hand(name, old.get(name), new.get(name))) if label.startswith("task ") else []
        yield from (f"{label}: {line}" for line in told or [f"{name} changes"])
    levels = {"TaskGroups": ("group", ("Tasks",)), "Tasks": ("task", ())}
    for name in inner:
        kind, below = levels[name]
        there = {item["Name"]: item for item in old.get(name) or []}
        wanted = {item["Name"]: item for item in new.get(name) or []}
        prefix = "" if label == "job" else f"{label.split(' ', 1)[1]}/"
        for key in [*wanted, *(key for key in there if key not in wanted)]:
            place = f"{kind} {prefix}{key}"
            if key not in there or key not in wanted:
                yield f"{place}: {'added' if key in wanted else 'removed'}"
            else:
                yield from _named_changes(place, there[key], wanted[key], below)


def _by_hand(name: str, old: Any, new: Any) -> Iterator[str]:
    """What goes of a task's stanzas by hand (or comes back), in words: its text can hold a secret."""
    for sign, has, lacks in (("-", old, new), ("+", new, old)):
        if name == "Vault" and has and not lacks:
            yield f"{sign} vault block by hand, role {has.get('Role') or 'default'}"
        elif name == "Templates":
            for template in has or []:
                if template not in (lacks or []):
                    kind = "env template" if template.get("Envvars") else "template"
                    yield f"{sign} {kind} by hand at {template.get('DestPath')}"


def _groups_of(job: Json, instance: str) -> set[str]:
    return {group for group, _ in _parts(job, instance)}


def _sidecar_text(task: Mapping[str, Any]) -> str:
    """A task of ours as a whole, but for its templates."""
    text = f"driver = {_quoted(task.get('Driver'))}\n"
    if task.get("User"):
        text += f"user = {_quoted(task['User'])}\n"
    hook = [f"hook = {_quoted((task.get('Lifecycle') or {}).get('Hook'))}"]
    hook.append(f"sidecar = {_quoted(bool((task.get('Lifecycle') or {}).get('Sidecar')))}")
    blocks = [("lifecycle", hook)]
    for name, key in (("config", "Config"), ("env", "Env")):
        rows = [f"{row} = {_quoted(value)}" for row, value in sorted((task.get(key) or {}).items())]
        if rows:
            blocks.append((name, rows))
    resources = task.get("Resources") or {}
    sizes = (("cpu", "CPU"), ("memory", "MemoryMB"), ("memory_max", "MemoryMaxMB"))
    blocks.append(("resources", [f"{name} = {resources[key]}" for name, key in sizes if resources.get(key)]))
    identities = [item for item in task.get("Identities") or [] if item.get("Name") == AGENT_IDENTITY]
    shown = "".join(_block(name, rows) for name, rows in blocks)
    return text + shown + "".join(_identity_text(item) for item in identities)


def _vault_text(vault: Mapping[str, Any]) -> str:
    lines = [f"role = {_quoted(vault.get('Role'))}"]
    if vault.get("Namespace"):
        lines.append(f"namespace = {_quoted(vault['Namespace'])}")
    lines += [
        f"env = {_quoted(bool(vault.get('Env')))}",
        f"disable_file = {_quoted(bool(vault.get('DisableFile')))}",
        f"change_mode = {_quoted(vault.get('ChangeMode') or 'restart')}",
        f"allow_token_expiration = {_quoted(bool(vault.get('AllowTokenExpiration')))}",
    ]
    return _block("vault", lines)


def _identity_text(identity: Mapping[str, Any]) -> str:
    lines = [f"name = {_quoted(identity.get('Name'))}", f"aud = {_quoted(identity.get('Audience') or [])}"]
    if identity.get("TTL"):
        lines.append(f"ttl = {_quoted(_seconds(identity['TTL']))}")
    return _block("identity", lines)


def _pin_text(pin: Pin) -> str:
    return f"{pin.title} of {pin.created}" if pin.version else pin.title


def _template_text(mark: Mark, template: Mapping[str, Any]) -> str:
    of = f"# of {mark.owner.key}"
    lines = [
        of if mark.pin is None else f"{of}, {_pin_text(mark.pin)}",
        f"destination = {_quoted(template.get('DestPath'))}",
        f"env = {_quoted(bool(template.get('Envvars')))}",
        f"once = {_quoted(bool(template.get('Once')))}",
        f"change_mode = {_quoted(template.get('ChangeMode') or 'restart')}",
    ]
    if template.get("ChangeSignal"):
        lines.append(f"change_signal = {_quoted(template['ChangeSignal'])}")
    script = template.get("ChangeScript")
    if script:
        lines.append(f"change_script = {_quoted([script.get('Command'), *(script.get('Args') or [])])}")
    lines.append(f"perms = {_quoted(template.get('Perms') or '0644')}")
    for name, key in (("uid", "Uid"), ("gid", "Gid")):
        if template.get(key) is not None:
            lines.append(f"{name} = {_quoted(template[key])}")
    if (template.get("LeftDelim") or "{{") != "{{" or (template.get("RightDelim") or "}}") != "}}":
        lines.append(f"left_delimiter = {_quoted(template.get('LeftDelim'))}")
        lines.append(f"right_delimiter = {_quoted(template.get('RightDelim'))}")
    text = str(template.get("EmbeddedTmpl") or "")
    _, _, body = text.partition(f" */{template.get('RightDelim') or '}}'}")
    return _block("template", [*lines, "data = <<EOT"]).removesuffix("}\n") + f"{body.strip(chr(10))}\nEOT\n}}\n"


def _block(name: str, lines: Sequence[str]) -> str:
    return f"{name} {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / _NANOSECONDS:g}s"


def _role_lines(body: Mapping[str, Any] | None, names: set[str]) -> str:
    if body is None:
        return ""
    rows = ((name, _sorted(body.get(name))) for name in sorted(names) if body.get(name) is not None)
    return "".join(f"{name} = {json.dumps(value, sort_keys=True, ensure_ascii=False)}\n" for name, value in rows)


def _sorted(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, list) else value


def _unified(before: str, after: str, name: str) -> str:
    rows = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{name} (now)", f"{name} (planned)", lineterm="", n=3
    )
    return "".join(f"{row}\n" for row in rows)
