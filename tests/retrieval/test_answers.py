"""Many searches at once, and what a server asks for: each answer is the one that its search has alone."""

from __future__ import annotations

import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmse.catalogue import Delete, Upsert
from mmse.core.errors import UsageError
from mmse.dataset.folder import DatasetFolder
from mmse.model.query_cache import Lookups
from mmse.retrieval.retriever import Retriever
from mmse.schema.filters import Filter, comparison_path, parse_filter
from mmse.schema.search import Answer, Search
from mmse.training.targets import read_logged_requests

QUERY = "blue tent"


@pytest.fixture(scope="module")
def run(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run with rules and edits."""
    copy = tmp_path_factory.mktemp("answers") / "run"
    shutil.copytree(small_run, copy)
    retriever = Retriever.open(copy, writable=True)
    assert retriever.rulebook is not None
    assert retriever.catalogue is not None
    hits = retriever.search(QUERY, 9)
    retriever.rulebook.publish(
        f'[[pin]]\nname = "p"\nquery = "{QUERY}"\nitems = ["{hits[8].item_id}"]\n'
        f'[[bury]]\nname = "b"\nquery = "{QUERY}"\nitems = ["{hits[0].item_id}"]\n'
        '[[redirect]]\nname = "r"\nquery = "tnet blau"\nto = "blue tent"\n'
        '[[synonym]]\nname = "s"\nwords = ["stove", "cooker"]\n'
    )
    new = [{"item_id": f"new{i}", "title": f"Blue tent {i}", "price": 3.0 + i, "available": True} for i in range(5)]
    retriever.catalogue.apply([*map(Upsert, new), Delete(hits[1].item_id)])
    retriever.catalogue.close()
    return copy


@pytest.fixture(scope="module")
def retriever(run: Path) -> Retriever:
    return Retriever.open(run)


@pytest.fixture(scope="module")
def searches(run: Path, retriever: Retriever) -> list[Search]:
    """Searches of every kind, more than one Faiss search has."""
    requests = read_logged_requests(run / "dataset", "test", 18)
    cheap = parse_filter({"price": {"to": 20}}, retriever.kinds)
    plain = [
        Search(query, 5 + index % 3 * 60, user if index % 2 else None)
        for index, (query, user) in enumerate(zip(requests.queries, requests.users, strict=True))
    ]
    kinds: list[dict[str, Any]] = [
        {"filter": cheap},
        {"channel": "vector"},
        {"channel": "lexical", "filter": cheap},
        {"channel": "rrf"},
        {"caps": {"brand": 1}},
        {"boosts": ((cheap, 3.0),)},
        {"min_probability": 0.05},
        {"explain": False},
        {"history": tuple(hit.item_id for hit in retriever.search("stove", 3))},
        {"facets": ("brand", "price")},
    ]
    variants = [replace(plain[index], **kind) for index, kind in enumerate(kinds)]
    texts = [Search(text, 12) for text in (QUERY, "tnet blau", "camping stove", "🎧", "zzqqx xxyyz", f"{QUERY} 3")]
    return [*plain, *variants, *texts, replace(texts[0], filter=cheap), replace(texts[0], channel="vector")]


def test_a_batch_answers_as_each_search_alone(retriever: Retriever, searches: list[Search]) -> None:
    answers = retriever.answers(searches)
    assert len(answers) == len(searches) > 2 * 16
    for search, answer in zip(searches, answers, strict=True):
        assert answer == retriever.answer(search), search


def test_no_searches(retriever: Retriever) -> None:
    assert retriever.answers([]) == []


def test_a_wrong_search_spoils_no_other(retriever: Retriever) -> None:
    wrong = [Search(QUERY, caps={"brnd": 1}), Search(QUERY, facets=("brand", "colr"))]
    answers = retriever.answers([wrong[0], Search(QUERY), wrong[1]])
    assert answers[1] == retriever.answer(Search(QUERY))
    for answer, message in ((answers[0], "'brnd' to cap"), (answers[2], "'colr' to count")):
        assert isinstance(answer, UsageError)
        assert message in answer.cause
        assert "price" in answer.cure
    for search in wrong:
        with pytest.raises(UsageError):
            retriever.answer(search)


def test_threads_get_the_same_answers(run: Path, searches: list[Search]) -> None:
    retriever = Retriever.open(run, cached_queries=8)
    expected_answers = [retriever.answer(search) for search in searches]

    def ask(seed: int) -> bool:
        order = np.random.default_rng(seed).permutation(len(searches)).tolist()
        answers = retriever.answers([searches[index] for index in order[:10]])
        singly = [retriever.answer(searches[index]) for index in order[10:]]
        return [*answers, *singly] == [expected_answers[index] for index in order]

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(ask, range(2)))


def test_the_spans_are_timed(retriever: Retriever) -> None:
    spans: list[tuple[str, float]] = []
    retriever.answers([Search(QUERY), Search("stove", channel="vector")], lambda *span: spans.append(span))
    assert [span for span, _ in spans] == ["encode", "vector", "words", "rank", "hits"]
    assert all(seconds >= 0 for _, seconds in spans)


def test_without_explaining_the_hits_are_the_same(retriever: Retriever) -> None:
    explained, bare = (retriever.answer(Search(QUERY, 15, explain=explain)).hits for explain in (True, False))
    assert bare == [replace(hit, parts={}, matched=()) for hit in explained]
    assert bare[0].reason == "pinned to place 1 by rule p"
    assert {hit.reason for hit in bare if not hit.moved_by} == {""}
    for hit in explained:
        assert sum(hit.parts.values()) == pytest.approx(hit.score, abs=1e-5)


def test_a_given_history_replaces_that_of_the_log(run: Path, retriever: Retriever) -> None:
    requests = read_logged_requests(run / "dataset", "test", 60)
    user = next(u for u, past in zip(requests.users, requests.history, strict=True) if u and (past >= 0).any())
    items: list[dict[str, Any]] = pq.read_table(DatasetFolder(run / "dataset").items).to_pylist()
    rows = retriever.history.look_up([user], np.array([np.iinfo(np.int64).max])).item_rows[0]
    past = tuple(items[row]["item_id"] for row in rows[::-1].tolist() if row >= 0)
    of_log = retriever.answer(Search(QUERY, 30, user)).hits
    with_history = retriever.answer(Search(QUERY, 30, user, history=past)).hits
    for log_hit, hit in zip(of_log, with_history, strict=True):
        assert log_hit.score == pytest.approx(hit.score, abs=1e-6)
    of_stranger = retriever.answer(Search(QUERY, 30, "stranger")).hits
    assert [hit.score for hit in of_stranger] != [hit.score for hit in of_log]
    unknown = retriever.answer(Search(QUERY, 30, "stranger", history=("nonesuch", "new1"))).hits
    assert unknown == of_stranger, "unknown ids, and items younger than the index, are skipped"
    of_history = retriever.answer(Search(QUERY, 30, "stranger", history=past)).hits
    assert [hit.score for hit in of_history] != [hit.score for hit in of_stranger]
    of_thirty = retriever.answer(Search(QUERY, 30, history=tuple(i["item_id"] for i in items[:30]))).hits
    of_last_ten = retriever.answer(Search(QUERY, 30, history=tuple(i["item_id"] for i in items[20:30]))).hits
    assert of_thirty == of_last_ten, "the last ten count"


def test_facets_count_all_candidates(retriever: Retriever) -> None:
    condition = parse_filter({"price": {"to": 30}}, retriever.kinds)
    facets = ("brand", "category", "price", "available")
    every = retriever.answer(Search(QUERY, 1_000, filter=condition, facets=facets))
    assert 50 < len(every.hits) < 200, "so few that all are candidates"
    assert all(facet.exact for facet in every.facets.values())
    brands = Counter(str(hit.item["brand"]).strip().lower() for hit in every.hits if "brand" in hit.item)
    counts = every.facets["brand"].counts
    assert {brand.lower(): n for brand, n in counts.items()} == dict(
        sorted(brands.items(), key=lambda pair: (-pair[1], pair[0]))[:50]
    )
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    top = comparison_path(next(iter(every.facets["category"].counts)))
    below_top = [
        hit for hit in every.hits if f"{comparison_path(str(hit.item.get('category', '')))} > ".startswith(f"{top} > ")
    ]
    assert max(every.facets["category"].counts.values()) == len(below_top)
    prices = [float(str(hit.item["price"])) for hit in every.hits if "price" in hit.item]
    assert (every.facets["price"].low, every.facets["price"].high) == (min(prices), max(prices))
    assert sum(every.facets["price"].bins) == len(prices)
    assert set(every.facets["available"].counts) == {"true", "false"}


def test_facets_look_deeper_than_the_hits_and_obey_filter_and_cuts(retriever: Retriever) -> None:
    answer = retriever.answer(Search(QUERY, 5, facets=("available",)))
    assert sum(answer.facets["available"].counts.values()) > 100
    condition: Filter = parse_filter({"available": True}, retriever.kinds)
    filtered = retriever.answer(Search(QUERY, 5, filter=condition, facets=("available",)))
    assert set(filtered.facets["available"].counts) == {"true"}
    every = retriever.answer(Search(QUERY, 60)).hits
    threshold = float(np.median([hit.probability or 0.0 for hit in every]))
    cut_answer = retriever.answer(Search(QUERY, 400, min_probability=threshold, facets=("available",)))
    assert sum(cut_answer.facets["available"].counts.values()) == sum(
        "available" in hit.item for hit in cut_answer.hits
    )
    assert Search(QUERY).facets == ()
    assert retriever.answer(Search(QUERY)).facets == {}


def test_vectors_of_queries_are_cached(run: Path) -> None:
    fresh, warm = Retriever.open(run), Retriever.open(run, cached_queries=2)
    searches = [Search("camping stove", 5), Search(" Camping  STOVE", 5), Search("camping stove", 5, "u1")]
    for search in searches:
        assert warm.answer(search) == fresh.answer(search)
    assert warm.lookups == Lookups(hits=1, misses=2)
    assert fresh.lookups == Lookups(0, 0)
    answers: list[Any] = warm.answers([searches[0], Search("tent", 5), searches[2]])
    assert all(isinstance(answer, Answer) for answer in answers)
    assert answers == [fresh.answer(searches[0]), fresh.answer(Search("tent", 5)), fresh.answer(searches[2])]
    assert warm.lookups == Lookups(hits=3, misses=3)


def test_unknown_values_of_a_filter_are_said(retriever: Retriever) -> None:
    items = [hit.item for hit in retriever.search(QUERY, 20)]
    brand = next(str(item["brand"]) for item in items if len(str(item.get("brand", ""))) > 5)
    path = next(str(item["category"]) for item in items if item.get("category"))
    last, known = path.split(" > ")[-1], {"brand": [brand.upper(), f"  {brand} "], "category": path}

    def notes(condition: dict[str, Any]) -> tuple[str, ...]:
        return retriever.answer(Search(QUERY, 3, filter=parse_filter(condition, retriever.kinds))).notes

    assert notes(known) == notes({"price": {"to": 0}}) == notes({"available": False}) == ()
    assert notes({"category": last}) == (f"No item has '{last.lower()}' in 'category'. Did you mean '{path}'?",)
    (note,) = notes({"not": {"brand": brand + "x"}})
    assert note == f"No item has '{brand.lower()}x' in 'brand'. Did you mean '{brand}'?"
    assert notes({"brand": "🔨" * 1_500}) == (f"No item has '{'🔨' * 80}…' in 'brand'.",)
    assert len(notes({"brand": [f"nonesuch {number}" for number in range(1_000)]})) == 5


def test_names_are_filtered_as_people_write_them(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    retriever = Retriever.open(tmp_path / "run", writable=True)
    assert retriever.catalogue is not None
    brands = {"n1": "İstanbul Çay", "n2": "Straße  7", "n3": "Cafe\u0301"}
    retriever.catalogue.apply([Upsert({"item_id": i, "title": QUERY, "brand": b}) for i, b in brands.items()])

    def ids(brand: str) -> list[str]:
        search = Search(QUERY, filter=parse_filter({"brand": brand}, retriever.kinds), facets=("brand",))
        return [hit.item_id for hit in retriever.answer(search).hits]

    for _ in range(2):
        assert ids("istanbul çay") == ids("İSTANBUL ÇAY") == ["n1"]
        assert ids("STRASSE 7") == ids(" strasse   7") == ["n2"]
        assert ids("CAFÉ") == ["n3"]
        retriever.catalogue.compact()  # from the delta into index and columns on disk
