"""Search under a filter, measured on the small run: the sorts, the selectivities, and that a miss would show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmse.evaluation.channels import QueryBatch, Subject
from mmse.evaluation.filter_quality import SELECTIVITIES, _FilterMaker, measure_filters
from mmse.index import ExactIndex
from mmse.index.columns import FilterColumns
from mmse.index.local_store import LocalStore
from mmse.schema.filters import Between, Kind
from mmse.training.targets import read_logged_requests


@pytest.fixture(scope="module")
def subject(small_run: Path) -> Subject:
    return Subject.open(small_run)


def test_every_sort_and_selectivity_is_measured(subject: Subject, small_run: Path) -> None:
    log = read_logged_requests(small_run / "dataset", "test", 30)
    vectors = subject.vectors(QueryBatch(log.queries, log.users, log.history))
    records = measure_filters(subject.retriever, log, vectors, 30, 0)
    assert {record.sort for record in records} == {"random", "near"}
    for sort in ("random", "near"):
        of_sort = [record for record in records if record.sort == sort]
        assert [record.selectivity for record in of_sort] == list(SELECTIVITIES)
        assert sum(record.searches for record in of_sort) == 30 * len(SELECTIVITIES), "one a request and selectivity"
    for record in records:
        assert record.selectivity / 4 < record.share < record.selectivity * 4
        assert record.full == 1, "as many hits as there are"
        assert record.recall >= 0.98


def test_an_index_that_lost_items_shows(subject: Subject, small_run: Path) -> None:
    log = read_logged_requests(small_run / "dataset", "test", 10)
    vectors = subject.vectors(QueryBatch(log.queries, log.users, log.history))
    snapshot = subject.retriever.indexed_snapshot
    half = np.arange(0, snapshot.n_rows, 2, dtype=np.int64)
    index = ExactIndex(vectors.shape[1])
    index.add(half, snapshot.vectors(half))
    store = LocalStore(Path(), index, snapshot.base.vectors, snapshot.base.columns)
    retriever = replace(subject.retriever, indexed_snapshot=replace(snapshot, base=replace(snapshot.base, store=store)))
    assert min(record.recall for record in measure_filters(retriever, log, vectors, 10, 0)) < 0.8


def only_columns(subject: Subject, kinds: dict[str, Kind]) -> Subject:
    """The same run, as if its catalogue could be filtered by `kinds` only."""
    snapshot = subject.retriever.indexed_snapshot
    columns = FilterColumns.from_table(snapshot.table(np.arange(snapshot.n_rows, dtype=np.int64)), kinds)
    changed = replace(snapshot, base=replace(snapshot.base, columns=columns))
    return replace(subject, retriever=replace(subject.retriever, indexed_snapshot=changed))


def test_nothing_is_measured_without_a_column(subject: Subject, small_run: Path) -> None:
    log = read_logged_requests(small_run / "dataset", "test", 5)
    vectors = subject.vectors(QueryBatch(log.queries, log.users, log.history))
    assert measure_filters(only_columns(subject, {}).retriever, log, vectors, 5, 0) == []


def test_a_window_lies_around_the_item_and_is_as_wide_as_asked(subject: Subject) -> None:
    maker = _FilterMaker(only_columns(subject, {"price": Kind.NUMBER}).retriever.snapshot())
    prices = np.array(maker.snapshot.values("price", np.arange(maker.snapshot.n_rows, dtype=np.int64)))
    for row in (int(prices.argmin()), int(prices.argmax()), 7):
        (window,) = maker.windows(row, 0.1)
        assert isinstance(window, Between)
        mask = maker.mask(window)
        assert mask[row]
        assert mask.mean() == pytest.approx(0.1, abs=0.01)


def test_names_stand_in_where_there_is_no_number(subject: Subject) -> None:
    maker = _FilterMaker(only_columns(subject, {"brand": Kind.NAME}).retriever.snapshot())
    condition = maker.random(0.5, np.random.default_rng(0))
    assert condition is not None
    assert maker.mask(condition).mean() == pytest.approx(0.5, abs=0.1)
