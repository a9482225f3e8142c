"""Reads replies: an answer of `mmse.schema`, or a `ServiceError` that says what went wrong."""

from __future__ import annotations

from typing import TypeVar

import httpx
import msgspec

from mmse.client.calls import Call
from mmse.core.errors import MmseError
from mmse.schema import http

T = TypeVar("T")

_MAX_SHOWN_CHARACTERS = 120
"""An error shows this much of an answer that is not mmse's."""


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a body raises that is no JSON of the form; the last where brackets by the thousand are nested."""


class ServiceError(MmseError):
    """A call that failed, with its `code` for programs.

    `code` is the server's (docs/serving.md lists them), or one of the client's own: `unreachable` (no connection, or it
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


def read_reply(call: Call[T], reply: httpx.Response | httpx.HTTPError, url: str) -> T:
    """The answer; raises `ServiceError` where there is none."""
    if isinstance(reply, httpx.HTTPError):
        raise _connection_error(reply, url) from reply
    if reply.status_code in call.answer_statuses:
        try:
            return msgspec.json.decode(reply.content, type=call.answer_type)
        except _UNREADABLE as error:
            if reply.is_success:
                raise _unreadable_error(reply, url, str(error)) from error
    raise _server_error(reply, url)


def _connection_error(error: httpx.HTTPError, url: str) -> ServiceError:
    if isinstance(error, httpx.TimeoutException):
        return ServiceError(
            f"{url} gave no answer in time ({type(error).__name__}).",
            "Try again, give the client a longer timeout_s, or look at the server's load (/metrics).",
            code="timeout",
        )
    return ServiceError(
        f"{url} cannot be reached: {error or type(error).__name__}.",
        "Is `mmse serve` running there? Check host, port and any proxy between.",
        code="unreachable",
    )


def _server_error(reply: httpx.Response, url: str) -> ServiceError:
    """The error that the server describes, or the error that the answer is not the server's."""
    try:
        problem = msgspec.json.decode(reply.content, type=http.Failure).error
    except _UNREADABLE as error:
        return _unreadable_error(reply, url, str(error))
    return ServiceError(
        problem.message, problem.cure, code=problem.code, status=reply.status_code, request_id=problem.request_id
    )


def _unreadable_error(reply: httpx.Response, url: str, reason: str) -> ServiceError:
    """The error for an answer that `mmse.schema` does not describe."""
    cure = "Does the URL lead to `mmse serve`, of a version that fits this client? A proxy between may have answered."
    if reply.has_redirect_location:
        cure = f"It redirects to {reply.headers['Location']}: give the client that address."
    return ServiceError(
        f"{url} answered {reply.status_code} with something that is not an answer of mmse ({reason}): "
        f"{reply.text[:_MAX_SHOWN_CHARACTERS]!r}.",
        cure,
        code="unreadable",
        status=reply.status_code,
        request_id=reply.headers.get("X-Request-Id", ""),
    )
