"""The gate: what is refused before any routing, and what every answer carries."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mmse.serving.config import ServeConfig
from mmse.serving.middleware import Gate, Rates


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


def ask(
    gate: Gate,
    path: str = "/v1/search",
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    body: tuple[bytes, ...] = (b"{}",),
    address: str = "10.0.0.1",
) -> Answer:
    given = {"content-type": "application/json"} if headers is None else headers
    scope = {
        "type": "http",
        "path": path,
        "method": method,
        "client": (address, 1),
        "query_string": b"q=secret",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    parts = list(body)
    answer = Answer()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message["body"]

    asyncio.run(gate(scope, receive, send))  # type: ignore[arg-type]
    return answer


async def reads_and_answers(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


async def hangs(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


def gate(app: Any = reads_and_answers, *, full: bool = False, **changed: Any) -> Gate:
    return Gate(app, ServeConfig(Path("site"), **changed), lambda: full)


def test_an_answer_carries_an_id_and_the_security_headers() -> None:
    answer = ask(gate())
    assert (answer.status, answer.body) == (200, b"done")
    assert len(answer.headers["x-request-id"]) == 16
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(("given", "kept"), [("abcd-1234", True), ("short", False), ("has space!!", False)])
def test_the_callers_own_id_is_kept_where_it_is_one(given: str, kept: bool) -> None:
    answer = ask(gate(), headers={"content-type": "application/json", "x-request-id": given})
    assert (answer.headers["x-request-id"] == given) is kept


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_that_is_not_json_is_refused(kind: str | None) -> None:
    answer = ask(gate(), headers={"content-type": kind} if kind else {})
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert "x-request-id" in answer.headers


def test_json_with_a_charset_is_json() -> None:
    assert ask(gate(), headers={"content-type": "application/json; charset=utf-8"}).status == 200


def test_too_large_a_body_is_refused_by_what_it_says_and_by_what_it_is() -> None:
    small = gate(search_bytes=10)
    said = ask(small, headers={"content-type": "application/json", "content-length": "11"}, body=(b"",))
    assert (said.status, said.code) == (413, "too_large")
    streamed = ask(small, body=(b"12345", b"123456"))
    assert (streamed.status, streamed.code) == (413, "too_large")
    assert ask(small, body=(b"12345", b"12345")).status == 200
    assert ask(small, path="/v1/items", body=(b"12345", b"123456")).status == 200  # writes may be larger


def test_a_full_lane_refuses_searches_and_nothing_else() -> None:
    answer = ask(gate(full=True))
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "overloaded", "1")
    assert ask(gate(full=True), path="/v1/items").status == 200
    assert ask(gate(full=True), path="/v1/health", method="GET").status == 200


def test_the_rate_is_each_clients_own_and_health_is_always_told() -> None:
    slow = gate(requests_per_s=1)
    assert [ask(slow).status for _ in range(3)] == [200, 200, 429]
    assert ask(slow).headers["retry-after"] == "1"
    assert ask(slow, address="10.0.0.2").status == 200
    assert ask(slow, path="/v1/health", method="GET").status == 200


def test_tokens_come_back_with_time() -> None:
    now = [0.0]
    rates = Rates(10, clock=lambda: now[0])
    assert [rates.allow("a") for _ in range(21)] == [True] * 20 + [False]
    now[0] = 0.5
    assert [rates.allow("a") for _ in range(6)] == [True] * 5 + [False]
    assert all(Rates(0).allow("a") for _ in range(10_000))


def test_addresses_are_forgotten_in_turn() -> None:
    rates = Rates(1)
    for number in range(30_000):
        rates.allow(str(number))
    assert len(rates._buckets) == 10_000


def test_a_request_that_hangs_is_ended() -> None:
    answer = ask(gate(hangs, request_timeout_s=0.02))
    assert (answer.status, answer.code) == (504, "deadline_exceeded")


def test_the_access_log_has_no_query_unless_asked(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mmse.access"):
        ask(gate())
        ask(gate(log_queries=True))
        ask(gate(access_log=False))
    without, with_it = caplog.records
    assert "secret" not in str(vars(without))
    assert vars(without)["status"] == 200
    assert vars(without)["path"] == "/v1/search"
    assert vars(with_it)["query"] == "q=secret"
