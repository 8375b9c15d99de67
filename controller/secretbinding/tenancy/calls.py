"""What a user's template calls that reaches beyond the values of its own secret, found by parsing it."""

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import get_args

from secretbinding.models.functions import SPRIG
from secretbinding.models.template_syntax import check
from secretbinding.models.templates import TemplateSyntaxError, Token, TokenKind
from secretbinding.models.text import Text
from secretbinding.models.types import VaultPath

_READS_VAULT = ("secret", "pkiCert")
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
_PLAIN = re.compile(r"[^\x00-\x20\"'`{}\\*+?#%\x7f]+\Z")


@dataclass(frozen=True, slots=True)
class Calls:
    """What a template calls.

    Attributes:
        functions: names of functions that reach beyond values, and of those that are called with a computed path.
        paths: paths of Vault's API that are written out and are none of the binding's own.
    """

    functions: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()


def calls_of(text: str, left: str, right: str, own: Set[str], variables: Set[str]) -> Calls:
    """The calls of a template. `own` are the paths of Vault's API that the binding's secrets read, `variables` the
    paths of its Nomad variables. A template that does not parse calls nothing: no server renders it."""
    try:
        actions = check(text, left, right)
    except TemplateSyntaxError:
        return Calls()
    functions: set[str] = set()
    paths: set[str] = set()
    for action in actions:
        for name, literal in _called(action.words):
            if name in _READS_VAULT:
                path = plain_path(literal) if literal is not None else None
                if literal is not None and _trimmed(literal) in own:
                    continue
                if path is None:
                    functions.add(name)
                else:
                    paths.add(path)
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
    """The path that consul-template asks for, its query and the slashes at its ends left out; None for one that a
    client could read as another path, or that no manifest could name."""
    path = _trimmed(written)
    plain = _PLAIN.match(path) is not None and not {"", ".", ".."} & set(path.split("/"))
    surrogates = any("\ud800" <= char <= "\udfff" for char in path)
    return path if plain and not surrogates and _VAULT_PATH.complaint(path) is None else None


def _trimmed(written: str) -> str:
    return written.partition("?")[0].strip().strip("/")


def _called(words: tuple[Token, ...]) -> Iterator[tuple[str, str | None]]:
    """Each function with its first argument, where that is a text that is written out."""
    for index, token in enumerate(words):
        if token.kind is TokenKind.IDENTIFIER:
            follows = words[index + 1] if index + 1 < len(words) else None
            literal = follows is not None and follows.kind in _LITERALS
            yield token.text, follows.value if literal and follows is not None else None
