"""The client against a server of canned answers, which are made from the structs of the real server."""

import asyncio
import datetime
import inspect
import pickle
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
import pytest

from mmse.client import AsyncClient, Client, ServiceError, calls
from mmse.client.replies import read_reply
from mmse.client.retries import Attempts, RetryPolicy, retry_after_s
from mmse.core.errors import MmseError, UsageError
from mmse.schema import http, http_admin, http_events

URL = "http://shop.test"
ANSWER = http.SearchAnswer(
    request_id="r1",
    version="v1",
    arm="live",
    catalogue=3,
    query="drill",
    no_good_match=False,
    redirect_url=None,
    rules=(),
    facets=[],
    took_ms=1.5,
    hits=[
        http.SearchHit(
            rank=1,
            item_id="i1",
            title="Cordless drill",
            score=0.8,
            probability=0.3,
            moved_by=(),
            item={"price": 99.0},
            explanation=http.Explanation(parts={"text": 0.8}, matched=("drill",), reason="has drill"),
        )
    ],
)
VECTORS = http.EmbedAnswer(request_id="r1", version="v1", dimensions=2, vectors=[[0.5, 0.5]])
EDIT_ANSWER = http_admin.EditAnswer(request_id="r1", applied=1, version="v1", catalogue=4)
ITEM = http_admin.ItemAnswer(version="v1", catalogue=3, item={"item_id": "i1", "title": "Cordless drill"})
VERSIONS = http_admin.VersionsAnswer(live="v1", served=[], problem=None)
BRAND = http.FilterColumn(name="brand", kind="name")
SUGGESTIONS = http.SuggestAnswer(version="v1", suggestions=[http.SuggestedText(text="drill", source="query")])
CATALOGUE = http.CatalogueAnswer(version="v1", items=3, columns=[BRAND], examples=["a"])
EXPERIMENTS = http_admin.ExperimentsAnswer(
    experiments=[
        http_admin.ExperimentStatus(
            name="try",
            layer="search",
            unit="user",
            traffic=0.5,
            since="2026-11-26T10:00:00Z",
            note="",
            arms=[http_admin.ArmStatus(name="control", weight=1.0, settings={})],
        )
    ],
    holdout=0.0,
    problem=None,
)
ASSIGNMENTS = http_admin.AssignmentsAnswer(request_id="r1", assignments=[{"try": "control"}])
MAP = http.MapAnswer(
    version="v1",
    item_id=["i1"],
    title=["Drill"],
    x=[0.1],
    y=[0.2],
    category=[0],
    categories=["Tools"],
    regions=[http.MapRegion(name="Tools", x=0.1, y=0.2, weight=1, level=0)],
)
MAP_POINT = http.MapPoint(version="v1", query="drill", x=0.1, y=0.2, spread=0.3, share=0.9)
CLICK = http_events.Click(request_id="r1", item_id="i1")
READY = http.Health(live=True, ready=True, version="v1", problems=[])
BATCH = http.BatchAnswer(
    request_id="r1",
    outcomes=[
        http.BatchOutcome(answer=ANSWER),
        http.BatchOutcome(error=http.Problem(code="does_not_fit", message="m", cure="c", request_id="r1")),
    ],
)

Reply = httpx.Response | Exception


def reply_with(answer: msgspec.Struct, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, content=msgspec.json.encode(answer), headers=headers)


def refusal(code: str, status: int, **headers: str) -> httpx.Response:
    problem = http.Problem(code=code, message="Too much.", cure="Wait.", request_id="r9")
    return reply_with(http.Failure(error=problem), status, **headers)


@dataclass
class Shop:
    """Gives `replies` in turn, then the last one again and again, and records the requests."""

    replies: Sequence[Reply]
    requests: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        reply = self.replies[min(len(self.requests), len(self.replies) - 1)]
        self.requests.append(request)
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)


Ask = Callable[..., Any]


def ask_sync(shop: Shop, method: str, *args: Any, client: dict[str, Any], **fields: Any) -> Any:
    with Client(URL, transport=httpx.MockTransport(shop), **client) as caller:
        return getattr(caller, method)(*args, **fields)


