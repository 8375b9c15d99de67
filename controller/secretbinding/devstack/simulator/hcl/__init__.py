"""HCL for the simulator: job files and ACL policies. A subset; Nomad's own parser is the judge of real files.

Supported: attributes and blocks (labels quoted or bare), strings with escapes, heredocs (`<<X`, `<<-X`), numbers,
booleans, null, lists, objects, comments; in job files `variable` and `locals` with `${var.x}` and `${local.x}`.
Not supported: functions, operators, `for` and `if` expressions, `dynamic` blocks. They are named in the error.
"""

from secretbinding.devstack.simulator.hcl.jobspec import parse_job
from secretbinding.devstack.simulator.hcl.syntax import Block, Body, HclError, parse_hcl

__all__ = ["Block", "Body", "HclError", "parse_hcl", "parse_job"]
