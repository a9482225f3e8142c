"""Search under a filter, measured on the small run: the sorts, the selectivities, and that a miss would show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmse.evaluation.channels import Questions, Served
from mmse.evaluation.filter_quality import SHARES, _Masks, filtered_recall
from mmse.index import ExactIndex
from mmse.index.columns import Columns
from mmse.schema.filters import Between, Kind
from mmse.training.targets import read_logged


@pytest.fixture(scope="module")
def served(small_run: Path) -> Served:
    return Served.open(small_run)


def test_every_sort_and_selectivity_is_looked_at(served: Served, small_run: Path) -> None:
    logged = read_logged(small_run / "dataset", "test", 30)
    vectors = served.vectors(Questions(logged.queries, logged.users, logged.history))
    found = filtered_recall(served.retriever, logged, vectors, 30, 0)
    assert {one.sort for one in found} == {"random", "near"}
    for sort in ("random", "near"):
        those = [one for one in found if one.sort == sort]
        assert [one.about for one in those] == list(SHARES)
        assert sum(one.searches for one in those) == 30 * len(SHARES), "one search a request and selectivity"
    for one in found:
        assert one.about / 4 < one.share < one.about * 4
        assert one.full == 1, "as many hits as there are"
        assert one.recall >= 0.98


def test_an_index_that_lost_items_is_seen(served: Served, small_run: Path) -> None:
    logged = read_logged(small_run / "dataset", "test", 10)
    vectors = served.vectors(Questions(logged.queries, logged.users, logged.history))
    now = served.retriever.indexed
    half = np.arange(0, now.n_rows, 2, dtype=np.int64)
    index = ExactIndex(vectors.shape[1])
    index.add(half, now.vectors(half))
    lame = replace(served.retriever, indexed=replace(now, base=replace(now.base, index=index)))
    assert min(one.recall for one in filtered_recall(lame, logged, vectors, 10, 0)) < 0.8


def only_columns(served: Served, kinds: dict[str, Kind]) -> Served:
    """The same run, were its catalogue filterable by `kinds` alone."""
    now = served.retriever.indexed
    columns = Columns.of(now.table(np.arange(now.n_rows, dtype=np.int64)), kinds)
    indexed = replace(now, base=replace(now.base, columns=columns))
    return replace(served, retriever=replace(served.retriever, indexed=indexed))


def test_nothing_is_measured_without_a_column(served: Served, small_run: Path) -> None:
    logged = read_logged(small_run / "dataset", "test", 5)
    vectors = served.vectors(Questions(logged.queries, logged.users, logged.history))
    assert filtered_recall(only_columns(served, {}).retriever, logged, vectors, 5, 0) == []


def test_a_window_lies_around_the_item_and_is_as_wide_as_asked(served: Served) -> None:
    masks = _Masks(only_columns(served, {"price": Kind.NUMBER}).retriever.snapshot())
    prices = np.array(masks.now.values("price", np.arange(masks.now.n_rows, dtype=np.int64)))
    for row in (int(prices.argmin()), int(prices.argmax()), 7):
        (window,) = masks.windows(row, 0.1)
        assert isinstance(window, Between)
        mask = masks.of(window)
        assert mask[row]
        assert mask.mean() == pytest.approx(0.1, abs=0.01)


def test_names_stand_in_where_there_is_no_number(served: Served) -> None:
    masks = _Masks(only_columns(served, {"brand": Kind.NAME}).retriever.snapshot())
    only = masks.at_random(0.5, np.random.default_rng(0))
    assert only is not None
    assert masks.of(only).mean() == pytest.approx(0.5, abs=0.1)
