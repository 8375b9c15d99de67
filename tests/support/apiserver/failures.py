"""Answers other than success, in the shape of `meta/v1 Status`."""

from collections.abc import Sequence
from typing import Any

from tests.support.apiserver.resources import Resource
from tests.support.apiserver.schema import Fault

Json = dict[str, Any]


class ApiError(Exception):
    """An answer that is not a success; `body` is the Status object, `retry_after` seconds or None."""

    def __init__(
        self, code: int, reason: str, message: str, details: Json | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.body: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }
        if details is not None:
            self.body["details"] = details


def _details(resource: Resource, name: str, **more: Any) -> Json:
    named = {"name": name, "group": resource.group, "kind": resource.plural}
    return {key: value for key, value in (named | more).items() if value}


def not_found(resource: Resource, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{resource.qualified} "{name}" not found', _details(resource, name))


def already_exists(resource: Resource, name: str) -> ApiError:
    return ApiError(409, "AlreadyExists", f'{resource.qualified} "{name}" already exists', _details(resource, name))


def conflict(resource: Resource, name: str) -> ApiError:
    message = (
        f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return ApiError(409, "Conflict", message, _details(resource, name))


def invalid(resource: Resource, name: str, faults: Sequence[Fault]) -> ApiError:
    shown = str(faults[0]) if len(faults) == 1 else "[" + ", ".join(str(fault) for fault in faults) + "]"
    causes = [{"reason": fault.reason, "message": fault.message, "field": fault.field} for fault in faults]
    return ApiError(
        422,
        "Invalid",
        f'{resource.qualified_kind} "{name}" is invalid: {shown}',
        _details(resource, name, kind=resource.kind, causes=causes),
    )


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(resource: Resource, name: str, message: str) -> ApiError:
    text = f'{resource.qualified} "{name}" is forbidden: {message}' if name else message
    return ApiError(403, "Forbidden", text, _details(resource, name))


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)
