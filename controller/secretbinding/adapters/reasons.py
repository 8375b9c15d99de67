"""Why an exchange failed, in words that hold nothing of the request, and what to do about it."""

import ssl

from urllib3.exceptions import ConnectTimeoutError, EmptyPoolError, NewConnectionError, ReadTimeoutError, SSLError

from secretbinding.adapters.deadline import AnswerTooSlowError


def hopeless(problem: Exception) -> bool:
    """Whether trying again cannot help: the certificate is refused, TLS is not spoken, or the pool is too small."""
    if isinstance(problem, EmptyPoolError) or _refusal(problem) is not None:
        return True
    return isinstance(problem, SSLError) and _without_tls(str(problem).lower())


def _without_tls(text: str) -> bool:
    return "wrong version number" in text or "record layer failure" in text


def _refusal(problem: BaseException) -> ssl.SSLCertVerificationError | None:
    inner = problem.args[0] if isinstance(problem, SSLError) and problem.args else problem
    return inner if isinstance(inner, ssl.SSLCertVerificationError) else None


def describe(problem: Exception, system: str) -> tuple[str, str]:
    """(why, remedy) of a failed exchange with `system`; an empty remedy means that there is no special one."""
    prefix = system.upper()
    refusal = _refusal(problem)
    if refusal is not None:
        if "mismatch" in refusal.verify_message or "not valid for" in refusal.verify_message:
            return (
                f"its TLS certificate is for another name: {refusal.verify_message}",
                f"correct {prefix}_ADDR, or set {prefix}_TLS_SERVER_NAME to a name in the certificate",
            )
        return (
            f"its TLS certificate is not trusted: {refusal.verify_message}",
            f"set {prefix}_CACERT to the CA that signed it",
        )
    if isinstance(problem, SSLError | ssl.SSLError):
        return _describe_tls(str(problem).lower(), prefix)
    if isinstance(problem, NewConnectionError):
        return _os_reason(problem, "cannot connect"), ""
    if isinstance(problem, ConnectTimeoutError):
        return "connecting took too long", ""
    if isinstance(problem.__cause__, AnswerTooSlowError):
        return "its answer took too long", "check its load, and what is between here and there"
    if isinstance(problem, ReadTimeoutError | TimeoutError):
        return "it was silent for too long", "check its load, or give it more time"
    if isinstance(problem, EmptyPoolError):
        return "all connections of the pool are in use", "give the pool as many connections as there are workers"
    if "alert certificate required" in str(problem).lower():
        return _describe_tls(str(problem).lower(), prefix)
    return _os_reason(problem, "the connection broke off"), ""


def _describe_tls(text: str, prefix: str) -> tuple[str, str]:
    if _without_tls(text):
        return "it does not speak TLS", f"use http:// in {prefix}_ADDR, or another port"
    if "certificate required" in text or "handshake failure" in text or "bad certificate" in text:
        return (
            "it refused our TLS certificate or wants one",
            f"set {prefix}_CLIENT_CERT and {prefix}_CLIENT_KEY to a pair that it accepts",
        )
    return "TLS failed", f"check {prefix}_CACERT, {prefix}_CLIENT_CERT and {prefix}_CLIENT_KEY"


def _os_reason(problem: BaseException, otherwise: str) -> str:
    """The operating system's words for the first `OSError` behind `problem`."""
    for inner in (problem, problem.__cause__, *problem.args):
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror.lower()
    return otherwise
