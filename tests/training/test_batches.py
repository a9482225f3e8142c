"""Batches: what is sampled of a request, what counts as a negative, and how often it was to be expected."""

import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Int8

from mmse.dataset.folder import DatasetFolder, ItemStats
from mmse.model.encoder import Encoder
from mmse.model.recipes import Recipe, StageWeights
from mmse.schema.stages import Stage
from mmse.shop import Shop
from mmse.text.tokenizer import Bags
from mmse.training.batches import (
    MAX_CLICKED,
    MAX_RETRIEVED,
    Batches,
    Dropout,
    mask_reached,
    pool_correction,
    sample_group,
)
from mmse.training.encoded_requests import EncodedRequests
from mmse.training.setup import fit_inputs
from mmse.training.shards import Shards

NO_TEXT = Bags(np.zeros(2, np.int64), np.zeros(0, np.int32))


def requests_of(stages: list[list[int]]) -> EncodedRequests:
    """Requests of the given stages; item rows are 0, 1, 2, … over all of them."""
    flat: Int8[np.ndarray, " rows"] = np.array([s for page in stages for s in page], np.int8)
    n = len(stages)
    return EncodedRequests(
        snapshot=0,
        texts=NO_TEXT,
        memory=np.zeros(1, np.int64),
        query=np.zeros(n, np.int32),
        user=np.zeros(n, np.int64),
        history=np.full((n, 1), -1, np.int32),
        offsets=np.cumsum([0, *map(len, stages)]).astype(np.int64),
        item_rows=np.arange(len(flat), dtype=np.int32),
        stages=flat,
        examination=np.linspace(0.1, 1, len(flat), dtype=np.float32),
        explored=np.arange(len(flat)) % 2 == 0,
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(Stage.RETRIEVED, Stage.ORDERED), min_size=1, max_size=25), min_size=1, max_size=6),
    st.integers(2, 9),
    st.integers(0, 99),
)
def test_a_group_takes_orders_carts_some_clicks_unclicked_and_few_retrieved(
    pages: list[list[int]], size: int, seed: int
) -> None:
    requests = requests_of(pages)
    weights = StageWeights(retrieved=0.25, unclicked=0.5, clicked=1.0, carted=1.5, ordered=2.0)
    group = sample_group(requests, np.arange(len(pages)), size, np.random.default_rng(seed))
    for r, page in enumerate(pages):
        real = group.item_rows[r] >= 0
        rows, stages = group.item_rows[r][real], group.stages[r][real]
        assert len(set(rows.tolist())) == len(rows)
        assert (requests.stages[rows] == stages).all()
        np.testing.assert_array_equal(requests.examination[rows], group.examination[r][real])
        unclicked = stages == Stage.UNCLICKED
        np.testing.assert_array_equal(group.weights(weights)[r][real][unclicked], 0.5 * (rows[unclicked] % 2))
        assert not group.weights(weights)[r][~real].any()
        n_free, clicked = size, page.count(Stage.CLICKED)
        n_first, surplus = min(clicked, MAX_CLICKED), max(clicked - MAX_CLICKED, 0)
        n_taken = dict.fromkeys(Stage, 0)
        for stage, n_rows in (
            (Stage.ORDERED, page.count(Stage.ORDERED)),
            (Stage.CARTED, page.count(Stage.CARTED)),
            (Stage.CLICKED, n_first),
            (Stage.UNCLICKED, page.count(Stage.UNCLICKED)),
            (Stage.CLICKED, surplus),
            (Stage.RETRIEVED, min(page.count(Stage.RETRIEVED), MAX_RETRIEVED)),
        ):
            n_taken[stage] += min(n_rows, n_free)
            n_free -= min(n_rows, n_free)
        assert {stage: (stages == stage).sum() for stage in Stage} == n_taken


def test_what_a_recipe_does_not_read_counts_as_what_it_reads() -> None:
    """To one that reads shown and clicked, a cart or an order is a click, and what was only retrieved is not there."""
    requests = requests_of([[Stage.RETRIEVED, Stage.UNCLICKED, Stage.CLICKED, Stage.CARTED, Stage.ORDERED]])
    group = sample_group(
        requests, np.arange(1), 6, np.random.default_rng(0), Recipe(reads=("unclicked", "clicked")).stage_map
    )
    assert sorted(group.stages[0].tolist()) == [0, 0, Stage.UNCLICKED, *[Stage.CLICKED] * 3]
    assert sorted(group.item_rows[0].tolist()) == [-1, -1, 1, 2, 3, 4]