def ask_async(shop: Shop, method: str, *args: Any, client: dict[str, Any], **fields: Any) -> Any:
    async def ask() -> Any:
        async with AsyncClient(URL, transport=httpx.MockTransport(shop), **client) as caller:
            return await getattr(caller, method)(*args, **fields)

    return asyncio.run(ask())


@pytest.fixture(params=[ask_sync, ask_async], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    ask_shop: Ask = request.param

    def make_ask(*replies: Reply, **client: Any) -> Ask:
        shop = Shop(replies)

        def call(method: str, *args: Any, **fields: Any) -> tuple[Any, Shop]:
            return ask_shop(shop, method, *args, client=client, **fields), shop

        call.shop = shop  # type: ignore[attr-defined]
        return call

    return make_ask


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.time_s = 1_000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time_s += seconds

    async def async_sleep(self, seconds: float) -> None:
        self.sleep(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("mmse.client.retries.time", clock)
    monkeypatch.setattr("mmse.client.clients.time", clock)
    monkeypatch.setattr("mmse.client.clients.pause", clock.async_sleep)
    return clock


EVERY_CALL = [
    ("search", ("drill",), {"k": 3}, ANSWER, "POST", "/v1/search"),
    ("batch", (["drill", {"query": "saw", "k": 2}],), {}, BATCH, "POST", "/v1/search/batch"),
    ("embed", (["drill"],), {"user_id": "u"}, VECTORS, "POST", "/v1/embed"),
    ("edit_items", (), {"delete": ["i1"]}, EDIT_ANSWER, "POST", "/v1/items"),
    ("put_item", ("i1", {"title": "Drill"}), {}, EDIT_ANSWER, "PUT", "/v1/items/i1"),
    ("change_item", ("i1", {"price": 9.5}), {}, EDIT_ANSWER, "PATCH", "/v1/items/i1"),
    ("delete_item", ("i1",), {}, EDIT_ANSWER, "DELETE", "/v1/items/i1"),
    ("item", ("i1",), {}, ITEM, "GET", "/v1/items/i1"),
    ("send_events", ([CLICK],), {}, http_events.EventsAnswer(request_id="r1", accepted=1), "POST", "/v1/events"),
    ("versions", (), {}, VERSIONS, "GET", "/v1/versions"),
    ("set_live", ("v2",), {"note": "n"}, VERSIONS, "POST", "/v1/versions/live"),
    ("experiments", (), {}, EXPERIMENTS, "GET", "/v1/experiments"),
    ("assignments", ([{"user_id": "u1"}],), {}, ASSIGNMENTS, "POST", "/v1/assignments"),
    ("suggest", ("dri",), {}, SUGGESTIONS, "GET", "/v1/suggest"),
    ("catalogue", (), {}, CATALOGUE, "GET", "/v1/catalogue"),
    ("item_map", (), {}, MAP, "GET", "/v1/map"),
    ("map_place", ("drill",), {}, MAP_POINT, "GET", "/v1/map/place"),
    ("health", (), {}, READY, "GET", "/v1/health"),
]


@pytest.mark.parametrize(("method", "args", "fields", "answer", "verb", "path"), EVERY_CALL, ids=lambda v: str(v)[:12])
def test_every_call_goes_to_its_route_and_returns_its_struct(
    ask: Ask, method: str, args: Any, fields: Any, answer: msgspec.Struct, verb: str, path: str
) -> None:
    result, shop = ask(reply_with(answer))(method, *args, **fields)
    assert result == answer
    (request,) = shop.requests
    assert (request.method, request.url.path) == (verb, path)
    assert ("Content-Type" in request.headers) == bool(request.content)


def test_both_clients_have_all_calls() -> None:
    names = {
        name
        for name, value in vars(calls).items()
        if inspect.isfunction(value) and value.__module__ == calls.__name__ and not name.startswith("_")
    }
    assert names == {row[0] for row in EVERY_CALL}
    for kind in (Client, AsyncClient):
        assert names <= set(vars(kind)), kind


def test_the_typed_fields_are_those_of_a_search() -> None:
    fields = set(typing.get_type_hints(calls.SearchFields))
    assert fields | {"query", "k"} == set(http.SearchRequest.__struct_fields__)


def test_a_search_sends_what_the_server_reads(ask: Ask) -> None:
    _, shop = ask(reply_with(ANSWER))(
        "search", "drill", filter={"price": {"to": 100}}, caps={"brand": 2}, history=("a", "b")
    )
    request = msgspec.json.decode(shop.requests[0].content, type=http.SearchRequest)
    assert request == http.SearchRequest(
        query="drill", filter={"price": {"to": 100}}, caps={"brand": 2}, history=["a", "b"]
    )


def test_edits_are_what_the_server_reads(ask: Ask) -> None:
    _, shop = ask(reply_with(EDIT_ANSWER))(
        "edit_items", upsert=[{"item_id": "i1", "title": "Drill"}], change={"i2": {"price": 5}}, delete=["i3"]
    )
    request = msgspec.json.decode(shop.requests[0].content, type=http_admin.ItemEdits)
    assert request == http_admin.ItemEdits(
        upsert=[{"item_id": "i1", "title": "Drill"}],
        change=[http_admin.ItemValues(item_id="i2", values={"price": 5})],
        delete=["i3"],
    )


def test_events_are_what_the_server_reads(ask: Ask) -> None:
    events = [
        http_events.Exposure(request_id="r", query="drill", items=["a", "b"]),
        http_events.Click(request_id="r", item_id="a", position=1),
        http_events.Order(request_id="r", item_id="a", price=9.5),
    ]
    _, shop = ask(reply_with(http_events.EventsAnswer(request_id="r", accepted=3), 202))("send_events", events)
    assert msgspec.json.decode(shop.requests[0].content, type=http_events.EventBatch).events == events


@pytest.mark.parametrize("item_id", ["a/b", "50% off?", "ü #1", "x y", "a\\b", "a&b=c"])
def test_an_item_id_is_one_segment_of_the_path(ask: Ask, item_id: str) -> None:
    _, shop = ask(reply_with(ITEM))("item", item_id)
    raw = shop.requests[0].url.raw_path
    assert raw.count(b"/") == 3
    assert shop.requests[0].url.path == f"/v1/items/{item_id}"
    assert shop.requests[0].url.query == b""


def test_a_path_before_the_routes_is_kept() -> None:
    shop = Shop([reply_with(READY)])
    with Client(f"{URL}/search-api/", transport=httpx.MockTransport(shop)) as caller:
        caller.health()
    assert shop.requests[0].url.path == "/search-api/v1/health"


def test_an_answer_may_gain_fields(ask: Ask) -> None:
    content = {**msgspec.to_builtins(ANSWER), "from_the_future": 1}
    assert ask(httpx.Response(200, json=content))("search", "drill")[0] == ANSWER


def test_the_token_is_sent(ask: Ask) -> None:
    _, shop = ask(reply_with(EDIT_ANSWER), token="secret-of-the-shop\n")("delete_item", "i1")
    assert shop.requests[0].headers["Authorization"] == "Bearer secret-of-the-shop"
    _, shop = ask(reply_with(EDIT_ANSWER))("delete_item", "i1")
    assert "Authorization" not in shop.requests[0].headers


def test_bad_health_is_an_answer(ask: Ask) -> None:
    bad = http.Health(live=True, ready=False, version=None, problems=["no version"])
    answer, shop = ask(reply_with(bad, 503))("health")
    assert answer == bad
    assert len(shop.requests) == 1
    with pytest.raises(ServiceError) as error_info:
        ask(refusal("not_ready", 503))("health")
    assert error_info.value.code == "not_ready"


def test_an_error_has_code_cause_cure_status_and_request(ask: Ask) -> None:
    with pytest.raises(ServiceError) as error_info:
        ask(refusal("does_not_fit", 422))("search", "drill")
    error = error_info.value
    assert (error.code, error.cause, error.cure) == ("does_not_fit", "Too much.", "Wait.")
    assert (error.status, error.request_id) == (422, "r9")
    assert isinstance(error, MmseError)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code, copy.status, str(copy)) == (error.code, error.status, str(error))


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(502, text="<html>Bad gateway</html>", headers={"X-Request-Id": "p1"}),
        httpx.Response(200, text="<html>Welcome</html>", headers={"X-Request-Id": "p1"}),
        httpx.Response(200, json={"hits": []}, headers={"X-Request-Id": "p1"}),
        httpx.Response(500, content=b"\xff\x00", headers={"X-Request-Id": "p1"}),
        httpx.Response(404, json={"detail": "Not Found"}, headers={"X-Request-Id": "p1"}),
    ],
    ids=["proxy", "page", "shape", "bytes", "other"],
)
def test_an_answer_that_is_not_the_servers(ask: Ask, reply: httpx.Response) -> None:
    with pytest.raises(ServiceError, match="not an answer of mmse") as error_info:
        ask(reply)("search", "drill")
    assert (error_info.value.code, error_info.value.status, error_info.value.request_id) == (
        "unreadable",
        reply.status_code,
        "p1",
    )


