"""What a search may ask for beyond a query: filters, likelihood, caps, boosts, rules, edits, channels."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmse.catalogue import Change, Delete, Upsert
from mmse.core.errors import UsageError
from mmse.dataset.folder import DatasetFolder
from mmse.retrieval.rank import least_probability
from mmse.retrieval.retriever import Retriever
from mmse.schema.filters import And, Between, Filter, OneOf, parse_filter
from mmse.schema.search import Channel, Search
from mmse.text.normalise import words

QUERY = "blue tent"


@pytest.fixture(scope="module")
def retriever(small_run: Path) -> Retriever:
    return Retriever.open(small_run)


@pytest.fixture(scope="module")
def items(small_run: Path) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = pq.read_table(DatasetFolder(small_run / "dataset").items).to_pylist()
    return items


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(small_run, tmp_path / "run")
    return tmp_path / "run"


def ids(retriever: Retriever, search: Search) -> list[str]:
    return [hit.item_id for hit in retriever.answer(search).hits]


@pytest.mark.parametrize("channel", get_args(Channel))
def test_every_channel_ranks_without_repeats(retriever: Retriever, channel: Channel) -> None:
    answer = retriever.answer(Search(QUERY, 20, channel=channel))
    assert len({hit.item_id for hit in answer.hits}) == len(answer.hits) > 0
    has_probability = [hit.probability is not None for hit in answer.hits]
    assert all(has_probability) if channel == "hybrid" else not any(has_probability)


def test_the_batch_ranks_as_the_answer_does(retriever: Retriever, items: list[dict[str, Any]]) -> None:
    queries = [QUERY, "camping stove", "zzqqx"]
    rankings = retriever.rankings(queries, retriever.query_vectors(queries), 10, ["hybrid", "vector"])
    for index, query in enumerate(queries):
        for channel in ("hybrid", "vector"):
            rows = rankings[channel][index].tolist()
            assert [items[row]["item_id"] for row in rows] == ids(retriever, Search(query, 10, channel=channel))


def test_hits_are_likelier_the_higher_they_score(retriever: Retriever) -> None:
    hits = [hit for hit in retriever.answer(Search(QUERY, 50)).hits if not hit.moved_by]
    probabilities = [hit.probability or 0.0 for hit in hits]
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(0 < probability < 1 for probability in probabilities)


@pytest.mark.parametrize(
    "values", [{"price": {"to": 20}}, {"available": True}, {"not": {"available": True}}, {"category": "Electronics"}]
)
def test_a_filter_lets_through_all_that_exist_and_nothing_else(
    retriever: Retriever, items: list[dict[str, Any]], values: dict[str, object]
) -> None:
    condition = parse_filter(values, retriever.kinds)
    mask = retriever.snapshot().mask(condition)
    assert mask is not None
    expected_ids = {items[row]["item_id"] for row in np.flatnonzero(mask)}
    assert 0 < len(expected_ids) < len(items)
    assert set(ids(retriever, Search(QUERY, len(items), filter=condition))) == expected_ids
    assert len(ids(retriever, Search(QUERY, 5, filter=condition))) == min(5, len(expected_ids))


def test_a_filter_that_nothing_meets_is_no_good_match(retriever: Retriever) -> None:
    answer = retriever.answer(Search(QUERY, filter=Between("price", -2.0, -1.0)))
    assert answer.no_good_match
    assert answer.hits == []


def test_unlikely_hits_are_left_out(retriever: Retriever) -> None:
    every = retriever.answer(Search(QUERY, 50)).hits
    threshold = float(np.median([hit.probability or 0.0 for hit in every]))
    likely_hits = retriever.answer(Search(QUERY, 50, min_probability=threshold)).hits
    assert [hit.item_id for hit in likely_hits] == [
        h.item_id for h in every if h.probability and h.probability >= threshold
    ]
    answer = retriever.answer(Search(QUERY, 50, min_probability=1.0))
    assert answer.no_good_match


def test_as_many_hits_as_are_precise_enough() -> None:
    probabilities = np.array([0.1, 0.5, 0.3, 0.9])

    def least(share: float) -> float:
        return least_probability(Search("q", target_precision=share), probabilities)

    assert least(0.9) == 0.9
    assert least(0.7) == 0.5, "(0.9 + 0.5) / 2"
    assert least(0.6) == 0.5, "with 0.3 the mean is 0.566"
    assert least(0.45) == 0.1
    assert least(0.95) > 1, "nothing"


def test_no_more_hits_of_a_brand_than_capped(retriever: Retriever) -> None:
    hits = retriever.answer(Search(QUERY, 20, caps={"brand": 1})).hits
    assert len(hits) == 20
    brands = Counter(str(hit.item["brand"]).lower() for hit in hits[:10] if "brand" in hit.item)
    assert brands.most_common(1)[0][1] == 1
    assert ids(retriever, Search(QUERY, 20)) != [hit.item_id for hit in hits]


def test_a_cap_on_an_unknown_column(retriever: Retriever) -> None:
    with pytest.raises(UsageError, match="There is no column 'brnd' to cap"):
        retriever.answer(Search(QUERY, caps={"brnd": 1}))


def test_a_boost_lifts_what_its_filter_lets_through(retriever: Retriever) -> None:
    every = retriever.answer(Search(QUERY, 40)).hits
    brand = str(next(hit.item["brand"] for hit in every[10:] if "brand" in hit.item))
    condition = parse_filter({"brand": brand}, retriever.kinds)
    top_hit = retriever.answer(Search(QUERY, 40, boosts=((condition, 1e6),))).hits[0]
    assert top_hit.item["brand"] == brand
    assert top_hit.moved_by == ("boost x1e+06 by the request",)
    assert "boost x1e+06 by the request" in top_hit.reason


def test_rules_act_at_once_and_say_so(run: Path, items: list[dict[str, Any]]) -> None:
    word = words(items[0]["title"])[0]
    clock = itertools.count(10**9)
    retriever = Retriever.open(run)
    assert retriever.rulebook is not None
    retriever.rulebook._clock = lambda: float(next(clock))
    former_ids = ids(retriever, Search(QUERY, 10))
    retriever.rulebook.publish(
        f"""
        [[pin]]
        name = "front"
        query = "{QUERY}"
        items = ["{former_ids[9]}"]
        [[bury]]
        name = "back"
        query = "{QUERY}"
        items = ["{former_ids[0]}"]
        [[redirect]]
        name = "elsewhere"
        query = "tnet blau"
        to = "{QUERY}"
        [[redirect]]
        name = "help"
        query = "return policy"
        url = "https://example.com/returns"
        [[synonym]]
        name = "words"
        words = ["zzqqx", "{word}"]
        """
    )
    answer = retriever.answer(Search(QUERY, 10))
    assert answer.hits[0].item_id == former_ids[9]
    assert answer.hits[0].moved_by == ("pinned to place 1 by rule front",)
    assert former_ids[0] not in [hit.item_id for hit in answer.hits]
    assert set(answer.rules) == {"front", "back"}
    redirected = retriever.answer(Search("Tnet  BLAU", 10))
    assert redirected.query == QUERY
    assert [hit.item_id for hit in redirected.hits] == [hit.item_id for hit in answer.hits]
    assert retriever.answer(Search("return policy")).redirect_url == "https://example.com/returns"
    assert retriever.answer(Search("zzqqx", 5)).hits[0].parts["words"] > 0, "a synonym's words count"
    assert Retriever.open(run, edits=False).answer(Search(QUERY, 10)).rules == ()


def test_a_pinned_item_meets_the_filter_too(run: Path) -> None:
    retriever = Retriever.open(run)
    assert retriever.rulebook is not None
    last_id = ids(retriever, Search(QUERY, 400))[-1]
    retriever.rulebook.publish(f'[[pin]]\nname = "p"\nquery = "{QUERY}"\nitems = ["{last_id}"]')
    retriever = Retriever.open(run)
    assert retriever.answer(Search(QUERY, 3)).hits[0].item_id == last_id, "found though no channel brought it"
    row = retriever.snapshot().rows([last_id])
    price = float(retriever.snapshot().values("price", row)[0])
    condition: Filter = Between("price", price + 0.01, None)
    assert last_id not in ids(retriever, Search(QUERY, 3, filter=condition))


def test_edits_are_found_by_both_channels_at_once(run: Path) -> None:
    retriever = Retriever.open(run, writable=True)
    assert retriever.catalogue is not None
    deleted_id = ids(retriever, Search(QUERY, 1))[0]
    new = {"item_id": "new", "title": "Zyzzyva blue tent", "category": "Sports", "price": 1.23, "available": True}
    version = retriever.catalogue.apply([Upsert(new), Delete(deleted_id)])
    for channel in get_args(Channel):
        item_ids = ids(retriever, Search("zyzzyva blue tent", 400, channel=channel))
        assert "new" in item_ids
        assert deleted_id not in item_ids
    answer = retriever.answer(Search("zyzzyva blue tent", 1))
    assert answer.hits[0].title == "Zyzzyva blue tent"
    assert answer.version == version
    retriever.catalogue.apply([Change("new", {"price": 99.0})])
    cheap = And((Between("price", None, 2.0), OneOf("available", (True,))))
    assert "new" not in ids(retriever, Search("zyzzyva blue tent", 400, filter=cheap))
    retriever.catalogue.close()
    assert ids(Retriever.open(run), Search("zyzzyva", 1)) == ["new"], "and after a restart"
    assert "new" not in ids(Retriever.open(run, edits=False), Search("zyzzyva", 400)), "evaluation sees none"


def test_a_guard_puts_the_named_brand_first(run: Path, items: list[dict[str, Any]]) -> None:
    retriever = Retriever.open(run)
    assert retriever.ranking.guard is not None
    brands = [i["brand"] for i in items if i["brand"] and (str(i["brand"]).lower(),) in retriever.ranking.guard.brands]
    brand = Counter(brands).most_common()[0][0]
    title = next(i["title"] for i in items if i["brand"] == brand)
    hits = retriever.answer(Search(f"{title} {brand}", 5)).hits
    assert brand in (hits[0].item.get("brand"), None) or brand.lower() in hits[0].title.lower()
    without_guard = replace(retriever, ranking=replace(retriever.ranking, guard=None))
    assert not any(hit.moved_by for hit in without_guard.answer(Search(f"{title} {brand}", 5)).hits)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"query": " "}, "The query is empty"),
        ({"k": 0}, "k is 0, expected at least 1"),
        ({"min_probability": 1.5}, "min_probability is 1.5, expected 0 to 1"),
        ({"min_probability": float("nan")}, "min_probability is nan"),
        ({"target_precision": -0.1}, "target_precision is -0.1"),
        ({"channel": "vector", "min_probability": 0.1}, "'vector' gives no probabilities"),
        ({"caps": {"brand": 0}}, "The cap of 'brand' is 0"),
        ({"boosts": ((OneOf("brand", ("a",)), 0.0),)}, "A boost is 0.0"),
        ({"boosts": ((OneOf("brand", ("a",)), float("inf")),)}, "A boost is inf"),
    ],
)
def test_what_cannot_be_asked(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Search(**({"query": "tent"} | wrong))
