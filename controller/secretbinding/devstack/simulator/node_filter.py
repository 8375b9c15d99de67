"""The one expression that a list of nodes is filtered by here, and the attributes that it is about."""

import re
from collections.abc import Mapping

from secretbinding.devstack.simulator.web import HttpError

_LACKS = re.compile(r'\s*"([^"]+)"\s+not\s+in\s+Attributes\s*\Z')


def lacks(expression: str, attributes: Mapping[str, str]) -> bool:
    """Whether a node with these attributes passes `"<name>" not in Attributes`; without an expression each does.

    Nomad knows a whole language. Raises `HttpError` 400 for anything else, as Nomad does for what is no expression.
    """
    if not expression:
        return True
    found = _LACKS.match(expression)
    if found is None:
        raise HttpError(400, f"failed to create result paginator: failed to read filter expression: {expression}")
    return found[1] not in attributes