def test_a_redirect_names_the_address(ask: Ask) -> None:
    redirect = httpx.Response(301, headers={"Location": "https://shop.test/v1/search"})
    with pytest.raises(ServiceError) as error_info:
        ask(redirect)("search", "drill")
    assert "https://shop.test/v1/search" in error_info.value.cure


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (httpx.ConnectError("Connection refused"), "unreachable"),
        (httpx.RemoteProtocolError("closed"), "unreachable"),
        (httpx.ReadTimeout("late"), "timeout"),
        (httpx.ConnectTimeout("late"), "timeout"),
    ],
)
def test_no_answer_at_all(ask: Ask, error: Exception, code: str) -> None:
    with pytest.raises(ServiceError) as error_info:
        ask(error, retries=0)("search", "drill")
    assert (error_info.value.code, error_info.value.status, error_info.value.request_id) == (code, None, "")
    assert URL in error_info.value.cause


def test_a_refused_connection_for_real(unused_port: int) -> None:
    with Client(f"http://127.0.0.1:{unused_port}", retries=0) as caller, pytest.raises(ServiceError) as error_info:
        caller.health()
    assert error_info.value.code == "unreachable"


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    "reply", [refusal("overloaded", 503, **{"Retry-After": "1"}), refusal("rate_limited", 429, **{"Retry-After": "1"})]
)
def test_a_refused_search_is_tried_again_after_the_time_that_the_server_names(
    ask: Ask, clock: Clock, reply: httpx.Response
) -> None:
    answer, shop = ask(reply, reply_with(ANSWER))("search", "drill")
    assert answer == ANSWER
    assert len(shop.requests) == 2
    assert clock.pauses == [1.0]


