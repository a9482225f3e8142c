"""Turns the errors of a request into responses: a status, a code, and one shape of body for all of them.

RequestError(MmseError)                    the request itself is wrong, or comes at a bad time
UsageError                                 the request does not fit this catalogue (422)
StoreError                                 the vector store does not answer (503)
ArtifactError, TableError, OutputError     the server's own files or disk (500, 507)
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Final

import msgspec
from litestar import Response
from litestar.exceptions import HTTPException, ValidationException

from mmse.core.errors import MmseError, OutputError, StoreError, UsageError
from mmse.schema.http import Failure, Problem
from mmse.serving.request_context import HttpRequest, context_of

log = logging.getLogger(__name__)

STATUS: Final[Mapping[str, int]] = {
    "bad_request": 400,
    "invalid": 400,
    "unauthorised": 401,
    "forbidden": 403,
    "not_found": 404,
    "version_unknown": 404,
    "method_not_allowed": 405,
    "read_only": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "does_not_fit": 422,
    "too_costly": 422,
    "rate_limited": 429,
    "internal": 500,
    "overloaded": 503,
    "store_fails": 503,
    "deadline_exceeded": 504,
    "disk_refuses": 507,
}
"""Every code that an error can have, with its HTTP status."""

RETRY_AFTER_S: Final = 1
_RETRY: Final = ("rate_limited", "overloaded", "store_fails")
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


class RequestError(MmseError):
    """A request that is refused, with the code of the reason."""

    def __init__(self, code: str, cause: str, cure: str) -> None:
        assert code in STATUS, code
        super().__init__(cause, cure)
        self.code = code


def overload_error() -> RequestError:
    """The error of a search that would wait too long."""
    return RequestError(
        "overloaded", "The server has more searches than it can answer in time.", "Try again in a second."
    )


def deadline_error(timeout_ms: int) -> RequestError:
    """The error of a search that was not answered in time."""
    return RequestError(
        "deadline_exceeded", f"The search was not answered within {timeout_ms} ms.", "Try again, or allow more time."
    )


def to_problem(error: MmseError, request_id: str) -> Problem:
    """`error` as the client sees it; errors of the server's own files go to the log, since they name its paths."""
    if isinstance(error, RequestError):
        return Problem(code=error.code, message=error.cause, cure=error.cure, request_id=request_id)
    if isinstance(error, UsageError):
        return Problem(code="does_not_fit", message=error.cause, cure=error.cure, request_id=request_id)
    log.error("%s", error, extra={"request_id": request_id})
    if isinstance(error, StoreError):
        cause = "The vector store does not answer, or refuses."
        return Problem(code="store_fails", message=cause, cure="Try again in a while.", request_id=request_id)
    if isinstance(error, OutputError):
        cause = "The server's disk refuses to take it; nothing has changed."
        return Problem(code="disk_refuses", message=cause, cure="See the server's log.", request_id=request_id)
    return internal_problem(request_id)


def internal_problem(request_id: str) -> Problem:
    """A fault of the server, whose log has it under the request's id."""
    cause = "Something went wrong in the server."
    return Problem(
        code="internal", message=cause, cure="See the server's log for this request_id.", request_id=request_id
    )


def encode_problem(problem: Problem) -> bytes:
    """The JSON of an error."""
    return msgspec.json.encode(Failure(error=problem))


def error_headers(problem: Problem) -> dict[str, str]:
    """The headers that the response to an error has of its own."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if problem.code in _RETRY else {}
    return headers | ({"WWW-Authenticate": "Bearer"} if problem.code == "unauthorised" else {})


def respond(request: HttpRequest, error: Exception) -> Response[Failure]:
    """The response to a request that failed with `error`."""
    problem = _describe(error, context_of(request.scope).request_id)
    headers = error_headers(problem)
    if isinstance(error, HTTPException) and error.headers:
        headers |= {name: value for name, value in error.headers.items() if name.lower() == "allow"}
    return Response(
        Failure(error=problem), status_code=STATUS[problem.code], headers=headers, media_type="application/json"
    )


def _describe(error: Exception, request_id: str) -> Problem:
    if isinstance(error, MmseError):
        return to_problem(error, request_id)
    if isinstance(error, ValidationException):
        message, cure = _describe_fields(error)
        return Problem(code="invalid", message=message, cure=cure, request_id=request_id)
    if isinstance(error, UnicodeDecodeError):  # of the body: paths and queries are checked before
        return Problem(code="bad_request", message="The body is not UTF-8.", cure="Send UTF-8.", request_id=request_id)
    if isinstance(error, RecursionError):
        cause = "The body is nested too deep."
        return Problem(code="bad_request", message=cause, cure=_CURES["bad_request"], request_id=request_id)
    if isinstance(error, HTTPException) and error.status_code in _BY_STATUS:
        code = _BY_STATUS[error.status_code]
        cause = _CAUSES.get(code, f"The body is not valid JSON: {error.detail}")
        return Problem(code=code, message=cause, cure=_CURES.get(code, ""), request_id=request_id)
    log.error("a request failed", exc_info=error, extra={"request_id": request_id})
    return internal_problem(request_id)


def _describe_fields(error: ValidationException) -> tuple[str, str]:
    """Which fields are wrong and why, and the cure."""
    entries = error.extra if isinstance(error.extra, list) else []
    messages = [
        f"{entry.get('key') or 'body'}: {entry.get('message')}" for entry in entries if isinstance(entry, Mapping)
    ]
    if not messages:
        messages = [re.sub(r"Validation failed for [A-Z]+ \S+", "The request is not valid", error.detail)]
    return "; ".join(messages[:5]), _CURES["bad_request"]
