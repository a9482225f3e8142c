"""The routes, on a real small shop: what they answer, and how they refuse."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import pytest
from litestar.testing import TestClient

from mmse.retrieval.retriever import Retriever
from mmse.schema.http import (
    BatchAnswer,
    CatalogueAnswer,
    EmbedAnswer,
    Failure,
    Health,
    MapAnswer,
    MapPoint,
    SearchAnswer,
)
from mmse.schema.http_admin import EditAnswer, ItemAnswer, VersionsAnswer
from mmse.schema.search import Search
from mmse.serving.config import ServeConfig
from mmse.serving.events.export import export_table
from mmse.serving.versions.publish import publish
from serving.conftest import TOKEN, WRITER, worker

Service = TestClient[Any]


def decode(response: Any, kind: Any, status: int = 200) -> Any:
    """The body of `response` as the struct that is documented, and nothing that is not."""
    assert response.status_code == status, response.text
    return msgspec.json.decode(response.content, type=kind)


def check_error(response: Any, status: int, code: str) -> str:
    problem = decode(response, Failure, status).error
    assert problem.code == code
    assert problem.request_id == response.headers["x-request-id"]
    assert problem.cure
    assert "Traceback" not in response.text
    assert "/tmp" not in response.text
    return str(problem.message)


def first_query(run: Path) -> str:
    from mmse.training.targets import read_logged_requests

    return str(read_logged_requests(run / "dataset", "test", 1).queries[0])


def test_a_search_answers_what_the_retriever_does(service: Service, small_run: Path) -> None:
    query = first_query(small_run)
    answer = decode(service.post("/v1/search", json={"query": query, "k": 7, "explain": True}), SearchAnswer)
    right = Retriever.open(small_run, edits=False).answer(Search(query, 7))
    assert [(hit.item_id, hit.rank) for hit in answer.hits] == [(hit.item_id, hit.rank) for hit in right.hits]
    assert answer.hits[0].probability == pytest.approx(right.hits[0].probability)
    assert answer.hits[0].explanation.parts == pytest.approx(right.hits[0].parts)
    assert answer.hits[0].explanation.reason == right.hits[0].reason
    assert (answer.version, answer.arm, answer.catalogue) == ("0001", "live", 0)


def test_explanations_are_given_only_where_asked_for(service: Service) -> None:
    answer = decode(service.post("/v1/search", json={"query": "a"}), SearchAnswer)
    assert answer.hits
    assert all(hit.explanation is None for hit in answer.hits)


def test_get_and_post_agree(service: Service, small_run: Path) -> None:
    query = first_query(small_run)
    body = {"query": query, "k": 5, "filter": {"price": {"to": 50}}, "facets": ["brand", "price"]}
    by_post = decode(service.post("/v1/search", json=body), SearchAnswer)
    params: Any = {"q": query, "k": 5, "filter": "price=..50", "facets": ["brand", "price"]}
    by_get = decode(service.get("/v1/search", params=params), SearchAnswer)
    assert by_get.hits == by_post.hits
    assert by_get.facets == by_post.facets
    assert all(hit.item["price"] <= 50 for hit in by_get.hits)
    brand, price = by_get.facets
    assert (brand.kind, price.kind) == ("name", "number")
    assert brand.values[0].count >= brand.values[-1].count > 0
    assert sum(facet_bin.count for facet_bin in price.bins) > 0


def test_pages_are_parts_of_one_list(service: Service, small_run: Path) -> None:
    query = first_query(small_run)
    whole = decode(service.post("/v1/search", json={"query": query, "k": 150}), SearchAnswer).hits
    pages = [
        decode(service.get("/v1/search", params={"q": query, "k": 50, "offset": offset}), SearchAnswer).hits
        for offset in (0, 50, 100)
    ]
    assert [hit for page in pages for hit in page] == whole
    deep = decode(service.post("/v1/search", json={"query": query, "offset": 10_000}), SearchAnswer)
    assert deep.hits == []


def test_a_number_sorts_what_is_relevant(service: Service, small_run: Path) -> None:
    body: dict[str, Any] = {"query": first_query(small_run), "k": 10, "sort": "-price", "facets": ["brand"]}
    answer = decode(service.post("/v1/search", json=body), SearchAnswer)
    prices = [hit.item["price"] for hit in answer.hits]
    assert prices == sorted(prices, reverse=True)
    by_get = service.get("/v1/search", params={"q": body["query"], "k": 10, "sort": "-price", "facets": ["brand"]})
    assert decode(by_get, SearchAnswer).hits == answer.hits


def test_history_counts_in_place_of_the_logs(service: Service, small_run: Path) -> None:
    query = first_query(small_run)
    items = [hit.item_id for hit in decode(service.post("/v1/search", json={"query": query}), SearchAnswer).hits[-2:]]
    with_it = decode(service.post("/v1/search", json={"query": query, "history": items, "k": 50}), SearchAnswer)
    plain = decode(service.post("/v1/search", json={"query": query, "k": 50}), SearchAnswer)
    assert [hit.score for hit in with_it.hits] != [hit.score for hit in plain.hits]


def test_a_cut_off_says_no_good_match(service: Service) -> None:
    answer = decode(service.post("/v1/search", json={"query": "a", "min_probability": 1.0}), SearchAnswer)
    assert answer.no_good_match
    assert answer.hits == []


def test_a_batch_answers_each_and_errs_alone(service: Service) -> None:
    body = [{"query": "a"}, {"query": "a", "filter": {"nowhere": 1}}, {"query": "b", "k": 3}]
    batch = decode(service.post("/v1/search/batch", json={"searches": body}), BatchAnswer)
    result, failure, last_result = batch.outcomes
    assert result.answer.hits == decode(service.post("/v1/search", json={"query": "a"}), SearchAnswer).hits
    assert failure.answer is None
    assert failure.error.code == "does_not_fit"
    assert "nowhere" in failure.error.message
    assert len(last_result.answer.hits) == 3


def test_a_request_that_asks_for_too_much_is_refused(service: Service) -> None:
    search = {"query": "a", "k": 1000, "explain": True, "facets": ["brand", "price", "category"]}
    message = check_error(service.post("/v1/search/batch", json={"searches": [search] * 64}), 422, "too_costly")
    assert "The request takes as much work as" in message
    ranges = {"or": [{"price": {"from": n, "to": n + 1}} for n in range(200)]}
    boosts = [{"filter": ranges, "factor": 2.0}] * 32
    check_error(service.post("/v1/search", json={"query": "a", "boosts": boosts}), 422, "too_costly")


def test_a_large_batch_is_answered_in_parts_and_in_its_order(service: Service) -> None:
    searches = [{"query": "a", "k": number % 7 + 1, "explain": True} for number in range(40)]
    outcomes = decode(service.post("/v1/search/batch", json={"searches": searches}), BatchAnswer).outcomes
    assert [len(outcome.answer.hits) for outcome in outcomes] == [number % 7 + 1 for number in range(40)]


def test_vectors_are_the_encoders(service: Service, small_run: Path) -> None:
    answer = decode(service.post("/v1/embed", json={"queries": ["red kettle", "a"]}), EmbedAnswer)
    right = Retriever.open(small_run, edits=False).query_vectors(["red kettle", "a"])
    np.testing.assert_allclose(np.array(answer.vectors), right, atol=1e-6)
    assert answer.dimensions == right.shape[1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "query"),
        ({"query": ""}, "length >= 1"),
        ({"query": "x" * 10_000}, "length <= 2000"),
        ({"query": "x", "k": 0}, "k"),
        ({"query": "x", "k": "ten"}, "k"),
        ({"query": "x", "offset": -1}, "offset"),
        ({"query": "x", "offset": 10_001}, "offset"),
        ({"query": "x", "order_by": "price:asc"}, "order_by"),
        ({"query": "x", "kk": 1}, "kk"),
        ({"query": "x", "channel": "none"}, "channel"),
        ({"query": "x", "caps": {"brand": 0}}, "caps"),
        ([], "object"),
    ],
)
def test_a_malformed_search_is_told_which_field(service: Service, body: object, message: str) -> None:
    assert message in check_error(service.post("/v1/search", json=body), 400, "invalid")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"query": "a"} x', b"[" * 100_000])
def test_what_is_not_json_is_refused(service: Service, content: bytes) -> None:
    response = service.post("/v1/search", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert decode(response, Failure, 400).error.code in ("bad_request", "invalid")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"query": "  "}, "empty"),
        ({"query": "x", "filter": {"nowhere": 1}}, "no column 'nowhere'"),
        ({"query": "x", "filter": {"price": "cheap"}}, "number"),
        ({"query": "x", "facets": ["nowhere"]}, "nowhere"),
        ({"query": "x", "sort": "title"}, "no column 'title' of numbers to sort by"),
        ({"query": "x", "caps": {"nowhere": 1}}, "nowhere"),
        ({"query": "x", "channel": "vector", "min_probability": 0.5}, "probabilities"),
        ({"query": "x", "boosts": [{"filter": {}, "factor": 2}]}, "empty filter"),
    ],
)
def test_what_does_not_fit_the_catalogue_is_said(service: Service, body: object, message: str) -> None:
    assert message in check_error(service.post("/v1/search", json=body), 422, "does_not_fit")


@pytest.mark.parametrize(
    "query", ["🧨🛠️ 電動工具 שלום", "a\u0000b", "' or 1=1 --", "\ud800".encode("utf-8", "replace").decode(), "%" * 200]
)
def test_any_text_is_a_query(service: Service, query: str) -> None:
    decode(service.post("/v1/search", json={"query": query}), SearchAnswer)
    decode(service.get("/v1/search", params={"q": query}), SearchAnswer)


def test_unknown_versions_routes_and_methods(service: Service) -> None:
    assert "0009" in check_error(
        service.post("/v1/search", json={"query": "a", "version": "0009"}), 404, "version_unknown"
    )
    decode(service.post("/v1/search", json={"query": "a", "version": "0001"}), SearchAnswer)
    check_error(service.get("/v1/nothing"), 404, "not_found")
    for path in ("/schema", "/schema/openapi.json"):  # the framework's own pages, which load scripts from elsewhere
        check_error(service.get(path), 404, "not_found")
    assert service.get("/openapi.json").json()["servers"][0]["url"] == "./", "it holds below a proxy's prefix too"
    check_error(service.get("/v1/items/none"), 404, "not_found")
    assert service.put("/v1/search", json={}).headers["allow"]
    check_error(service.put("/v1/search", json={}), 405, "method_not_allowed")
    check_error(service.get("/web/../../../../etc/passwd"), 404, "not_found")


def test_an_item_comes_changes_and_goes(own_service: Service) -> None:
    new = {"title": "Zorbak quibble lamp", "price": 12.5}
    answer = decode(own_service.put("/v1/items/z1", json=new, headers=WRITER), EditAnswer)
    assert (answer.applied, answer.version, answer.catalogue) == (1, "0001", 1)
    hit = decode(own_service.post("/v1/search", json={"query": "zorbak quibble", "k": 1}), SearchAnswer).hits[0]
    assert (hit.item_id, hit.item["price"]) == ("z1", 12.5)
    decode(own_service.patch("/v1/items/z1", json={"price": 9.0}, headers=WRITER), EditAnswer)
    item = decode(own_service.get("/v1/items/z1"), ItemAnswer)
    assert (item.item["price"], item.item["title"], item.catalogue) == (9.0, new["title"], 2)
    decode(own_service.delete("/v1/items/z1", headers=WRITER), EditAnswer)
    check_error(own_service.get("/v1/items/z1"), 404, "not_found")
    answer = decode(own_service.post("/v1/search", json={"query": "zorbak quibble"}), SearchAnswer)
    assert "z1" not in [hit.item_id for hit in answer.hits]


ODD_IDS = ["u/", "u", "s//t", "s/t", "../evil", "100%", "%2F", "a b", "a?b=c", "a#b", "ä😀", "x%2Fy", "=", "a\nb", "-x"]


def test_a_query_without_a_letter_is_no_fault(service: Service) -> None:
    assert service.get("/v1/search?q=%00").status_code in (200, 422)


def test_an_id_may_hold_any_characters(own_service: Service) -> None:
    items = [{"item_id": item_id, "title": f"Thing {number}"} for number, item_id in enumerate(ODD_IDS)]
    decode(own_service.post("/v1/items", json={"upsert": items}, headers=WRITER), EditAnswer)
    for number, item_id in enumerate(ODD_IDS):
        path = f"/v1/items/{quote(item_id, safe='')}"
        assert decode(own_service.get(path), ItemAnswer).item["title"] == f"Thing {number}"
        decode(own_service.patch(path, json={"price": number}, headers=WRITER), EditAnswer)
        decode(own_service.delete(path, headers=WRITER), EditAnswer)
        check_error(own_service.get(path), 404, "not_found")
        for other_number, other_id in enumerate(ODD_IDS[number + 1 :], number + 1):
            other = decode(own_service.get(f"/v1/items/{quote(other_id, safe='')}"), ItemAnswer).item
            assert (other["title"], other["price"]) == (f"Thing {other_number}", None)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/search", b'{"query": "\xff\xfe"}'),
        ("/v1/assignments", b"\xff"),
        ("/v1/search?q=%FF%FEdrill", None),
        ("/%00", None),
        ("/main.js%00.html", None),
        ("/v1/items/%FF", None),
        ("/v1/map/place?q=%FF", None),
    ],
)
def test_what_is_no_text_is_the_clients_fault(service: Service, path: str, body: bytes | None) -> None:
    method = "GET" if body is None else "POST"
    response = service.request(method, path, content=body, headers={"content-type": "application/json"})
    check_error(response, 400, "bad_request")


@pytest.mark.parametrize("path", ["/", "/v1/health", "/v1/health/ready", "/metrics", "/openapi.json"])
def test_a_probe_may_ask_for_the_head_alone(service: Service, path: str) -> None:
    head = service.head(path)
    assert (head.status_code, head.content) == (200, b"")


def test_edits_are_taken_in_all_or_none(own_service: Service) -> None:
    edits = {"upsert": [{"item_id": "z2", "title": "Lamp"}], "change": [{"item_id": "none", "values": {"price": 1}}]}
    check_error(own_service.post("/v1/items", json=edits, headers=WRITER), 422, "does_not_fit")
    check_error(own_service.get("/v1/items/z2"), 404, "not_found")
    check_error(own_service.post("/v1/items", json={}, headers=WRITER), 422, "does_not_fit")


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}])
def test_writes_need_the_token(service: Service, headers: dict[str, str]) -> None:
    events = {"events": [{"type": "click", "request_id": "r", "item_id": "i"}]}
    writes: list[tuple[str, str, object]] = [
        ("POST", "/v1/items", {}),
        ("PUT", "/v1/items/a", {}),
        ("PATCH", "/v1/items/a", {}),
        ("DELETE", "/v1/items/a", None),
        ("POST", "/v1/events", events),
        ("POST", "/v1/versions/live", {"version": "1"}),
    ]
    for method, path, body in writes:
        response = service.request(method, path, json=body, headers=headers)
        check_error(response, 401, "unauthorised")
        assert response.headers["www-authenticate"] == "Bearer"


def test_without_a_token_nothing_can_be_written(site: Path) -> None:
    with worker(ServeConfig(site)) as service:
        assert "token" in check_error(service.delete("/v1/items/a", headers=WRITER), 409, "read_only")
        decode(service.post("/v1/search", json={"query": "a"}), SearchAnswer)


def test_events_come_home(own_service: Service, site: Path, tmp_path: Path) -> None:
    answer = decode(own_service.post("/v1/search", json={"query": "a", "k": 3}), SearchAnswer)
    items = [hit.item_id for hit in answer.hits]
    events = [
        {"type": "exposure", "request_id": answer.request_id, "query": "a", "items": items, "version": answer.version},
        {"type": "click", "request_id": answer.request_id, "item_id": items[1]},
    ]
    response = own_service.post("/v1/events", json={"events": events}, headers=WRITER)
    assert (response.status_code, response.json()["accepted"]) == (202, 2)
    assert export_table(site / "events", tmp_path / "out.parquet") == 3
    check_error(own_service.post("/v1/events", json={"events": [{"type": "stare"}]}, headers=WRITER), 400, "invalid")


def test_what_is_served_and_how_it_is(own_service: Service) -> None:
    versions = decode(own_service.get("/v1/versions"), VersionsAnswer)
    assert (versions.live, versions.problem) == ("0001", None)
    assert versions.served[0].arms == ["live"]
    catalogue = decode(own_service.get("/v1/catalogue"), CatalogueAnswer)
    assert {"brand", "price", "category"} <= {column.name for column in catalogue.columns}
    assert catalogue.examples
    assert catalogue.items == versions.served[0].items
    for path in ("/v1/health", "/v1/health/ready", "/v1/health/live"):
        assert decode(own_service.get(path), Health).ready
    text = own_service.get("/metrics").text
    assert "mmse_request_seconds_bucket" in text
    assert 'mmse_version_info{arm="live",version="0001"}' in text


def test_a_refused_version_is_said_without_where_it_lies(own_service: Service, site: Path, small_run: Path) -> None:
    publish(site, small_run)
    (site / "versions" / "0002" / "model" / "towers.safetensors").unlink()  # a link: the run keeps its own
    deadline_s, problem = time.monotonic() + 20, None
    while problem is None and time.monotonic() < deadline_s:
        versions = decode(own_service.get("/v1/versions"), VersionsAnswer)
        problem = versions.problem
    assert problem is not None
    assert versions.live == "0001"
    assert "versions/0002/model/towers.safetensors" in problem
    assert str(site) not in own_service.get("/v1/versions").text + own_service.get("/v1/health").text


def test_the_map_and_a_querys_place_on_it(service: Service, small_run: Path) -> None:
    map_answer = decode(service.get("/v1/map"), MapAnswer)
    assert (
        len(map_answer.item_id)
        == len(map_answer.x)
        == len(map_answer.y)
        == len(map_answer.title)
        == len(map_answer.category)
        > 0
    )
    assert max(map_answer.category) < len(map_answer.categories)
    point = decode(service.get("/v1/map/place", params={"q": first_query(small_run)}), MapPoint)
    assert -1 <= point.x <= 1
    assert -1 <= point.y <= 1
    check_error(service.get("/v1/map/place", params={"q": " "}), 422, "does_not_fit")


def test_the_page_is_served(service: Service) -> None:
    page = service.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert (
        "script-src" in page.headers["content-security-policy"]
        or "default-src 'self'" in page.headers["content-security-policy"]
    )


def test_a_fault_of_ours_tells_nothing_but_an_id(own_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(Retriever, "answers", breaks)
    response = own_service.post("/v1/search", json={"query": "a"})
    assert "secret" not in response.text
    check_error(response, 500, "internal")
