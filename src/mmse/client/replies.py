"""What came back: an answer of `mmse.schema.http`, or `ServiceError` that says what went wrong."""

from __future__ import annotations

from typing import TypeVar

import httpx
import msgspec

from mmse.client.calls import Call
from mmse.core.errors import MmseError
from mmse.schema import http as api

T = TypeVar("T")

_SHOWN = 120
"""So many characters of a foreign answer are shown in an error."""


class ServiceError(MmseError):
    """A call that failed, with its `code` for programs.

    `code` is the server's (docs/serving.md has them), or one of the client's own: `unreachable` (no connection, or it
    broke), `timeout` (no answer in time), `unreadable` (the answer is not of `mmse serve`: a proxy's, say). `status` is
    the HTTP status, None where no answer came; `request_id` finds the call in the server's log.
    """

    exit_code = 1

    def __init__(
        self, cause: str, cure: str, *, code: str = "unreadable", status: int | None = None, request_id: str = ""
    ) -> None:
        super().__init__(cause, cure)
        self.code = code
        self.status = status
        self.request_id = request_id


def answer(call: Call[T], reply: httpx.Response | httpx.HTTPError, url: str) -> T:
    """What was answered, or what went wrong as `ServiceError`."""
    if isinstance(reply, httpx.HTTPError):
        raise _no_answer(reply, url) from reply
    if reply.status_code in call.answered_by:
        try:
            return msgspec.json.decode(reply.content, type=call.answer)
        except msgspec.DecodeError as error:
            if reply.is_success:
                raise _unreadable(reply, url, str(error)) from error
    raise _failure(reply, url)


def _no_answer(error: httpx.HTTPError, url: str) -> ServiceError:
    if isinstance(error, httpx.TimeoutException):
        return ServiceError(
            f"{url} gave no answer in time ({type(error).__name__}).",
            "Try again, give the client a longer timeout_s, or look at the server's load (/metrics).",
            code="timeout",
        )
    return ServiceError(
        f"{url} cannot be reached: {error or type(error).__name__}.",
        "Is `mmse serve` running there? Check host, port and whatever stands between.",
        code="unreachable",
    )


def _failure(reply: httpx.Response, url: str) -> ServiceError:
    """The failure that the server describes, or that the answer is none of its."""
    try:
        problem = msgspec.json.decode(reply.content, type=api.Failure).error
    except msgspec.DecodeError as error:
        return _unreadable(reply, url, str(error))
    return ServiceError(
        problem.message, problem.cure, code=problem.code, status=reply.status_code, request_id=problem.request_id
    )


def _unreadable(reply: httpx.Response, url: str, why: str) -> ServiceError:
    """The error for an answer that is not in the words of `mmse.schema.http`."""
    cure = (
        "Does the URL lead to `mmse serve`, of a version that fits this client? What stands between may have answered."
    )
    if reply.has_redirect_location:
        cure = f"It sends the caller on to {reply.headers['Location']}: give the client that address."
    return ServiceError(
        f"{url} answered {reply.status_code} with something that is no answer of mmse ({why}): "
        f"{reply.text[:_SHOWN]!r}.",
        cure,
        code="unreadable",
        status=reply.status_code,
        request_id=reply.headers.get("X-Request-Id", ""),
    )
