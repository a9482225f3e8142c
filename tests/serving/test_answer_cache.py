"""Answers that come again: never an old one, never one for another shopper, and no more than the memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from mmse.catalogue.edits import Delete
from mmse.experiment.assignment import Arm, Experiment, Explore, Interleave
from mmse.ranking.rulebook import Rulebook
from mmse.ranking.rules import Rules
from mmse.retrieval.retriever import Retriever
from mmse.schema.http import SearchAnswer, SearchRequest
from mmse.serving import experiments
from mmse.serving.answer_cache import AnswerCache, EncodedAnswer, answer_key
from mmse.serving.config import ServeConfig
from mmse.serving.versions.site import Site
from serving.conftest import TOKEN, WRITER, worker
from serving.test_experiments import shown

SEARCH = {"query": "red shoes", "k": 6, "explain": True, "facets": ["brand"]}


@pytest.fixture
def service(site: Path) -> Iterator[TestClient[Any]]:
    with worker(ServeConfig(site, token=TOKEN, log_exposures=True)) as client:
        yield client


@pytest.fixture
def count_searches(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Tells how many searches retrievers have answered."""
    answers, sizes = Retriever.answers, list[int]()

    def count(self: Retriever, searches: Any, *more: Any) -> Any:
        sizes.append(len(searches))
        return answers(self, searches, *more)

    monkeypatch.setattr(Retriever, "answers", count)
    return lambda: sum(sizes)


