"""The client against a server of canned answers, made from the structs that the real one answers with."""

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
from mmse.client.retries import Patience, Tries, retry_after_s
from mmse.core.errors import MmseError, UsageError
from mmse.schema import http as api

URL = "http://shop.test"
ANSWER = api.SearchAnswer(
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
        api.FoundItem(
            rank=1,
            item_id="i1",
            title="Cordless drill",
            score=0.8,
            probability=0.3,
            moved_by=(),
            item={"price": 99.0},
            explanation=api.Explanation(parts={"text": 0.8}, matched=("drill",), reason="has drill"),
        )
    ],
)
VECTORS = api.Vectors(request_id="r1", version="v1", dimensions=2, vectors=[[0.5, 0.5]])
EDITED = api.Edited(request_id="r1", applied=1, version="v1", catalogue=4)
ITEM = api.Item(version="v1", catalogue=3, item={"item_id": "i1", "title": "Cordless drill"})
VERSIONS = api.Versions(live="v1", served=[], problem=None)
CATALOGUE = api.CatalogueAnswer(version="v1", items=3, columns=[api.Column(name="brand", kind="name")], examples=["a"])
EXPERIMENTS = api.ExperimentsAnswer(
    experiments=[
        api.ExperimentSaid(
            name="try",
            layer="search",
            unit="user",
            traffic=0.5,
            since="2026-11-26T10:00:00Z",
            note="",
            arms=[api.ArmSaid(name="control", weight=1.0, settings={})],
        )
    ],
    holdout=0.0,
    problem=None,
)
ASSIGNMENTS = api.AssignmentsAnswer(request_id="r1", assignments=[{"try": "control"}])
MAP = api.MapAnswer(
    version="v1",
    item_id=["i1"],
    title=["Drill"],
    x=[0.1],
    y=[0.2],
    category=[0],
    categories=["Tools"],
    regions=[api.Region(name="Tools", x=0.1, y=0.2, weight=1, level=0)],
)
PLACE = api.MapPlace(version="v1", query="drill", x=0.1, y=0.2, spread=0.3, share=0.9)
READY = api.Health(live=True, ready=True, version="v1", problems=[])
BATCH = api.BatchAnswer(
    request_id="r1",
    outcomes=[
        api.Outcome(answer=ANSWER),
        api.Outcome(error=api.Problem(code="does_not_fit", message="m", cure="c", request_id="r1")),
    ],
)

Reply = httpx.Response | Exception


def said(answer: msgspec.Struct, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, content=msgspec.json.encode(answer), headers=headers)


def refusal(code: str, status: int, **headers: str) -> httpx.Response:
    problem = api.Problem(code=code, message="Too much.", cure="Wait.", request_id="r9")
    return said(api.Failure(error=problem), status, **headers)


@dataclass
class Shop:
    """Gives `replies` in turn, the last one for ever, and keeps what was asked."""

    replies: Sequence[Reply]
    asked: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        reply = self.replies[min(len(self.asked), len(self.replies) - 1)]
        self.asked.append(request)
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
    way: Ask = request.param

    def asked(*replies: Reply, **client: Any) -> Ask:
        shop = Shop(replies)

        def call(method: str, *args: Any, **fields: Any) -> tuple[Any, Shop]:
            return way(shop, method, *args, client=client, **fields), shop

        call.shop = shop  # type: ignore[attr-defined]
        return call

    return asked


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

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
    ("edit_items", (), {"delete": ["i1"]}, EDITED, "POST", "/v1/items"),
    ("put_item", ("i1", {"title": "Drill"}), {}, EDITED, "PUT", "/v1/items/i1"),
    ("change_item", ("i1", {"price": 9.5}), {}, EDITED, "PATCH", "/v1/items/i1"),
    ("delete_item", ("i1",), {}, EDITED, "DELETE", "/v1/items/i1"),
    ("item", ("i1",), {}, ITEM, "GET", "/v1/items/i1"),
    (
        "send_events",
        ([api.Click(request_id="r1", item_id="i1")],),
        {},
        api.Accepted(request_id="r1", accepted=1),
        "POST",
        "/v1/events",
    ),
    ("versions", (), {}, VERSIONS, "GET", "/v1/versions"),
    ("set_live", ("v2",), {"note": "n"}, VERSIONS, "POST", "/v1/versions/live"),
    ("experiments", (), {}, EXPERIMENTS, "GET", "/v1/experiments"),
    ("assignments", ([{"user_id": "u1"}],), {}, ASSIGNMENTS, "POST", "/v1/assignments"),
    ("catalogue", (), {}, CATALOGUE, "GET", "/v1/catalogue"),
    ("item_map", (), {}, MAP, "GET", "/v1/map"),
    ("map_place", ("drill",), {}, PLACE, "GET", "/v1/map/place"),
    ("health", (), {}, READY, "GET", "/v1/health"),
]


