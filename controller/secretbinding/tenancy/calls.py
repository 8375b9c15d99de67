"""What a user's template calls that reaches beyond the values of its own secret, found by parsing it."""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import get_args

from secretbinding.models.functions import SPRIG
from secretbinding.models.template_syntax import check
from secretbinding.models.templates import TemplateSyntaxError, Token, TokenKind
from secretbinding.models.text import Text
from secretbinding.models.types import VaultPath

_ASKS_VAULT = ("secret", "pkiCert")
_WRITES = "update"
_READS_NOMAD = ("nomadVar", "nomadVarExists")
_READS_ENVIRONMENT = ("env", "envOrDefault", "mustEnv")
# Consul, files of the client, Nomad's services and variables, and whatever runs or lists something.
_LISTED = """
caLeaf caRoots connect datacenters executeTemplate exportedServices file importedServices key keyExists keyOrDefault
ls node nodes nomadService nomadServices nomadVarList nomadVarListSafe partitions peerings plugin safeLs safeTree
secrets service services sockaddr tree writeToFile
"""
_REACHING = frozenset(_LISTED.split())
# sprig's that ask the system of the client, not the task.
_REACHING_SPRIG = frozenset(f"{SPRIG}{name}" for name in ("env", "expandenv", "getHostByName"))
_LITERALS = (TokenKind.STRING, TokenKind.RAW_STRING)
# The task's own, as Nomad sets them (client/taskenv); where it does not set one, consul-template asks the environment
# of the client, and there NOMAD_TOKEN, NOMAD_HTTP_AUTH or NOMAD_LICENSE may stand.
_OWN_VARIABLE = re.compile(
    r"NOMAD_(?:ALLOC_(?:DIR|ID|NAME|INDEX|IP_\w+|PORT_\w+|ADDR_\w+)|TASK_(?:DIR|NAME)|SECRETS_DIR|GROUP_NAME"
    r"|JOB_(?:ID|NAME|PARENT_ID)|NAMESPACE|DC|REGION|CPU_LIMIT|CPU_CORES|MEMORY_LIMIT|MEMORY_MAX_LIMIT|PARENT_CGROUP"
    r"|SHORT_ALLOC_ID|(?:IP|PORT|ADDR|HOST_IP|HOST_PORT|HOST_ADDR|META|UPSTREAM_\w+)_[\w.-]+)\Z",
    re.ASCII,
)
_VAULT_PATH: Text = next(one for one in get_args(VaultPath) if isinstance(one, Text))
# consul-template takes the text for a URL: `x:/secret/app` asks for `secret/app`, and so may what follows an authority,
# a query, a fragment or an escape. A colon is left out wherever it stands, as are all that separate parts of a URL.
_PLAIN = re.compile(r"[^\x00-\x20\"'`{}\\*+?#%:;&@<>|^\[\]\x7f]+\Z")
_VERSION = re.compile(r"version=[0-9]{1,10}\Z")


@dataclass(frozen=True, slots=True)
class Calls:
    """What a template calls.

    Attributes:
        functions: names of functions that reach beyond values, and of those that are called with a computed path.
        paths: paths of Vault's API that are written out and are none of the binding's own, with the capability that the
            call takes: `secret` with further arguments, even an empty one, and `pkiCert` write.
    """

    functions: frozenset[str] = frozenset()
    paths: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class _Call:
    """One call; `literal` is its first argument where that is a text that is written out, `more` says that it has
    further ones."""

    name: str
    literal: str | None
    more: bool


def calls_of(text: str, left: str, right: str, own: Mapping[str, Set[str]], variables: Set[str]) -> Calls:
    """The calls of a template. `own` are the paths of Vault's API that the binding's secrets read, with what they may
    do there, `variables` the paths of its Nomad variables. A template that does not parse calls nothing: no server
    renders it."""
    try:
        actions = check(text, left, right)
    except TemplateSyntaxError:
        return Calls()
    functions: set[str] = set()
    paths: set[tuple[str, str]] = set()
    for action in actions:
        for call in _called(action.words):
            name, literal = call.name, call.literal
            if name in _ASKS_VAULT:
                needed = _WRITES if call.more or name == "pkiCert" else "read"
                path = plain_path(literal) if literal is not None else None
                capabilities = own.get(_trimmed(literal)) if literal is not None and _is_simple(literal) else None
                # What is the binding's own may be read however the engine calls that (`issue` of PKI is a write).
                if capabilities is not None and (needed == "read" or needed in capabilities):
                    continue
                if path is None:
                    functions.add(name)
                else:
                    paths.add((path, needed))
            elif name in _READS_NOMAD:
                if literal is None or literal not in variables:
                    functions.add(name)
            elif name in _READS_ENVIRONMENT:
                if literal is None or not _OWN_VARIABLE.match(literal):
                    functions.add(name)
            elif name in _REACHING or name in _REACHING_SPRIG:
                functions.add(name)
    return Calls(frozenset(functions), frozenset(paths))


def plain_path(written: str) -> str | None:
    """The path that consul-template asks for, the version and the slashes at its ends left out; None for one that a
    client could read as another path, or that no manifest could name."""
    path = _trimmed(written)
    plain = _is_simple(written) and _PLAIN.match(path) is not None and not {"", ".", ".."} & set(path.split("/"))
    surrogates = any("\ud800" <= char <= "\udfff" for char in path)
    return path if plain and not surrogates and _VAULT_PATH.complaint(path) is None else None


def _is_simple(written: str) -> bool:
    """Whether a text is no URL with a host, and asks for nothing but a version: `list=true` would list."""
    _, asks, query = written.partition("?")
    return not written.strip().startswith("//") and (not asks or _VERSION.match(query) is not None)


def _trimmed(written: str) -> str:
    return written.partition("?")[0].strip().strip("/")


def _called(words: Sequence[Token]) -> Iterator[_Call]:
    """Each function with what it is given. What is piped into a function is its last argument."""
    for index, token in enumerate(words):
        if token.kind is not TokenKind.IDENTIFIER:
            continue
        given = list(_operands(words, index + 1))
        literal = given[0].value if given and given[0].kind in _LITERALS else None
        piped = index > 0 and words[index - 1].kind is TokenKind.PIPE
        yield _Call(token.text, literal, piped or len(given) > 1)


def _operands(words: Sequence[Token], at: int) -> Iterator[Token]:
    """The first word of what follows a function in the same command, and every further word; what stands in
    parentheses counts as well."""
    depth = 0
    for token in words[at:]:
        depth += {TokenKind.OPEN: 1, TokenKind.CLOSE: -1}.get(token.kind, 0)
        if depth < 0 or (depth == 0 and token.kind is TokenKind.PIPE):
            return
        yield token
