"""What can go wrong in a request, each with its status and code: one shape for all of them.

Refused(MmseError)     the request itself, or when it came
UsageError             what is asked does not fit this catalogue (422)
ArtifactError, TableError, OutputError     what the server stands on (500, 507)
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from mmse.core.errors import MmseError, OutputError, UsageError
from mmse.schema.http import Failure, Problem

log = logging.getLogger(__name__)

STATUS: Final[Mapping[str, int]] = {
    "bad_request": 400,
    "invalid": 400,
    "unauthorised": 401,
    "not_found": 404,
    "version_unknown": 404,
    "method_not_allowed": 405,
    "read_only": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "does_not_fit": 422,
    "rate_limited": 429,
    "internal": 500,
    "overloaded": 503,
    "deadline_exceeded": 504,
    "disk_refuses": 507,
}
"""Every code that an error can have, with its HTTP status."""

RETRY_AFTER_S: Final = 1
_RETRY: Final = ("rate_limited", "overloaded")
_BY_STATUS: Final = {
    400: "bad_request",
    401: "unauthorised",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
}
_CURES: Final = {
    "bad_request": "Send what /openapi.json describes.",
    "not_found": "The routes are in /openapi.json.",
    "method_not_allowed": "The methods of each route are in /openapi.json.",
    "too_large": "Send less at once.",
    "unsupported_media_type": "Send JSON, with Content-Type: application/json.",
}
_CAUSES: Final = {
    "not_found": "There is no such route.",
    "method_not_allowed": "This route does not take that method.",
    "too_large": "The request is too large.",
}


class Refused(MmseError):
    """A request that is not answered, with the code of the reason."""

    def __init__(self, code: str, cause: str, cure: str) -> None:
        assert code in STATUS, code
        super().__init__(cause, cure)
        self.code = code


def overloaded() -> Refused:
    """More searches wait than the server takes on."""
    return Refused("overloaded", "The server has more searches than it can answer in time.", "Try again in a second.")


def late(timeout_ms: int) -> Refused:
    """A search that was not answered in time."""
    return Refused(
        "deadline_exceeded", f"The search was not answered within {timeout_ms} ms.", "Try again, or allow more time."
    )


def problem_of(error: MmseError, request_id: str) -> Problem:
    """`error` as it is told to whoever asked: no path of the server's disk, where it is the server's own."""
    if isinstance(error, Refused):
        return Problem(code=error.code, message=error.cause, cure=error.cure, request_id=request_id)
    if isinstance(error, UsageError):
        return Problem(code="does_not_fit", message=error.cause, cure=error.cure, request_id=request_id)
    log.error("%s", error, extra={"request_id": request_id})
    if isinstance(error, OutputError):
        cause = "The server's disk refuses to take it; nothing has changed."
        return Problem(code="disk_refuses", message=cause, cure="See the server's log.", request_id=request_id)
    return internal(request_id)


def internal(request_id: str) -> Problem:
    """A fault of ours: the log has it under the request's id."""
    said = "Something went wrong in the server."
    return Problem(
        code="internal", message=said, cure="See the server's log for this request_id.", request_id=request_id
    )


def body_of(problem: Problem) -> bytes:
    """The JSON of an error."""
    return msgspec.json.encode(Failure(error=problem))


def headers_of(problem: Problem) -> dict[str, str]:
    """What an error's answer says beside its body."""
    said = {"Retry-After": str(RETRY_AFTER_S)} if problem.code in _RETRY else {}
    return said | ({"WWW-Authenticate": "Bearer"} if problem.code == "unauthorised" else {})


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[Failure]:
    """The answer to a request that failed."""
    problem = _problem(error, request.scope["state"]["call"].request_id)
    headers = headers_of(problem)
    if isinstance(error, HTTPException) and error.headers:
        headers |= {name: value for name, value in error.headers.items() if name.lower() == "allow"}
    return Response(
        Failure(error=problem), status_code=STATUS[problem.code], headers=headers, media_type="application/json"
    )


def _problem(error: Exception, request_id: str) -> Problem:
    if isinstance(error, MmseError):
        return problem_of(error, request_id)
    if isinstance(error, ValidationException):
        message, cure = _invalid(error)
        return Problem(code="invalid", message=message, cure=cure, request_id=request_id)
    if isinstance(error, RecursionError):
        said = "The body is nested too deep."
        return Problem(code="bad_request", message=said, cure=_CURES["bad_request"], request_id=request_id)
    if isinstance(error, HTTPException) and error.status_code in _BY_STATUS:
        code = _BY_STATUS[error.status_code]
        said = _CAUSES.get(code, f"The body is not valid JSON: {error.detail}")
        return Problem(code=code, message=said, cure=_CURES.get(code, ""), request_id=request_id)
    log.error("a request failed", exc_info=error, extra={"request_id": request_id})
    return internal(request_id)


def _invalid(error: ValidationException) -> tuple[str, str]:
    """What is wrong with which field, and what the field takes."""
    said = error.extra if isinstance(error.extra, list) else []
    found = [(str(one.get("key") or "body"), str(one.get("message"))) for one in said if isinstance(one, Mapping)]
    if not found:
        return re.sub(r"Validation failed for [A-Z]+ \S+", "The request is not valid", error.detail), _CURES[
            "bad_request"
        ]
    return "; ".join(f"{key}: {message}" for key, message in found[:5]), _CURES["bad_request"]