@pytest.mark.parametrize(("method", "args", "fields", "answer", "verb", "path"), EVERY_CALL, ids=lambda v: str(v)[:12])
def test_every_call_goes_to_its_route_and_comes_back_typed(
    ask: Ask, method: str, args: Any, fields: Any, answer: msgspec.Struct, verb: str, path: str
) -> None:
    got, shop = ask(said(answer))(method, *args, **fields)
    assert got == answer
    (request,) = shop.asked
    assert (request.method, request.url.path) == (verb, path)
    assert ("Content-Type" in request.headers) == bool(request.content)


def test_both_clients_can_do_all_calls() -> None:
    made = {
        name
        for name, value in vars(calls).items()
        if inspect.isfunction(value) and value.__module__ == calls.__name__ and not name.startswith("_")
    }
    assert made == {row[0] for row in EVERY_CALL}
    for kind in (Client, AsyncClient):
        assert made <= set(vars(kind)), kind


def test_the_typed_fields_are_those_of_a_search() -> None:
    fields = set(typing.get_type_hints(calls.SearchFields))
    assert fields | {"query", "k"} == set(api.SearchRequest.__struct_fields__)


def test_a_search_sends_what_the_server_reads(ask: Ask) -> None:
    _, shop = ask(said(ANSWER))("search", "drill", filter={"price": {"to": 100}}, caps={"brand": 2}, history=("a", "b"))
    read = msgspec.json.decode(shop.asked[0].content, type=api.SearchRequest)
    assert read == api.SearchRequest(
        query="drill", filter={"price": {"to": 100}}, caps={"brand": 2}, history=["a", "b"]
    )


def test_edits_are_what_the_server_reads(ask: Ask) -> None:
    _, shop = ask(said(EDITED))(
        "edit_items", upsert=[{"item_id": "i1", "title": "Drill"}], change={"i2": {"price": 5}}, delete=["i3"]
    )
    read = msgspec.json.decode(shop.asked[0].content, type=api.ItemEdits)
    assert read == api.ItemEdits(
        upsert=[{"item_id": "i1", "title": "Drill"}],
        change=[api.ItemValues(item_id="i2", values={"price": 5})],
        delete=["i3"],
    )


def test_events_are_what_the_server_reads(ask: Ask) -> None:
    events = [
        api.Exposure(request_id="r", query="drill", items=["a", "b"]),
        api.Click(request_id="r", item_id="a", position=1),
        api.Order(request_id="r", item_id="a", price=9.5),
    ]
    _, shop = ask(said(api.Accepted(request_id="r", accepted=3), 202))("send_events", events)
    assert msgspec.json.decode(shop.asked[0].content, type=api.Events).events == events


@pytest.mark.parametrize("item_id", ["a/b", "50% off?", "ü #1", "x y", "a\\b", "a&b=c"])
def test_an_item_id_is_one_segment_of_the_path(ask: Ask, item_id: str) -> None:
    _, shop = ask(said(ITEM))("item", item_id)
    raw = shop.asked[0].url.raw_path
    assert raw.count(b"/") == 3
    assert shop.asked[0].url.path == f"/v1/items/{item_id}"
    assert shop.asked[0].url.query == b""


