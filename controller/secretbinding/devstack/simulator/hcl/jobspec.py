"""A job file in HCL to a job as the API takes it."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from secretbinding.devstack.simulator.durations import parse_duration
from secretbinding.devstack.simulator.hcl.schema import check_names
from secretbinding.devstack.simulator.hcl.services import api_name, read_nested
from secretbinding.devstack.simulator.hcl.syntax import Block, Body, HclError, parse_hcl, resolve

Json = dict[str, Any]

_RENAMED = {
    "id": "ID",
    "gid": "Gid",
    "uid": "Uid",
    "cpu": "CPU",
    "memory": "MemoryMB",
    "memory_max": "MemoryMaxMB",
    "disk": "DiskMB",
    "size": "SizeMB",
    "max_file_size": "MaxFileSizeMB",
    "data": "EmbeddedTmpl",
    "source": "SourcePath",
    "destination": "DestPath",
    "env": "Envvars",
    "left_delimiter": "LeftDelim",
    "right_delimiter": "RightDelim",
    "error_on_missing_key": "ErrMissingKey",
    "ttl": "TTL",
    "aud": "Audience",
    "attribute": "LTarget",
    "operator": "Operand",
    "value": "RTarget",
    "cron": "Spec",
    "crons": "Specs",
    "time_zone": "TimeZone",
    "vault_namespace": "VaultNamespace",
    "change_mode": "ChangeMode",
}
_TEMPLATE_ONLY = frozenset(("data", "source", "destination", "env"))
_DURATIONS = frozenset(
    [
        "stagger",
        "min_healthy_time",
        "healthy_deadline",
        "progress_deadline",
        "delay",
        "grace",
        "interval",
        "max_delay",
        "splay",
        "ttl",
        "kill_timeout",
        "shutdown_delay",
        "vault_grace",
        "timeout",
        "min",
        "max",
        "max_run_duration",
        "stop_after_client_disconnect",
    ]
)
_MAPS = frozenset(("meta", "env", "config", "extra_claims"))


def parse_job(text: str, variables: str = "") -> Json:
    """The job. `variables` is text in HCL that sets input variables. Raises `HclError`."""
    root = parse_hcl(text)
    check_names("", root)
    names = _names(root, variables)
    jobs = [block for block in root.blocks if block.kind == "job"]
    if len(jobs) != 1:
        raise HclError("a job file has exactly one job block")
    for block in root.blocks:
        if block.kind == "variables":
            raise _outside(block)
    return _Reader(names).job(jobs[0])


def _names(root: Body, variables: str) -> Json:
    names: Json = {}
    given = parse_hcl(variables).attributes if variables else {}
    declared = {block.labels[0]: block for block in root.blocks if block.kind == "variable" and block.labels}
    for name in given:
        if name not in declared:
            raise HclError(f"undeclared variable {name!r}")
    for name, block in declared.items():
        if name not in given and "default" not in block.body.attributes:
            raise HclError(f"line {block.line}: unset variable {name!r}")
        names[f"var.{name}"] = given.get(name, block.body.attributes.get("default"))
    for block in root.blocks:
        if block.kind == "locals":
            for name, value in block.body.attributes.items():
                names[f"local.{name}"] = resolve(value, names)
    return names


class _Reader:
    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names

    def job(self, block: Block) -> Json:
        """The job block with all inside."""
        children: dict[str, Callable[[Block], Json]] = {"group": self._group}
        single = {
            "update": "Update",
            "migrate": "Migrate",
            "reschedule": "Reschedule",
            "periodic": "Periodic",
            "parameterized": "ParameterizedJob",
        }
        job = self._block(
            block,
            {"group": "TaskGroups", "constraint": "Constraints", "affinity": "Affinities", "spread": "Spreads"},
            single,
            children,
        )
        if len(block.labels) != 1:
            raise HclError(f"line {block.line}: a job has one label, its ID")
        job.setdefault("ID", block.labels[0])
        job.setdefault("Name", block.labels[0])
        vault = [one for one in block.body.blocks if one.kind == "vault"]
        self._inherit_vault(job, vault)
        return job

    def _inherit_vault(self, job: Json, vault: list[Block]) -> None:
        """A `vault` block of the job or of a group is for those of its tasks that have none."""
        common = self._plain(vault[0]) if vault else None
        for group in job.get("TaskGroups") or []:
            own = group.pop("Vault", None) or common
            for task in group.get("Tasks") or []:
                if own is not None and "Vault" not in task:
                    task["Vault"] = dict(own)

    def _group(self, block: Block) -> Json:
        lists = {
            "task": "Tasks",
            "constraint": "Constraints",
            "affinity": "Affinities",
            "spread": "Spreads",
            "network": "Networks",
            "service": "Services",
        }
        single = {
            "update": "Update",
            "migrate": "Migrate",
            "reschedule": "ReschedulePolicy",
            "restart": "RestartPolicy",
            "ephemeral_disk": "EphemeralDisk",
            "vault": "Vault",
            "consul": "Consul",
            "disconnect": "Disconnect",
        }
        group = self._block(
            block, lists, single, {"task": self._task, "network": self._nested, "service": self._nested}
        )
        group["Name"] = _label(block)
        return group

    def _task(self, block: Block) -> Json:
        lists = {
            "template": "Templates",
            "constraint": "Constraints",
            "affinity": "Affinities",
            "service": "Services",
            "identity": "Identities",
            "artifact": "Artifacts",
            "volume_mount": "VolumeMounts",
        }
        single = {
            "resources": "Resources",
            "restart": "RestartPolicy",
            "logs": "LogConfig",
            "vault": "Vault",
            "lifecycle": "Lifecycle",
            "dispatch_payload": "DispatchPayload",
            "consul": "Consul",
        }
        task = self._block(
            block,
            lists,
            single,
            {"template": self._template, "service": self._nested, "identity": self._plain, "artifact": self._loose},
        )
        task["Name"] = _label(block)
        for identity in task.get("Identities") or []:
            identity.setdefault("Name", "default")
        return task

    def _template(self, block: Block) -> Json:
        template = self._plain(block, template=True)
        for inner in block.body.blocks:
            if inner.kind == "wait":
                template["Wait"] = self._plain(inner)
            elif inner.kind == "change_script":
                template["ChangeScript"] = self._plain(inner)
        return template

    def _plain(self, block: Block, *, template: bool = False) -> Json:
        """Attributes only."""
        check_names(block.kind, block.body)
        return {
            _name(name, template=template): self._value(name, value) for name, value in block.body.attributes.items()
        }

    def _nested(self, block: Block) -> Json:
        return read_nested(block, self._plain, lambda value: resolve(value, self._names))

    def _loose(self, block: Block) -> Json:
        """A block that the simulator carries but does not understand: nested blocks become lists."""
        result = self._plain(block)
        for inner in block.body.blocks:
            result.setdefault(_name(inner.kind) + "s", []).append(self._loose(inner))
        if block.labels:
            result["Label"] = block.labels[0]
        return result

    def _value(self, name: str, value: Any) -> Any:
        value = resolve(value, self._names)
        if name in _DURATIONS and isinstance(value, str):
            try:
                return parse_duration(value)
            except ValueError as error:
                raise HclError(f"{name}: {error}") from None
        return value

    def _block(
        self,
        block: Block,
        lists: Mapping[str, str],
        single: Mapping[str, str],
        readers: Mapping[str, Callable[[Block], Json]],
    ) -> Json:
        check_names(block.kind, block.body)
        result: Json = {}
        for name, value in block.body.attributes.items():
            if name in _MAPS:
                result[_map_name(name)] = _texts(name, resolve(value, self._names))
            else:
                result[_name(name)] = self._value(name, value)
        for inner in block.body.blocks:
            if inner.kind in _MAPS:
                values = {key: resolve(value, self._names) for key, value in inner.body.attributes.items()}
                for deep in inner.body.blocks:
                    values.setdefault(deep.kind, []).append(
                        {key: resolve(value, self._names) for key, value in deep.body.attributes.items()}
                    )
                result[_map_name(inner.kind)] = _texts(inner.kind, values)
            elif inner.kind in lists:
                reader = readers.get(inner.kind, self._plain)
                result.setdefault(lists[inner.kind], []).append(reader(inner))
            elif inner.kind in single:
                result[single[inner.kind]] = self._plain(inner)
            elif inner.kind != "vault":
                raise _outside(inner)
        return result


def _outside(block: Block) -> HclError:
    return HclError(f"line {block.line}: {block.kind} blocks are outside the simulator's subset of job files")


def _label(block: Block) -> str:
    if len(block.labels) != 1:
        raise HclError(f"line {block.line}: a {block.kind} has one label, its name")
    return block.labels[0]


def _texts(name: str, values: Any) -> Any:
    """`meta` and `env` hold texts only."""
    if name == "config" or not isinstance(values, dict):
        return values
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in values.items()}


def _map_name(name: str) -> str:
    return {"extra_claims": "ExtraClaims"}.get(name, name.capitalize())


def _name(name: str, *, template: bool = False) -> str:
    """`min_healthy_time` is `MinHealthyTime` in the API; some names are others altogether."""
    if name in _RENAMED and (template or name not in _TEMPLATE_ONLY):
        return _RENAMED[name]
    if (special := api_name(name)) is not None:
        return special
    return re.sub(r"(?:^|_)([a-z])", lambda match: match[1].upper(), name)
