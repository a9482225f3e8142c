"""Search under a filter, measured on the small run: the sorts, the selectivities, and that a miss would show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmse.evaluation.filtered import SHARES, filtered_recall
from mmse.evaluation.served import Questions, Served
from mmse.index import ExactIndex
from mmse.training.logged import read_logged


@pytest.fixture(scope="module")
def served(small_run: Path) -> Served:
    return Served.open(small_run)


def test_every_sort_and_selectivity_is_looked_at(served: Served, small_run: Path) -> None:
    logged = read_logged(small_run / "groups", "test", 30)
    vectors = served.vectors(Questions(logged.queries, logged.users, logged.history))
    found = filtered_recall(served.retriever, logged, vectors, 30, 0)
    assert {one.sort for one in found} == {"random", "near"}
    assert {one.about for one in found if one.sort == "random"} >= set(SHARES[2:])
    for one in found:
        assert one.searches >= 1
        assert one.full == 1, "as many hits as there are"
        assert one.recall >= 0.98


def test_an_index_that_lost_items_is_seen(served: Served, small_run: Path) -> None:
    logged = read_logged(small_run / "groups", "test", 10)
    vectors = served.vectors(Questions(logged.queries, logged.users, logged.history))
    now = served.retriever.indexed
    half = np.arange(0, now.n_rows, 2, dtype=np.int64)
    index = ExactIndex(vectors.shape[1])
    index.add(half, now.vectors(half))
    lame = replace(served.retriever, indexed=replace(now, base=replace(now.base, index=index)))
    assert min(one.recall for one in filtered_recall(lame, logged, vectors, 10, 0)) < 0.8
