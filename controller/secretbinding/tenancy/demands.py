"""What a binding asks for, one thing for each of its secrets: what a policy has to allow."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from secretbinding.kinds import KINDS
from secretbinding.kinds.base import RENEW, Right, SecretState
from secretbinding.models.binding import (
    Agent,
    DeletionPolicy,
    Delivery,
    Generate,
    Generic,
    Kv,
    KvEngine,
    NomadVariable,
    SecretBinding,
    SecretEntry,
)
from secretbinding.models.kinds import DatabaseCreate, PkiCreate
from secretbinding.models.policy import Choice
from secretbinding.tenancy.calls import calls_of
from secretbinding.tenancy.patterns import KV_API

Path = tuple[str | int, ...]
# Fields that name what an engine gives, below its mount.
_NAMES = ("path", "role", "static_role", "key", "roleset", "static_account", "impersonated_account")


@dataclass(frozen=True, slots=True)
class Demand:
    """One secret that a binding asks for.

    Attributes:
        place: the field of the manifest that asks for it.
        name: what the binding names below the mount, "" for a role that is made.
        bare: path and mount are joined as they are, so that the path may lead anywhere below the mount.
        rights: the paths of Vault's API that it needs.
        capabilities: what it needs there.
        functions: what its templates call beyond values.
        call: a path of Vault's API that a template reads or writes, of a secret that is none of the binding's; then
            only `rights` and `capabilities` count of what is above.
        namespace: the Nomad namespace of a variable, "" for the job's.
        made: with `call`: a right by a role that was made for the binding.
    """

    place: Path
    secret: str
    kind: str
    mount: str
    name: str
    bare: bool = False
    rights: tuple[str, ...] = ()
    capabilities: frozenset[str] = frozenset()
    create: DatabaseCreate | PkiCreate | None = None
    generate: Generate | None = None
    functions: frozenset[str] = frozenset()
    call: bool = False
    namespace: str = ""
    made: bool = False

    @property
    def standing(self) -> bool:
        """A right that is there already, of a manifest that cannot be read any more."""
        return self.call and not self.secret

    @property
    def title(self) -> str:
        """For people: which secret."""
        if self.standing:
            return f"{self.rights[0]}, to which its last manifest that could be read gave a right,"
        if self.call:
            does = "reads" if self.capabilities == {"read"} else "writes"
            return f"{self.rights[0]}, which a template of secret {self.secret} {does},"
        where = "/".join(part for part in (self.mount, self.name) if part)
        return f"secret {self.secret} ({self.kind} {where or 'made'}{'' if self.name else ', a role to be made'})"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What holds for everything that a binding asks for.

    Attributes:
        longest_seconds: how long a token lives that is not renewed, or its period; None where the binding leaves it to
            the controller.
        choices: what the binding chooses that runs programs.
        adopted: it has taken over what is in the job by hand.
        retained: what it made is to stay when it goes.
    """

    method: str = "JWT"
    longest_seconds: float | None = None
    delivery: Delivery = Delivery.TEMPLATE
    choices: frozenset[str] = frozenset()
    adopted: bool = False
    retained: bool = False


def conditions_of(binding: SecretBinding, *, adopted: bool = False) -> Conditions:
    """The conditions of a binding."""
    auth = binding.spec.auth
    longest = auth.token_period or auth.token_max_ttl
    agent = binding.spec.agent or Agent()
    choices = {choice.value for choice in Choice if getattr(agent, choice.value, None) not in (None, ())}
    if any(entry.change_script is not None for entry in binding.spec.secrets):
        choices.add(Choice.SCRIPT.value)
    if binding.spec.delivery is Delivery.AGENT and any(name.startswith("VAULT_") for name in binding.spec.workload.env):
        # The agent goes where these say, with an identity that is good for all bindings of the group.
        choices.add(Choice.SERVER.value)
    return Conditions(
        method=auth.method.value,
        longest_seconds=longest.seconds if longest is not None else None,
        delivery=binding.spec.delivery,
        choices=frozenset(choices),
        adopted=adopted,
        retained=binding.spec.deletion_policy is DeletionPolicy.RETAIN,
    )


