"""One list for each search: pages are parts of it, facets count it, sorting orders it, and the report measures it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmse.catalogue import Change, Delete, Upsert
from mmse.core.errors import UsageError
from mmse.evaluation.channels import QueryBatch, Subject
from mmse.ranking.candidates import block_ends
from mmse.retrieval.retriever import Retriever
from mmse.schema.filters import parse_filter
from mmse.schema.search import Channel, Hit, Search
from mmse.training.targets import read_logged_requests

QUERY = "blue tent"
QUERIES = (QUERY, "camping stove", "zzqqx", "red lamp for the garden", "a")
FILTERS: tuple[dict[str, Any] | None, ...] = (None, {"price": {"to": 30}}, {"available": True}, {"price": {"to": -1}})


@pytest.fixture(scope="module")
def retriever(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    """The small run with edits, and with rules that pin, bury and boost for one of the queries."""
    copy = tmp_path_factory.mktemp("pages") / "run"
    shutil.copytree(small_run, copy)
    editor = Retriever.open(copy, writable=True)
    assert editor.rulebook is not None
    assert editor.catalogue is not None
    ids = [hit.item_id for hit in editor.search(QUERY, 200)]
    pins = "".join(
        f'[[pin]]\nname = "p{place}"\nquery = "{QUERY}"\nitems = ["{item}"]\nplace = {place}\n'
        for place, item in ((3, ids[150]), (60, ids[9]), (101, ids[4]), (130, ids[199]), (1_000, ids[40]))
    )
    editor.rulebook.publish(
        f'{pins}[[bury]]\nname = "b"\nquery = "{QUERY}"\nitems = {ids[:3]}\n'
        f'[[boost]]\nname = "o"\nquery = "{QUERY}"\nwhere = {{ available = true }}\nfactor = 3.0\n'
    )
    new = [{"item_id": f"new{i}", "title": f"Blue tent {i}", "price": 3.0 + i, "available": True} for i in range(5)]
    groups = [Change(item, {"item_group": f"g{place % 7}"}) for place, item in enumerate(ids) if 30 <= place < 60]
    editor.catalogue.apply([*map(Upsert, new), *groups, Delete(ids[20])])
    editor.catalogue.close()
    return Retriever.open(copy)


CUTS: tuple[dict[str, Any], ...] = ({}, {"min_probability": 0.05}, {"target_precision": 0.1}, {"min_probability": 1.0})
SEARCHES = st.fixed_dictionaries(
    {
        "query": st.sampled_from(QUERIES),
        "channel": st.sampled_from(get_args(Channel)),
        "caps": st.sampled_from(({}, {"brand": 1}, {"brand": 2, "category": 5})),
        "sort": st.sampled_from((None, None, "price", "-rating")),
    }
)
"""Searches of every kind for the whole list."""


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    options=SEARCHES,
    cut=st.sampled_from(CUTS),
    condition=st.sampled_from(FILTERS),
    sizes=st.lists(st.integers(1, 170), min_size=1, max_size=12),
)
def test_pages_are_the_list(
    retriever: Retriever,
    options: dict[str, Any],
    cut: dict[str, Any],
    condition: dict[str, Any] | None,
    sizes: list[int],
) -> None:
    search = Search(k=1_000, explain=False, **options, **(cut if options["channel"] == "hybrid" else {}))
    if condition is not None:
        search = replace(search, filter=parse_filter(condition, retriever.kinds))
    every = retriever.answer(search).hits
    assert [hit.rank for hit in every] == list(range(1, len(every) + 1))
    assert len({hit.item_id for hit in every}) == len(every)
    hits: list[Hit] = []
    for size in sizes:
        hits += retriever.answer(replace(search, k=size, offset=len(hits))).hits
    assert hits == every[: sum(sizes)]
    assert retriever.answer(replace(search, k=sizes[0])).hits == every[: sizes[0]], "whatever k is"


def test_an_answer_behind_the_last_hit_is_empty_and_still_a_match(retriever: Retriever) -> None:
    answer = retriever.answer(Search(QUERY, 10, offset=5_000))
    assert answer.hits == []
    assert not answer.no_good_match


def test_pins_keep_their_places_on_every_page(retriever: Retriever) -> None:
    pins = {h.rank: h.moved_by for h in retriever.answer(Search(QUERY, 140)).hits if "pinned" in " ".join(h.moved_by)}
    assert set(pins) == {3, 60, 101, 130}
    last = retriever.answer(Search(QUERY, 1_000)).hits[-1]
    assert last.moved_by == ("pinned to place 1000 by rule p1000",), "behind the last hit where the list is shorter"


def test_blocks_end_where_the_list_is_long_enough() -> None:
    assert [list(block_ends(n)) for n in (1, 100, 101, 10_001)] == [
        [100],
        [100],
        [100, 1_000],
        [100, 1_000, 10_000, 100_000],
    ]


@pytest.mark.parametrize("sort", ["price", "-price"])
def test_a_sorted_list_holds_what_is_relevant(retriever: Retriever, sort: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmse.retrieval.rank.RELEVANT_SHARE", 0.7)  # this small model tells items apart a little
    hits = retriever.answer(Search(QUERY, 1_000, sort=sort)).hits
    prices = [float(str(hit.item.get("price", math.nan))) for hit in hits]
    known = [price for price in prices if not math.isnan(price)]
    assert known == sorted(known, reverse=sort.startswith("-"))
    assert not any(math.isnan(price) for price in prices[: len(known)]), "items without a price come last"
    by_relevance = retriever.answer(Search(QUERY, 1_000)).hits
    best = max(hit.probability or 0.0 for hit in by_relevance)
    relevant_ids = {hit.item_id for hit in by_relevance if (hit.probability or 0.0) >= 0.7 * best}
    assert {hit.item_id for hit in hits} == relevant_ids
    assert 0 < len(hits) < len(by_relevance)


def test_only_numbers_sort(retriever: Retriever) -> None:
    with pytest.raises(UsageError, match="no column 'title' of numbers to sort by"):
        retriever.answer(Search(QUERY, sort="-title"))
    with pytest.raises(UsageError, match="offset is -1"):
        Search(QUERY, offset=-1)


def test_a_click_on_a_facet_finds_as_many_or_more(retriever: Retriever) -> None:
    probability = retriever.answer(Search(QUERY, 5)).hits[-1].probability or 0.0
    cut: tuple[dict[str, Any], ...] = ({}, {"min_probability": probability}, {"channel": "lexical"}, {"k": 100})
    exact = []
    for options in cut:
        search = Search(QUERY, 24, facets=("brand",), explain=False)
        facet = retriever.answer(replace(search, **options)).facets["brand"]
        assert retriever.answer(replace(search, **(options | {"k": 300}))).facets["brand"] == facet, "whatever k is"
        exact.append(facet.exact)
        for brand, count in facet.counts.items():
            condition = parse_filter({"brand": brand}, retriever.kinds)
            click = replace(search, **(options | {"k": 1_000}), filter=condition, facets=())
            n = len(retriever.answer(click).hits)
            assert n == count if facet.exact else n >= count, (brand, options)
    assert exact[1], "no item but the candidates can be likely enough"
    assert not exact[0], "any item is found by its vector"


def test_the_report_measures_what_is_served(small_run: Path) -> None:
    served, subject = Retriever.open(small_run, edits=False), Subject.open(small_run)
    log = read_logged_requests(small_run / "dataset", "test", 1_000)
    histories = [tuple(_ids(served, rows)) for rows in log.history]
    users = [user if history else None for user, history in zip(log.users, histories, strict=True)]
    batch = QueryBatch(log.queries, users, log.history)
    measured = subject.rank(batch.queries, subject.vectors(batch), lambda *_: None).rankings[subject.name]
    asked = zip(batch.queries, users, histories, strict=True)
    for (query, user, history), rows in zip(asked, measured, strict=True):
        answer = served.answer(Search(query, 100, user, history=history, explain=False))
        assert [hit.item_id for hit in answer.hits] == _ids(served, rows[:100])


def _ids(retriever: Retriever, rows: Sequence[int] | np.ndarray) -> list[str]:
    rows = np.asarray(rows, np.int64)
    return [item["item_id"] for item in retriever.snapshot().display_items(rows[rows >= 0])]
