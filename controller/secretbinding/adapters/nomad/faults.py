"""Which error an answer of Nomad is. Nomad answers most failures with HTTP 500 and a text, so the text decides."""

import re

from secretbinding.adapters.transport import Call, unexpected
from secretbinding.errors import Conflict, Denied, NoLeader, NotFound, Rejected, ServiceError, Unavailable

REGISTERING = frozenset({"job_register", "job_plan"})
"""Labels of the calls whose plain 500 is Nomad's refusal of the job (its validation has no status of its own)."""

TAGGING = frozenset({"version_tag", "version_untag"})
"""Labels of the calls whose 500 may mean that the tag, the version or the job is not there."""

_NO_SUCH = re.compile(r'(job|tag) ".*" .*not found|tag ".*" not found')
_RPC_PREFIX = re.compile(r"^(rpc error: )?(RPC Error:: \d+,)?")
_TOKEN_FAULT = re.compile(r"ACL token (not found|expired|is invalid)")
_VALIDATION = re.compile(r"\d+ errors? occurred:")
_INFRASTRUCTURE = re.compile(
    r"no path to|not ready to serve|leadership|raft|\bEOF\b|connection re|broken pipe|i/o timeout|timed? ?out|deadline"
    r"|shutdown|session closed|stream closed|no route to host|failed to get conn",
    re.IGNORECASE,
)


def judge(call: Call, status: int, text: str) -> ServiceError:
    """The error for a Nomad answer with the given status and body (plain text)."""
    about = {"system": "nomad", "operation": call.text}
    text = _RPC_PREFIX.sub("", text)
    says = f"; Nomad says: {text}" if text else ""
    token = _TOKEN_FAULT.search(text)
    if token:
        return Denied(
            f"Nomad does not accept the token to {call.text}: {token.group()}",
            **about,
            status=status,
            remedy="give it a token that is valid (NOMAD_TOKEN)",
        )
    if status in (401, 403):
        if "Permission denied" not in text:
            return Denied(
                f"the request to {call.text} was denied{says}",
                **about,
                status=status,
                remedy="see what it says, and check that NOMAD_ADDR leads to Nomad itself",
            )
        return Denied(
            call.denied or f"the Nomad token may not {call.text}",
            **about,
            status=status,
            remedy=f"{call.grant or 'extend its policy'}, or check that the token is valid (NOMAD_TOKEN)",
        )
    if status == 404:
        if not call.absent or call.absent not in text:
            return unexpected("nomad", call, "a 404 that is not Nomad's own")
        return NotFound(f"Nomad does not have what it takes to {call.text}{says}", **about, status=status)
    if status == 409:
        return Conflict(f"somebody else wrote it before Nomad could {call.text}", **about, status=status)
    if status == 429:
        return Unavailable(
            "Nomad has too many connections or requests from here",
            **about,
            status=status,
            remedy="raise limits.http_max_conns_per_client of its agent",
        )
    if status < 500:
        if status == 400 and "HTTP request to an HTTPS server" in text:
            return Rejected(
                "Nomad speaks TLS at this address", **about, status=status, remedy="use https:// in NOMAD_ADDR"
            )
        return Rejected(f"Nomad refused to {call.text}{says}", **about, status=status)
    if "No cluster leader" in text:
        return NoLeader(
            f"Nomad has no leader, so it cannot {call.text}",
            **about,
            status=status,
            remedy="check that a majority of its servers is up (nomad server members)",
        )
    if "Enforcing job modify index" in text:
        return Conflict(
            f"the job changed since it was read, so Nomad did not {call.text}{says}", **about, status=status
        )
    if call.label in TAGGING and _NO_SUCH.search(text):
        return NotFound(f"Nomad does not have what it takes to {call.text}{says}", **about, status=status)
    if call.label in TAGGING and "already exists" in text:
        return Rejected(
            f"Nomad refused to {call.text}{says}", **about, status=status, remedy="take that tag away first"
        )
    if "No path to region" in text:
        return Unavailable(
            f"Nomad knows no way to the region, so it cannot {call.text}",
            **about,
            status=status,
            remedy="check NOMAD_REGION, and that the regions are joined (nomad server members)",
        )
    refusal = call.label in REGISTERING and (_VALIDATION.search(text) or not _INFRASTRUCTURE.search(text))
    if status == 500 and refusal:
        return Rejected(f"Nomad refused to {call.text}{says}", **about, status=status, remedy="correct the job")
    return Unavailable(
        f"Nomad cannot {call.text} now (HTTP {status}){says}", **about, status=status, remedy="see Nomad's log"
    )