def test_a_path_before_the_routes_is_kept() -> None:
    shop = Shop([said(READY)])
    with Client(f"{URL}/search-api/", transport=httpx.MockTransport(shop)) as caller:
        caller.health()
    assert shop.asked[0].url.path == "/search-api/v1/health"


def test_an_answer_may_gain_fields(ask: Ask) -> None:
    more = {**msgspec.to_builtins(ANSWER), "from_the_future": 1}
    assert ask(httpx.Response(200, json=more))("search", "drill")[0] == ANSWER


def test_the_token_goes_along(ask: Ask) -> None:
    _, shop = ask(said(EDITED), token="secret-of-the-shop\n")("delete_item", "i1")
    assert shop.asked[0].headers["Authorization"] == "Bearer secret-of-the-shop"
    _, shop = ask(said(EDITED))("delete_item", "i1")
    assert "Authorization" not in shop.asked[0].headers


def test_health_is_an_answer_also_where_it_is_bad(ask: Ask) -> None:
    bad = api.Health(live=True, ready=False, version=None, problems=["no version"])
    got, shop = ask(said(bad, 503))("health")
    assert got == bad
    assert len(shop.asked) == 1
    with pytest.raises(ServiceError) as caught:
        ask(refusal("not_ready", 503))("health")
    assert caught.value.code == "not_ready"


def test_a_failure_says_code_cause_cure_status_and_request(ask: Ask) -> None:
    with pytest.raises(ServiceError) as caught:
        ask(refusal("does_not_fit", 422))("search", "drill")
    error = caught.value
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
def test_an_answer_that_is_none_of_ours(ask: Ask, reply: httpx.Response) -> None:
    with pytest.raises(ServiceError, match="no answer of mmse") as caught:
        ask(reply)("search", "drill")
    assert (caught.value.code, caught.value.status, caught.value.request_id) == ("unreadable", reply.status_code, "p1")


def test_a_redirect_names_the_address(ask: Ask) -> None:
    moved = httpx.Response(301, headers={"Location": "https://shop.test/v1/search"})
    with pytest.raises(ServiceError) as caught:
        ask(moved)("search", "drill")
    assert "https://shop.test/v1/search" in caught.value.cure


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
    with pytest.raises(ServiceError) as caught:
        ask(error, retries=0)("search", "drill")
    assert (caught.value.code, caught.value.status, caught.value.request_id) == (code, None, "")
    assert URL in caught.value.cause


def test_a_refused_connection_for_real(unused_port: int) -> None:
    with Client(f"http://127.0.0.1:{unused_port}", retries=0) as caller, pytest.raises(ServiceError) as caught:
        caller.health()
    assert caught.value.code == "unreachable"


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize(
    "refused",
    [refusal("overloaded", 503, **{"Retry-After": "1"}), refusal("rate_limited", 429, **{"Retry-After": "1"})],
)
def test_a_refused_search_is_asked_again_when_the_server_says(ask: Ask, clock: Clock, refused: httpx.Response) -> None:
    got, shop = ask(refused, said(ANSWER))("search", "drill")
    assert got == ANSWER
    assert len(shop.asked) == 2
    assert clock.slept == [1.0]


def test_retries_have_a_limit(ask: Ask, clock: Clock) -> None:
    call = ask(refusal("overloaded", 503, **{"Retry-After": "1"}), retries=2)
    with pytest.raises(ServiceError) as caught:
        call("search", "drill")
    assert caught.value.code == "overloaded"
    assert len(call.shop.asked) == 3
    assert clock.slept == [1.0, 1.0]