def test_retries_have_a_limit(ask: Ask, clock: Clock) -> None:
    call = ask(refusal("overloaded", 503, **{"Retry-After": "1"}), retries=2)
    with pytest.raises(ServiceError) as error_info:
        call("search", "drill")
    assert error_info.value.code == "overloaded"
    assert len(call.shop.requests) == 3
    assert clock.pauses == [1.0, 1.0]


def test_no_pause_goes_past_the_deadline(ask: Ask, clock: Clock) -> None:
    call = ask(refusal("overloaded", 503, **{"Retry-After": "2"}), retries=9, timeout_s=5.0)
    with pytest.raises(ServiceError):
        call("search", "drill")
    assert clock.pauses == [2.0, 2.0]


def test_each_attempt_has_the_remaining_time(ask: Ask, clock: Clock) -> None:
    _, shop = ask(refusal("overloaded", 503, **{"Retry-After": "2"}), reply_with(ANSWER), timeout_s=5.0)(
        "search", "drill"
    )
    assert [request.extensions["timeout"]["read"] for request in shop.requests] == [5.0, 3.0]
    assert clock.pauses == [2.0]


def test_pauses_grow_where_the_server_names_none(ask: Ask, clock: Clock) -> None:
    call = ask(httpx.ConnectError("refused"), retries=3, timeout_s=60.0)
    with pytest.raises(ServiceError):
        call("search", "drill")
    assert len(clock.pauses) == 3
    for pause, longest in zip(clock.pauses, (0.1, 0.2, 0.4), strict=True):
        assert longest / 2 <= pause <= longest


