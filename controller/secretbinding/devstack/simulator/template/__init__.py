"""The subset of Go's text/template and of consul-template that ordinary job files use.

Supported: text, comments, trim markers, `if`/`else if`, `with`, `range` (with `break`, `continue`), variables,
pipelines, parentheses, the functions in `functions.FUNCTIONS`, `secret` (reads and writes), `pkiCert` and `nomadVar`.
Not supported: `define`, `template`, methods, Consul, services.
"""

from secretbinding.devstack.simulator.template.dependencies import Dependency
from secretbinding.devstack.simulator.template.evaluate import Rendering, render
from secretbinding.devstack.simulator.template.lexer import TemplateError
from secretbinding.devstack.simulator.template.values import Secret, VariableItems, certificate_of, load_json, secret_of

__all__ = [
    "Dependency",
    "Rendering",
    "Secret",
    "TemplateError",
    "VariableItems",
    "certificate_of",
    "load_json",
    "render",
    "secret_of",
]
