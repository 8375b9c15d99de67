"""The two expressions that a list of nodes is filtered by here."""

import re
from collections.abc import Mapping

from secretbinding.devstack.simulator.web import HttpError

_LACKS = re.compile(r'\s*"([^"]+)"\s+not\s+in\s+Attributes\s*\Z')
_OTHER = re.compile(r'\s*"([^"]+)"\s+in\s+Attributes\s+and\s+Attributes\["\1"\]\s*!=\s*"([^"]*)"\s*\Z')


def passes(expression: str, attributes: Mapping[str, str]) -> bool:
    """Whether a node with these attributes passes `"<name>" not in Attributes`, or
    `"<name>" in Attributes and Attributes["<name>"] != "<value>"`; without an expression each does.

    Nomad knows a whole language. Raises `HttpError` 400 for anything else, as Nomad does for what is no expression.
    """
    if not expression:
        return True
    lacks, other = _LACKS.match(expression), _OTHER.match(expression)
    if lacks is not None:
        return lacks[1] not in attributes
    if other is not None:
        return other[1] in attributes and attributes[other[1]] != other[2]
    raise HttpError(400, f"failed to create result paginator: failed to read filter expression: {expression}")
