"""The middleware: what is refused before any routing, and what every response carries."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from mmse.core.errors import UsageError
from mmse.serving.app import wrap
from mmse.serving.config import ServeConfig
from mmse.serving.middleware.addresses import ClientAddresses
from mmse.serving.middleware.asgi import ASGIApp
from mmse.serving.middleware.rates import RequestRates, create_table
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
    scope = make_scope(path, method, headers, address)
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


def make_scope(
    raw_path: str, method: str, headers: Mapping[str, str] | None = None, address: str = "10.0.0.1"
) -> dict[str, Any]:
    """What the web server hands on: the path decoded, and as it was sent."""
    fields = {"content-type": "application/json"} if headers is None else headers
    return {
        "type": "http",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "method": method,
        "client": (address, 1),
        "query_string": b"q=secret",
        "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
    }


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


def test_what_is_due_comes_back_with_time() -> None:
    times = [100.0]
    rates = RequestRates(10, clock=lambda: times[0])
    assert [rates.allow("a") for _ in range(21)] == [True] * 20 + [False]
    times[0] = 100.5
    assert [rates.allow("a") for _ in range(6)] == [True] * 5 + [False]
    assert all(RequestRates(0).allow("a") for _ in range(10_000))


def test_workers_share_the_rate_of_an_address(tmp_path: Path) -> None:
    create_table(tmp_path)
    workers = [RequestRates.open(10, tmp_path) for _ in range(4)]
    assert sum(workers[number % 4].allow("a") for number in range(100)) == 20
    assert workers[0].allow("b")


def test_the_many_leave_room_for_the_one() -> None:
    rates = RequestRates(1, key=b"fixed", clock=lambda: 100.0)
    for number in range(20_000):
        rates.allow(str(number))
        rates.allow(str(number))
    assert sum(rates.allow(f"new {number}") for number in range(1_000)) > 900


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


@pytest.mark.parametrize(
    ("path", "body_bytes", "status"),
    [("/v1/items", 20, 200), ("/v1/events", 20, 200), ("/v1/assignments", 20, 413), ("/v1/versions/live", 20, 413)],
)
def test_only_edits_and_events_may_be_large(path: str, body_bytes: int, status: int) -> None:
    assert send_request(build_app(search_bytes=10), path=path, body=(b"x" * body_bytes,)).status == status


@dataclass
class Hangup:
    """A client that sends half a body and goes."""

    messages: list[dict[str, Any]]

    async def __call__(self) -> dict[str, Any]:
        return self.messages.pop(0)


@pytest.mark.parametrize("first_part", [[], [{"type": "http.request", "body": b"{", "more_body": True}]])
def test_a_body_that_breaks_off_is_the_clients_fault(first_part: list[dict[str, Any]]) -> None:
    statuses: list[int] = []

    async def send(message: dict[str, Any]) -> None:
        statuses.append(message.get("status", 0))

    scope = make_scope("/v1/search", "POST")
    asyncio.run(build_app()(scope, Hangup([*first_part, {"type": "http.disconnect"}]), send))  # type: ignore[arg-type]
    assert statuses[0] == 400


@pytest.mark.parametrize("raw_path", ["/%FF", "/%00", "/v1/items/a%00b", "/v1/items/%C3%28"])
def test_a_path_that_is_no_text_is_refused(raw_path: str) -> None:
    answer = send_request(build_app(), path=raw_path, method="GET")
    assert (answer.status, answer.code) == (400, "bad_request")


@pytest.mark.parametrize(
    ("raw_path", "path"),
    [
        ("/v1/items/u%2F", "/v1/items/u%2F"),
        ("/v1/items/u/", "/v1/items/u%2F"),
        ("/v1/items/s//t", "/v1/items/s%2F%2Ft"),
        ("/v1/items/%2E%2E", "/v1/items/.."),
        ("/v1/items/100%25", "/v1/items/100%25"),
        ("/v1/items/%F0%9F%98%80", "/v1/items/%F0%9F%98%80"),
        ("/v1/items/", "/v1/items/"),
    ],
)
def test_an_item_id_is_handed_on_as_one_part(raw_path: str, path: str) -> None:
    paths: list[str] = []

    async def note_path(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await reads_and_answers(scope, receive, send)

    assert send_request(build_app(note_path), path=raw_path, method="GET").status == 200
    assert paths == [path]


@pytest.mark.parametrize("raw_path", ["//v1/items/u%2F", "/v1/%69tems/u%2F", "/v1/items%2Fu", "/v1//items/u"])
def test_a_path_in_which_an_id_cannot_be_told_is_refused(raw_path: str) -> None:
    assert send_request(build_app(), path=raw_path, method="DELETE").code == "not_found"


def test_head_is_get_without_a_body() -> None:
    methods: list[str] = []

    async def note_method(scope: Any, receive: Any, send: Any) -> None:
        methods.append(scope["method"])
        await reads_and_answers(scope, receive, send)

    answer = send_request(build_app(note_method), path="/v1/health", method="HEAD")
    assert (answer.status, answer.body, methods) == (200, b"", ["GET"])


def test_no_cache_may_keep_an_answer_of_the_api() -> None:
    assert send_request(build_app()).headers["cache-control"] == "private, no-store"
    assert "cache-control" not in send_request(build_app(), path="/main.js", method="GET").headers


def test_pages_of_other_origins_may_search_where_an_option_says_so() -> None:
    shop = {"origin": "https://shop.example"}
    preflight = shop | {"access-control-request-method": "POST"}
    json_body = {"content-type": "application/json"}
    open_app = build_app(cors_origins=("https://shop.example",))
    answer = send_request(open_app, method="OPTIONS", headers=preflight)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, "https://shop.example")
    assert "Authorization" not in answer.headers["access-control-allow-headers"]
    answer = send_request(open_app, headers=shop | json_body)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://shop.example")
    stranger = send_request(open_app, headers={"origin": "https://evil.example"} | json_body)
    assert "access-control-allow-origin" not in stranger.headers
    assert stranger.headers["vary"] == "Origin"
    assert send_request(build_app(cors_origins=("*",)), headers=shop | json_body).headers[
        "access-control-allow-origin"
    ] == ("*")
    assert "access-control-allow-origin" not in send_request(build_app(), headers=shop | json_body).headers


def test_the_rate_is_that_of_the_client_behind_a_proxy() -> None:
    app = build_app(requests_per_s=1, proxies=("10.0.0.0/24",))

    def send_from(forwarded: str, address: str = "10.0.0.1") -> int:
        return send_request(
            app, headers={"content-type": "application/json", "x-forwarded-for": forwarded}, address=address
        ).status

    assert [send_from("1.1.1.1") for _ in range(3)] == [200, 200, 429]
    assert send_from("2.2.2.2") == 200
    assert send_from("9.9.9.9, 1.1.1.1, 10.0.0.9") == 429  # what the client wrote itself does not count
    strangers = [send_from(f"3.3.3.{n}", address="8.8.8.8") for n in range(3)]  # no proxy of ours
    assert strangers == [200, 200, 429]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("::ffff:10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.2"),
        ("", "1.1.1.1", ""),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(peer: str, forwarded: str, client: str) -> None:
    assert ClientAddresses(["10.0.0.0/8"]).find(peer, {b"x-forwarded-for": forwarded.encode()}) == client


def test_a_proxy_that_is_no_address_is_refused() -> None:
    with pytest.raises(UsageError, match="no address or network"):
        build_app(proxies=("my-proxy",))