@pytest.mark.parametrize(
    ("method", "args"), [("send_events", ([CLICK],)), ("delete_item", ("i1",)), ("set_live", ("v2",))]
)
def test_what_would_count_twice_is_sent_once(ask: Ask, clock: Clock, method: str, args: Any) -> None:
    call = ask(refusal("overloaded", 503, **{"Retry-After": "1"}))
    with pytest.raises(ServiceError):
        call(method, *args)
    assert len(call.shop.requests) == 1
    assert clock.pauses == []


@pytest.mark.parametrize("reply", [refusal("deadline_exceeded", 504), refusal("internal", 500), httpx.ReadTimeout("l")])
def test_what_would_fail_again_is_sent_once(ask: Ask, clock: Clock, reply: Reply) -> None:
    call = ask(reply)
    with pytest.raises(ServiceError):
        call("search", "drill")
    assert len(call.shop.requests) == 1


def test_retry_after_is_seconds_or_a_date() -> None:
    def parse(value: str) -> float | None:
        return retry_after_s(httpx.Response(503, headers={"Retry-After": value}))

    assert parse("7") == 7.0
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)
    assert parse(moment.strftime("%a, %d %b %Y %H:%M:%S GMT")) == pytest.approx(30, abs=2)
    assert parse("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert parse("soon") is None
    assert parse("-3") is None
    assert retry_after_s(httpx.Response(503)) is None


def test_the_remaining_time_is_never_zero(clock: Clock) -> None:
    attempts = Attempts(RetryPolicy(timeout_s=1.0, retries=0))
    clock.time_s += 5
    assert attempts.remaining_s() == 0.001


@pytest.mark.parametrize(
    ("method", "args", "fields", "word"),
    [
        ("search", ("",), {}, "query"),
        ("search", ("drill",), {"k": 0}, "k"),
        ("search", ("drill",), {"kk": 3}, "kk"),
        ("search", ("drill",), {"channel": "telepathy"}, "telepathy"),
        ("search", ("drill",), {"filter": {"price": object()}}, "object"),
        ("batch", ([],), {}, "length"),
        ("embed", ([],), {}, "length"),
        ("set_live", ("a b",), {}, "version"),
    ],
)
def test_what_the_server_would_refuse_is_not_sent(ask: Ask, method: str, args: Any, fields: Any, word: str) -> None:
    call = ask(reply_with(ANSWER))
    with pytest.raises(UsageError, match=word):
        call(method, *args, **fields)
    assert call.shop.requests == []


def test_a_password_in_the_url_is_not_shown() -> None:
    shop = Shop([httpx.ConnectError("refused")])
    caller = Client("http://me:hush@shop.test/api", retries=0, transport=httpx.MockTransport(shop))
    with caller, pytest.raises(ServiceError, match=r"http://shop\.test/api/ cannot") as error_info:
        caller.health()
    assert "hush" not in str(error_info.value)


@pytest.mark.parametrize("content", [b"[" * 10_000, b'{"request_id": "' + b"[" * 10_000, b'{"request_id": "\xff"}'])
@pytest.mark.parametrize("status", [200, 500])
def test_what_is_no_json_of_a_server_is_said(content: bytes, status: int) -> None:
    with pytest.raises(ServiceError):
        read_reply(calls.search("a"), httpx.Response(status, content=content), URL)


@pytest.mark.parametrize("url", ["localhost:8000", "shop.test", "ftp://shop.test", "http://", "http://shop:door"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_invalid_url(kind: type[Client] | type[AsyncClient], url: str) -> None:
    with pytest.raises(UsageError, match="URL"):
        kind(url)


@pytest.mark.parametrize(
    "settings", [{"timeout_s": 0.0}, {"timeout_s": -1.0}, {"timeout_s": float("nan")}, {"retries": -1}]
)
def test_invalid_settings(settings: Any) -> None:
    with pytest.raises(UsageError):
        Client(URL, **settings)


def test_importing_it_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, mmse.client; print([m for m in ('torch', 'duckdb', 'faiss', 'litestar') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