def test_no_pause_goes_past_the_deadline(ask: Ask, clock: Clock) -> None:
    call = ask(refusal("overloaded", 503, **{"Retry-After": "2"}), retries=9, timeout_s=5.0)
    with pytest.raises(ServiceError):
        call("search", "drill")
    assert clock.slept == [2.0, 2.0]


def test_each_try_has_what_is_left_of_the_time(ask: Ask, clock: Clock) -> None:
    _, shop = ask(refusal("overloaded", 503, **{"Retry-After": "2"}), said(ANSWER), timeout_s=5.0)("search", "drill")
    assert [request.extensions["timeout"]["read"] for request in shop.asked] == [5.0, 3.0]
    assert clock.slept == [2.0]


def test_pauses_grow_where_the_server_names_none(ask: Ask, clock: Clock) -> None:
    call = ask(httpx.ConnectError("refused"), retries=3, timeout_s=60.0)
    with pytest.raises(ServiceError):
        call("search", "drill")
    assert len(clock.slept) == 3
    for slept, longest in zip(clock.slept, (0.1, 0.2, 0.4), strict=True):
        assert longest / 2 <= slept <= longest


@pytest.mark.parametrize(
    ("method", "args"),
    [("send_events", ([api.Click(request_id="r1", item_id="i1")],)), ("delete_item", ("i1",)), ("set_live", ("v2",))],
)
def test_what_would_count_twice_is_sent_once(ask: Ask, clock: Clock, method: str, args: Any) -> None:
    call = ask(refusal("overloaded", 503, **{"Retry-After": "1"}))
    with pytest.raises(ServiceError):
        call(method, *args)
    assert len(call.shop.asked) == 1
    assert clock.slept == []


@pytest.mark.parametrize("reply", [refusal("deadline_exceeded", 504), refusal("internal", 500), httpx.ReadTimeout("l")])
def test_what_would_fail_again_is_sent_once(ask: Ask, clock: Clock, reply: Reply) -> None:
    call = ask(reply)
    with pytest.raises(ServiceError):
        call("search", "drill")
    assert len(call.shop.asked) == 1


def test_retry_after_is_seconds_or_a_date() -> None:
    def of(value: str) -> float | None:
        return retry_after_s(httpx.Response(503, headers={"Retry-After": value}))

    assert of("7") == 7.0
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)
    assert of(soon.strftime("%a, %d %b %Y %H:%M:%S GMT")) == pytest.approx(30, abs=2)
    assert of("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert of("soon") is None
    assert of("-3") is None
    assert retry_after_s(httpx.Response(503)) is None


def test_the_last_moment_is_a_timeout_and_no_mistake(clock: Clock) -> None:
    patience = Tries(Patience(timeout_s=1.0, retries=0))
    clock.now += 5
    assert patience.left_s() == 0.001


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
    call = ask(said(ANSWER))
    with pytest.raises(UsageError, match=word):
        call(method, *args, **fields)
    assert call.shop.asked == []


def test_a_password_in_the_url_is_not_shown() -> None:
    shop = Shop([httpx.ConnectError("refused")])
    caller = Client("http://me:hush@shop.test/api", retries=0, transport=httpx.MockTransport(shop))
    with caller, pytest.raises(ServiceError, match=r"http://shop\.test/api/ cannot") as caught:
        caller.health()
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000", "shop.test", "ftp://shop.test", "http://", "http://shop:door"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_url_that_is_none(kind: type[Client] | type[AsyncClient], url: str) -> None:
    with pytest.raises(UsageError, match="URL"):
        kind(url)


@pytest.mark.parametrize(
    "settings", [{"timeout_s": 0.0}, {"timeout_s": -1.0}, {"timeout_s": float("nan")}, {"retries": -1}]
)
def test_settings_that_cannot_be(settings: Any) -> None:
    with pytest.raises(UsageError):
        Client(URL, **settings)


def test_importing_it_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, mmse.client; print([m for m in ('torch', 'duckdb', 'faiss', 'litestar') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