def test_the_sign_of_logq() -> None:
    """Drawn 8 times where 8 were expected weighs 1, drawn twice where 8 were expected 1/4, twice where 1 was, 2.

    With the sign reversed these would be 64, 16 and 2, without a correction 8, 2 and 2.
    """
    copies, expected_copies = np.array([8.0, 2.0, 2.0]), np.array([8.0, 8.0, 1.0])
    assert np.exp(pool_correction(copies, expected_copies, logq=True)).tolist() == pytest.approx([1, 1 / 4, 2])
    assert np.exp(pool_correction(copies, expected_copies, logq=False)).tolist() == pytest.approx([8, 2, 2])


def test_the_corrected_pool_estimates_the_sum_over_the_catalogue() -> None:
    """Over many draws, Σ over the pool of e^s · copies / expected is the sum of e^s over all items."""
    rng = np.random.default_rng(0)
    scores, chance = rng.normal(size=50), rng.dirichlet(np.ones(50))
    expected_copies = 20 / 50 + 30 * chance
    sums = []
    for _ in range(4_000):
        sample = np.concatenate([rng.integers(0, 50, 20), rng.choice(50, 30, p=chance)])
        copies = np.bincount(sample, minlength=50).astype(float)
        pool = np.flatnonzero(copies)
        weights = np.exp(pool_correction(copies[pool], expected_copies[pool], logq=True))
        sums.append((np.exp(scores[pool]) * weights).sum())
    assert np.mean(sums) == pytest.approx(np.exp(scores).sum(), rel=0.03)


def test_what_the_query_reached_elsewhere_is_masked() -> None:
    """Requests 0 and 2 ask the same: each has the other's items masked; request 1 asks something else."""
    query = np.array([7, 5, 7], np.int32)
    columns = np.array([[0, 1], [2, 0], [3, 0]])
    present = np.array([[True, True], [True, False], [True, False]])
    is_reached = mask_reached(query, columns, present, 4)
    assert is_reached.tolist() == [[True, True, False, True], [False, False, True, False], [True, True, False, True]]
    own = mask_reached(np.arange(3, dtype=np.int32), columns, present, 4)
    assert own.tolist() == [[True, True, False, False], [False, False, True, False], [False, False, False, True]]


@pytest.fixture(scope="module")
def batches(small_shop: Shop) -> Batches:
    dataset = small_shop.base.parent / "run" / "dataset"
    tokenizer, space = fit_inputs(dataset, small_shop.train)
    items = pq.read_table(DatasetFolder(dataset).items)
    features = space.encode(items, tokenizer)
    encoder = Encoder.create(small_shop.train.to_model(), tokenizer, space, features)
    shards = Shards(dataset, encoder, all_stages=False)
    return Batches(
        shards,
        features,
        encoder.towers.sizes,
        Recipe(n_random=64, in_batch="shown"),
        batch_requests=64,
        group_size=8,
        dropout=Dropout(),
        seed=5,
    )


def test_an_epoch_is_the_same_from_any_position(batches: Batches) -> None:
    whole = list(batches.epoch(1))
    assert len(whole) == len(batches)
    for batch, resumed_batch in zip(whole[3:], batches.epoch(1, start=3), strict=True):
        assert batch.columns.equal(resumed_batch.columns)
        assert batch.items.text.rows.equal(resumed_batch.items.text.rows)
        assert batch.queries.user.equal(resumed_batch.queries.user)


def test_an_epoch_holds_every_usable_request_once_and_the_next_in_another_order(batches: Batches) -> None:
    assert sum(map(len, batches.epoch(0))) == batches.shards.n_requests
    first_batch, second_batch = next(batches.epoch(0)), next(batches.epoch(1))
    assert first_batch.columns.shape != second_batch.columns.shape or not first_batch.columns.equal(
        second_batch.columns
    )


def test_every_request_of_a_batch_has_something_clicked_and_its_own_items_masked(batches: Batches) -> None:
    for batch in batches.epoch(0):
        assert (batch.stages >= Stage.CLICKED).any(dim=1).all()
        for r in range(len(batch)):
            own = batch.columns[r][batch.stages[r] > 0]
            assert batch.exclusions[r, torch.isin(batch.negatives, own)].all()


def test_item_statistics_come_from_before_the_period(batches: Batches, small_shop: Shop) -> None:
    counts = ItemStats.open(small_shop.base.parent / "run" / "dataset")
    assert not batches.shards.statistics(0).any()
    for snapshot in range(1, counts.snapshots.end + 1):
        assert (counts.at(snapshot) >= counts.at(snapshot - 1)).all()


def test_how_often_an_item_is_drawn_adds_up(batches: Batches) -> None:
    per_request = [len(b.columns[b.stages > 0]) / len(b) for b in batches.epoch(0)]
    assert batches.draws.sum() == pytest.approx(np.mean(per_request), rel=0.1)
    assert math.isfinite(float(batches.draws.max()))