def demands_of(binding: SecretBinding) -> tuple[Demand, ...]:
    """What a binding asks for, in the order of its secrets. Names of roles that are made may be known or not."""
    entries = binding.spec.secrets
    own = _own(entries)
    variables = frozenset(entry.source.path for entry in entries if isinstance(entry.source, NomadVariable))
    generated = {one.secret: one for one in binding.spec.rotation.generate}
    found: list[Demand] = []
    for index, entry in enumerate(entries):
        place = ("spec", "secrets", index, entry.kind_name)
        functions: set[str] = set()
        called: list[Demand] = []
        for at, target in enumerate(entry.files):
            if target.template is None:
                continue
            left, right = target.left_delimiter or "{{", target.right_delimiter or "}}"
            calls = calls_of(target.template, left, right, own, variables)
            functions |= calls.functions
            spot: Path = ("spec", "secrets", index, "files", at, "template")
            called += [
                Demand(spot, entry.name, "", "", "", rights=(path,), capabilities=frozenset({needed}), call=True)
                for path, needed in sorted(calls.paths)
            ]
        found.append(_demand(place, entry, generated.get(entry.name), frozenset(functions)))
        found += called
    return tuple(found)


def _own(entries: Iterable[SecretEntry]) -> Mapping[str, frozenset[str]]:
    """The paths by which templates may call a binding's own secrets, with what the binding may do there."""
    found: dict[str, frozenset[str]] = {}
    for entry in entries:
        given: dict[str, frozenset[str]] = {}
        for right in _needed(entry):
            given[right.path] = given.get(right.path, frozenset()).union(right.capabilities)
        for path in _called_as(entry):
            found[path] = found.get(path, frozenset()) | given.get(path, frozenset({"read"}))
    return found


def _demand(place: Path, entry: SecretEntry, generate: Generate | None, functions: frozenset[str]) -> Demand:
    source = entry.source
    paths, capabilities = _rights(entry)
    create = getattr(source, "create", None)
    variable = isinstance(source, NomadVariable)
    return Demand(
        place,
        entry.name,
        entry.kind_name,
        "" if variable else str(getattr(source, "mount", "")),
        "" if create is not None else next(_named(source), ""),
        bare=isinstance(source, Generic) or (isinstance(source, Kv) and source.engine is KvEngine.V1),
        rights=paths,
        capabilities=capabilities,
        create=create,
        generate=generate,
        functions=functions,
        namespace=str(getattr(source, "namespace", None) or "") if variable else "",
    )


def _named(source: object) -> Iterator[str]:
    for name in _NAMES:
        if value := getattr(source, name, None):
            yield str(value)


def _rights(entry: SecretEntry) -> tuple[tuple[str, ...], frozenset[str]]:
    """The paths of Vault's API that an entry may need, and what it needs there."""
    needed = _needed(entry)
    paths = tuple(dict.fromkeys(right.path for right in needed))
    return paths, frozenset(capability for right in needed for capability in right.capabilities)


def _needed(entry: SecretEntry) -> tuple[Right, ...]:
    """What an entry may need in Vault, whatever the version of its engine."""
    if isinstance(entry.source, NomadVariable):
        return ()
    engines = ("v1", "v2") if isinstance(entry.source, Kv) and entry.source.engine is None else (_engine(entry),)
    kind = KINDS[entry.kind_name]
    rights = (right for engine in engines for right in kind.rights(entry, SecretState(engine=engine)))
    return tuple(right for right in rights if right != RENEW)


def _called_as(entry: SecretEntry) -> Iterator[str]:
    """The paths by which a template may call an entry's secret. consul-template puts the `data/` of a KV engine of
    version 2 in by itself, unless the path seems to have it: then it is another secret's."""
    source = entry.source
    for path in _rights(entry)[0]:
        plain = isinstance(source, Kv) and path == f"{source.mount}/{source.path}"
        if not (plain and _engine(entry) != "v1" and str(getattr(source, "path", "")).partition("/")[0] in KV_API):
            yield path
    if isinstance(source, Kv) and source.engine is KvEngine.V2 and source.path.partition("/")[0] not in KV_API:
        yield f"{source.mount}/{source.path}"


def _engine(entry: SecretEntry) -> str:
    return entry.source.engine.value if isinstance(entry.source, Kv) and entry.source.engine is not None else "v2"