def ask(service: TestClient[Any], **more: object) -> dict[str, Any]:
    reply = service.post("/v1/search", json=SEARCH | more)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def of_all(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer without what is of one request."""
    return {name: value for name, value in answer.items() if name not in ("request_id", "took_ms")}


def test_the_same_search_is_answered_once_and_logged_each_time(
    service: TestClient[Any], site: Path, count_searches: Callable[[], int]
) -> None:
    first = ask(service)
    n_searches = count_searches()
    again = [ask(service), ask(service, timeout_ms=500), ask(service, session_id="v1"), ask(service, shown=2)]
    assert count_searches() == n_searches
    assert all(of_all(answer) == of_all(first) for answer in again)
    assert len({answer["request_id"] for answer in (first, *again)}) == 5
    ids = [hit["item_id"] for hit in first["hits"]]
    logged = shown(service, site)
    for answer, n in zip((first, *again), (6, 6, 6, 6, 2), strict=True):
        rows = [row for row in logged if row["request_id"] == answer["request_id"]]
        assert [row["item_id"] for row in sorted(rows, key=lambda row: row["position"])] == ids[:n]
    metrics = service.get("/metrics").text
    assert 'mmse_answer_cache_total{result="hit"}' in metrics
    assert "mmse_answer_cache_saved_seconds_total" in metrics
    ask(service, k=7)
    ask(service, offset=6)
    ask(service, filter={"price": {"from": 1}})
    assert count_searches() == n_searches + 3


def test_an_edit_shows_in_the_next_answer(service: TestClient[Any], count_searches: Callable[[], int]) -> None:
    first, again = ask(service), ask(service)
    item_id = first["hits"][0]["item_id"]
    service.patch(f"/v1/items/{item_id}", json={"price": 7.25}, headers=WRITER)
    changed = ask(service)
    assert changed["catalogue"] == again["catalogue"] + 1
    assert changed["hits"][0]["item"]["price"] == 7.25
    service.delete(f"/v1/items/{item_id}", headers=WRITER)
    assert item_id not in [hit["item_id"] for hit in ask(service)["hits"]]
    assert count_searches() >= 3


def test_an_edit_while_an_answer_is_made_is_not_overlooked(
    service: TestClient[Any], site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of before the edit goes out, and is not kept."""
    item_id = ask(service)["hits"][0]["item_id"]
    answers = Retriever.answers

    def answers_and_edit(self: Retriever, searches: Any, *more: Any) -> Any:
        result = answers(self, searches, *more)
        monkeypatch.setattr(Retriever, "answers", answers)
        Site.open(site).apply([Delete(item_id)])
        assert self.catalogue is not None
        self.catalogue.refresh()
        return result

    monkeypatch.setattr(Retriever, "answers", answers_and_edit)
    assert item_id in [hit["item_id"] for hit in ask(service, k=7)["hits"]]
    assert item_id not in [hit["item_id"] for hit in ask(service, k=7)["hits"]]


def test_published_rules_and_their_dates_change_the_state(small_run: Path, tmp_path: Path) -> None:
    book = Rulebook(tmp_path / "rules", {})
    retriever = replace(Retriever.open(small_run, edits=False), rulebook=book)
    states = [retriever.state(), retriever.state()]
    now = datetime.now(UTC)
    for start in (now - timedelta(days=1), now + timedelta(days=1)):
        book.publish(f'[[pin]]\nname = "p"\nquery = "tent"\nitems = ["i1"]\nfrom = {start:%Y-%m-%dT%H:%M:%SZ}\n')
        book._last_check = -float("inf")
        states.append(retriever.state())
    assert states[0] == states[1]
    assert len({*states}) == 3


def test_periods_begin_and_end_with_rules(tmp_path: Path) -> None:
    book = Rulebook(tmp_path / "rules", {})
    book.publish(
        '[[pin]]\nname = "a"\nquery = "x"\nitems = ["i"]\nfrom = 2026-05-02T00:00:00Z\nuntil = 2026-05-04T00:00:00Z\n'
        '[[synonym]]\nname = "b"\nwords = ["mug", "cup"]\nuntil = 2026-05-03T00:00:00Z\n'
    )
    rules = book.current()
    for rule in rules.rules:
        for moment in (rule.head.start, rule.head.end):
            if moment is not None:
                edge = [moment - timedelta(microseconds=1), moment, moment + timedelta(microseconds=1)]
                active = [rule.head.is_active(time) for time in edge]
                periods = [rules.period(time) for time in edge]
                changes = [[a != b for a, b in pairwise(values)] for values in (active, periods)]
                assert changes[0] == changes[1]
    assert Rules().period(datetime.now(UTC)) == 0


@pytest.mark.parametrize(
    ("arm", "more"),
    [
        (Arm(), {"user_id": "u1"}),
        (Arm(), {"history": ["i1"]}),
        (Arm(explore=Explore(share=0.5, pool=20)), {}),
        (Arm(interleave=Interleave(beside="other")), {}),
    ],
)
def test_what_is_for_one_request_alone_is_not_kept(arm: Arm, more: dict[str, Any]) -> None:
    assert answer_key(SearchRequest(query="a", **more), arm, None) is None


def test_arms_of_an_experiment_have_answers_of_their_own(
    service: TestClient[Any], site: Path, count_searches: Callable[[], int]
) -> None:
    experiments.start(
        Site.open(site), Experiment("try", {"control": Arm(), "words": Arm(channel="lexical")}, unit="session")
    )
    for _ in range(2):
        for visit in range(12):
            ask(service, session_id=f"v{visit}")
    arms = {ask(service, session_id=f"v{visit}")["arm"] for visit in range(12)}
    assert len(arms) == 2
    assert 2 <= count_searches() <= 4


def test_a_server_may_keep_none(site: Path, count_searches: Callable[[], int]) -> None:
    with worker(ServeConfig(site, answer_cache_mb=0)) as service:
        n_searches = count_searches()
        assert of_all(ask(service)) == of_all(ask(service))
    assert count_searches() == n_searches + 2


def encoded(n_bytes: int) -> EncodedAnswer:
    answer = SearchAnswer(
        request_id="",
        version="1",
        arm=None,
        catalogue=1,
        query="q",
        hits=[],
        no_good_match=False,
        redirect_url=None,
        rules=(),
        facets=[],
        took_ms=0.0,
    )
    return EncodedAnswer(answer, [], 1, [], 0.01, n_bytes)


def test_the_least_recently_used_goes_first_and_the_largest_never_come_in() -> None:
    cache = AnswerCache(100_000)
    for number in range(25):
        cache.put(number, "a", encoded(3_000))
        cache.get(0, "a")
    assert len(cache) == 25
    cache.put(25, "a", encoded(3_000))
    assert cache.get(0, "a") is not None
    assert cache.get(1, "a") is None
    cache.put(26, "a", encoded(4_001))
    assert cache.get(26, "a") is None
    cache.put(2, "a", encoded(500))
    assert len(cache) == 25
    assert cache.get(2, "b") is None
    assert len(cache) == 0
