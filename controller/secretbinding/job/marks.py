"""Our mark inside a template's text, and what a job says of itself through its marks."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from secretbinding.job.constraints import Keeps
from secretbinding.kinds.base import Pin
from secretbinding.models.key import BindingKey
from secretbinding.naming import Owner, mark_json, owner_fields, owner_of, read_mark_json, stable_digest
from secretbinding.ports import Json
from secretbinding.render.template import TemplateBlock

_NANOSECONDS = 1_000_000_000
_SHARE_LENGTH = 12
_HEAD = re.compile(r"([!-~]{1,8}?)/\* secretbinding ")


@dataclass(frozen=True, slots=True)
class Mark:
    """What one template of ours says of itself.

    Attributes:
        owner: the binding it belongs to.
        slot: what it is for (see `render.template.TemplateBlock.slot`).
        want: digest of its meaning; equal digests mean that nothing has to change.
        body: digest of the block as it was written; another one means that somebody edited it.
        of: digest of which secret it reads (`render.template.secret_identity`).
        pin: the version it reads, None when it reads none.
        base: with a pin whose leases were renewed: the digest of its meaning whenever that was.
        once: the template is meant to be rendered once (Nomad before 1.10.2 does not keep the block's own word).
        adds: what else we put into the task: `identity`.
        keeps: what the group had of its own that looks like what Nomad's server adds.
    """

    owner: Owner
    slot: str
    want: str
    body: str
    of: str = ""
    pin: Pin | None = None
    base: str = ""
    once: bool = False
    adds: tuple[str, ...] = ()
    keeps: Keeps = field(default_factory=Keeps)

    @property
    def secret(self) -> str:
        """The name of the secret that the template reads, `""` for the workload's own variables."""
        parts = self.slot.split(":")
        return parts[1] if len(parts) >= 2 else ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A marked template where it stands in a job. `intact` is False when it was edited by somebody else; `host` is the
    task that it stands in."""

    group: str
    task: str
    mark: Mark
    template: Json
    intact: bool
    host: Json = field(default_factory=dict, compare=False, repr=False)

    @property
    def key(self) -> BindingKey:
        return self.mark.owner.key


def render_block(block: TemplateBlock, owner: Owner, adds: tuple[str, ...], keeps: Keeps) -> Json:
    """The template in the shape of Nomad's API (`Templates[]`), mark included."""
    left, right = block.delimiters
    template: Json = {
        "SourcePath": "",
        "DestPath": block.destination,
        "EmbeddedTmpl": block.body,
        "ChangeMode": block.change.mode,
        "ChangeSignal": block.change.signal,
        "ChangeScript": dict(block.change.script) if block.change.script is not None else None,
        "Splay": int(block.change.splay_seconds * _NANOSECONDS),
        "Perms": block.perms,
        "Uid": block.uid if block.uid >= 0 else None,
        "Gid": block.gid if block.gid >= 0 else None,
        "LeftDelim": left,
        "RightDelim": right,
        "Envvars": block.env,
        "VaultGrace": 0,
        "Wait": None,
        "ErrMissingKey": True,
        "Once": block.once,
    }
    fields: dict[str, Any] = {
        **owner_fields(owner),
        "slot": block.slot,
        "want": stable_digest(block.meaning()),
        "body": template_digest(template),
    }
    if block.of:
        fields["of"] = block.of
    if block.pin is not None:
        fields["pin"] = [block.pin.version, block.pin.created]
        if block.pin.renewed:
            fields["base"] = stable_digest(block.meaning(renewed=False))
    if block.once:
        fields["once"] = True
    if adds:
        fields["adds"] = list(adds)
    if keeps != Keeps():
        fields["keeps"] = [keeps.vault, keeps.nomad, keeps.signals]
    template["EmbeddedTmpl"] = f"{left}/* secretbinding {mark_json(fields)} */{right}{block.body}"
    return template


def read_mark(template: Mapping[str, Any]) -> tuple[Mark, bool] | None:
    """The mark of a template and whether the block is still as we wrote it; None when it carries none."""
    text = template.get("EmbeddedTmpl")
    found = _opening(template, text) if isinstance(text, str) else None
    if found is None:
        return None
    fields, body = found
    owner = owner_of(fields)
    if owner is None:
        return None
    mark = Mark(
        owner=owner,
        slot=str(fields.get("slot", "")),
        want=str(fields.get("want", "")),
        body=str(fields.get("body", "")),
        of=str(fields.get("of", "")),
        pin=_pin(fields.get("pin")),
        base=str(fields.get("base", "")),
        once=fields.get("once") is True,
        adds=tuple(str(item) for item in _list(fields.get("adds"))),
        keeps=_keeps(fields.get("keeps")),
    )
    return mark, mark.body == template_digest({**template, "EmbeddedTmpl": body})


def remarked(template: Json, owner: Owner) -> Json:
    """The same template as another owner's."""
    text = str(template.get("EmbeddedTmpl"))
    found = _opening(template, text)
    if found is None:
        return template
    fields, body = found
    left, right = template.get("LeftDelim") or "{{", template.get("RightDelim") or "}}"
    mark = mark_json({**fields, **owner_fields(owner)})
    return {**template, "EmbeddedTmpl": f"{left}/* secretbinding {mark} */{right}{body}"}


def placed_marks(job: Json | None, instance: str) -> Iterator[Placed]:
    """Every template of this instance in the job, in the job's order."""
    for group in (job or {}).get("TaskGroups") or []:
        for task in group.get("Tasks") or []:
            for template in task.get("Templates") or []:
                found = read_mark(template)
                if found is not None and found[0].owner.instance == instance:
                    yield Placed(group["Name"], task["Name"], found[0], template, found[1], task)


def serving_pins(placed: Iterable[Placed], key: BindingKey) -> Mapping[str, tuple[Pin, str]]:
    """The version or revision that a binding's share reads now, with the secret's identity, by secret name."""
    return {
        item.mark.secret: (item.mark.pin, item.mark.of)
        for item in placed
        if item.key == key and item.mark.pin is not None
    }


def share_states(job: Json | None, instance: str) -> dict[BindingKey, str]:
    """A digest of what each binding has in a job: which tasks, which templates, which versions."""
    rows: dict[BindingKey, list[list[str]]] = {}
    for placed in placed_marks(job, instance):
        rows.setdefault(placed.key, []).append([placed.group, placed.task, placed.mark.slot, placed.mark.want])
    return {key: _share_digest(key, found) for key, found in rows.items()}


def renewals(job: Json | None, instance: str) -> dict[BindingKey, tuple[str, str]]:
    """For each binding whose leases were renewed: a digest of what it has in the job whenever that was, and the moment
    of the last renewal."""
    rows: dict[BindingKey, list[list[str]]] = {}
    moments: dict[BindingKey, str] = {}
    for placed in placed_marks(job, instance):
        mark = placed.mark
        rows.setdefault(placed.key, []).append([placed.group, placed.task, mark.slot, mark.base or mark.want])
        if mark.pin is not None and mark.pin.renewed:
            moments[placed.key] = max(moments.get(placed.key, ""), mark.pin.renewed)
    return {key: (_share_digest(key, rows[key]), moment) for key, moment in moments.items()}


def _share_digest(key: BindingKey, rows: list[list[str]]) -> str:
    return stable_digest([key.source, key.tenant, key.name, *sorted(rows)])[:_SHARE_LENGTH]


def part_state(job: Json | None, instance: str) -> str:
    """A digest of our whole part of a job, `""` when there is none: what a failed deployment is remembered by."""
    rows = [
        [placed.group, placed.task, *owner_fields(placed.mark.owner).values(), placed.mark.slot, placed.mark.want]
        for placed in placed_marks(job, instance)
    ]
    return stable_digest(sorted(rows)) if rows else ""


def _opening(template: Mapping[str, Any], text: str) -> tuple[dict[str, Any], str] | None:
    """The mark's fields and what follows the mark. The left delimiter is read from the text, so that a block whose
    delimiters somebody changed is still known as ours (and as altered)."""
    found = _HEAD.match(text)
    if found is None:
        return None
    json_text, closing, rest = text[found.end() :].partition(" */")
    fields = read_mark_json(json_text) if closing else None
    if fields is None:
        return None
    left = template.get("LeftDelim") or "{{"
    right = template.get("RightDelim") or "}}"
    same = found[1] == left and rest.startswith(right)
    return fields, rest[len(right) :] if same else f"{left}{rest}"


def template_digest(template: Mapping[str, Any]) -> str:
    """A digest of what we set in a template, with Nomad's own defaults filled in, so that what the server adds makes
    no difference. `Once` is left out: Nomad before 1.10.2 does not keep it."""
    script = template.get("ChangeScript")
    change_script = (
        [script.get("Command"), list(script.get("Args") or []), script.get("Timeout"), bool(script.get("FailOnError"))]
        if isinstance(script, Mapping)
        else None
    )
    return stable_digest(
        [
            template.get("EmbeddedTmpl"),
            template.get("DestPath"),
            template.get("ChangeMode") or "restart",
            template.get("ChangeSignal") or "",
            change_script,
            template.get("Splay") or 0,
            template.get("Perms") or "0644",
            template.get("Uid"),
            template.get("Gid"),
            template.get("LeftDelim") or "{{",
            template.get("RightDelim") or "}}",
            bool(template.get("Envvars")),
            bool(template.get("ErrMissingKey")),
        ]
    )


def _pin(value: Any) -> Pin | None:
    items = _list(value)
    if len(items) == 2 and isinstance(items[0], int) and isinstance(items[1], str):
        return Pin(items[0], items[1])
    return None


def _keeps(value: Any) -> Keeps:
    match _list(value):
        case [int(vault), int(nomad), str(signals)] if vault >= 0 and nomad >= 0:
            return Keeps(vault, nomad, signals)
    return Keeps()


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
