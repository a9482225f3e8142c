"""The middleware: what is refused before any routing, and what every response carries."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mmse.serving.app import wrap
from mmse.serving.config import ServeConfig
from mmse.serving.middleware.asgi import ASGIApp
from mmse.serving.middleware.limits import TokenBuckets
from mmse.serving.observability import logs


@dataclass
class Response:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


def send_request(
    app: ASGIApp,
    path: str = "/v1/search",
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    body: tuple[bytes, ...] = (b"{}",),
    address: str = "10.0.0.1",
) -> Response:
    fields = {"content-type": "application/json"} if headers is None else headers
    scope = {
        "type": "http",
        "path": path,
        "method": method,
        "client": (address, 1),
        "query_string": b"q=secret",
        "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
    }
    parts = list(body)
    answer = Response()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message["body"]

    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    return answer


async def reads_and_answers(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


async def hangs(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


def build_app(app: Any = reads_and_answers, *, full: bool = False, **settings: Any) -> ASGIApp:
    return wrap(app, ServeConfig(Path("site"), **settings), lambda: full)


def test_an_answer_carries_an_id_and_the_security_headers() -> None:
    answer = send_request(build_app())
    assert (answer.status, answer.body) == (200, b"done")
    assert len(answer.headers["x-request-id"]) == 16
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_the_id_is_that_of_log_lines_during_the_request_alone() -> None:
    ids: list[str | None] = []

    async def note_id(scope: Any, receive: Any, send: Any) -> None:
        ids.append(logs.request_id.get())
        await reads_and_answers(scope, receive, send)

    answer = send_request(build_app(note_id))
    assert ids == [answer.headers["x-request-id"]]
    assert logs.request_id.get() is None


@pytest.mark.parametrize(("request_id", "is_kept"), [("abcd-1234", True), ("short", False), ("has space!!", False)])
def test_the_callers_own_id_is_kept_where_it_is_one(request_id: str, is_kept: bool) -> None:
    answer = send_request(build_app(), headers={"content-type": "application/json", "x-request-id": request_id})
    assert (answer.headers["x-request-id"] == request_id) is is_kept


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_that_is_not_json_is_refused(kind: str | None) -> None:
    answer = send_request(build_app(), headers={"content-type": kind} if kind else {})
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert "x-request-id" in answer.headers


def test_json_with_a_charset_is_json() -> None:
    assert send_request(build_app(), headers={"content-type": "application/json; charset=utf-8"}).status == 200


def test_too_large_a_body_is_refused_by_what_it_says_and_by_what_it_is() -> None:
    small = build_app(search_bytes=10)
    declared_answer = send_request(
        small, headers={"content-type": "application/json", "content-length": "11"}, body=(b"",)
    )
    assert (declared_answer.status, declared_answer.code) == (413, "too_large")
    streamed_answer = send_request(small, body=(b"12345", b"123456"))
    assert (streamed_answer.status, streamed_answer.code) == (413, "too_large")
    assert send_request(small, body=(b"12345", b"12345")).status == 200
    assert send_request(small, path="/v1/items", body=(b"12345", b"123456")).status == 200  # writes may be larger


def test_a_full_queue_refuses_searches_and_nothing_else() -> None:
    answer = send_request(build_app(full=True))
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "overloaded", "1")
    assert send_request(build_app(full=True), path="/v1/items").status == 200
    assert send_request(build_app(full=True), path="/v1/health", method="GET").status == 200


def test_the_rate_is_each_clients_own_and_health_is_always_told() -> None:
    slow = build_app(requests_per_s=1)
    assert [send_request(slow).status for _ in range(3)] == [200, 200, 429]
    assert send_request(slow).headers["retry-after"] == "1"
    assert send_request(slow, address="10.0.0.2").status == 200
    assert send_request(slow, path="/v1/health", method="GET").status == 200


def test_tokens_come_back_with_time() -> None:
    times = [0.0]
    buckets = TokenBuckets(10, clock=lambda: times[0])
    assert [buckets.allow("a") for _ in range(21)] == [True] * 20 + [False]
    times[0] = 0.5
    assert [buckets.allow("a") for _ in range(6)] == [True] * 5 + [False]
    assert all(TokenBuckets(0).allow("a") for _ in range(10_000))


def test_addresses_are_forgotten_in_turn() -> None:
    buckets = TokenBuckets(1)
    for number in range(30_000):
        buckets.allow(str(number))
    assert len(buckets._buckets) == 10_000


def test_a_request_that_hangs_is_ended() -> None:
    answer = send_request(build_app(hangs, request_timeout_s=0.02))
    assert (answer.status, answer.code) == (504, "deadline_exceeded")


def test_the_access_log_has_no_query_unless_asked(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mmse.access"):
        send_request(build_app())
        send_request(build_app(log_queries=True))
        send_request(build_app(access_log=False))
    plain_record, query_record = caplog.records
    assert "secret" not in str(vars(plain_record))
    assert vars(plain_record)["status"] == 200
    assert vars(plain_record)["path"] == "/v1/search"
    assert vars(query_record)["query"] == "q=secret"
