"""Shards: which requests teach, and which of their rows are read."""

import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmse.dataset.folder import DatasetFolder
from mmse.model.encoder import Encoder
from mmse.model.recipes import RECIPES
from mmse.schema.stages import Stage
from mmse.shop import Shop
from mmse.text.tokenizer import Bags
from mmse.training.batches import Batches, Dropout
from mmse.training.catalogue_requests import MIN_REQUESTS
from mmse.training.encoded_requests import EncodedRequests
from mmse.training.setup import fit_inputs
from mmse.training.shards import Shards
from mmse.training.targets import read_logged_requests, read_slots
from training.below_page import add_retrieved


@pytest.fixture(scope="module")
def dataset(small_shop: Shop) -> Path:
    return small_shop.base.parent / "run" / "dataset"


@pytest.fixture(scope="module")
def dataset_with_retrieved(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same dataset with what was retrieved and not shown."""
    target = tmp_path_factory.mktemp("below") / "dataset"
    assert add_retrieved(dataset, target, pq.read_metadata(DatasetFolder(dataset).items).num_rows) > 1_000
    return target


@pytest.fixture(scope="module")
def encoder(dataset: Path, small_shop: Shop) -> Encoder:
    tokenizer, space = fit_inputs(dataset, small_shop.train)
    features = space.encode(pq.read_table(DatasetFolder(dataset).items), tokenizer)
    return Encoder.create(small_shop.train.to_model(), tokenizer, space, features)


def equal(a: object, b: object) -> bool:
    """Whether two records hold the same arrays and values."""
    if isinstance(a, EncodedRequests | Bags):
        return all(equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else a == b  # type: ignore[arg-type]


def test_what_was_only_retrieved_is_not_read_unless_it_is_asked_for(
    dataset: Path, dataset_with_retrieved: Path, encoder: Encoder
) -> None:
    plain, shown_only = (Shards(folder, encoder, all_stages=False) for folder in (dataset, dataset_with_retrieved))
    assert len(plain) == len(shown_only)
    for (requests, usable), (other_requests, other_usable) in zip(
        plain.read_all_usable(), shown_only.read_all_usable(), strict=True
    ):
        assert equal(requests, other_requests)
        assert equal(usable, other_usable)


def test_what_was_only_retrieved_comes_last_and_was_looked_over_by_nobody(
    dataset: Path, dataset_with_retrieved: Path, encoder: Encoder
) -> None:
    plain = Shards(dataset, encoder, all_stages=False)
    all_stages = Shards(dataset_with_retrieved, encoder, all_stages=False, lowest=Stage.RETRIEVED)
    for (requests, usable), (other_requests, other_usable) in zip(
        plain.read_all_usable(), all_stages.read_all_usable(), strict=True
    ):
        assert equal(usable, other_usable), "a request that took nothing teaches nothing"
        lengths = np.diff(other_requests.offsets) - np.diff(requests.offsets)
        assert (lengths == 2).all()
        is_retrieved = other_requests.stages == Stage.RETRIEVED
        assert is_retrieved.sum() == 2 * len(requests)
        assert is_retrieved[other_requests.offsets[1:] - 1].all()
        assert is_retrieved[other_requests.offsets[1:] - 2].all()
        assert (other_requests.examination[is_retrieved] == 1).all()
        assert equal(other_requests.examination[~is_retrieved], requests.examination)
        assert equal(other_requests.item_rows[~is_retrieved], requests.item_rows)


def test_what_the_next_request_took_is_a_click_of_the_one_before(
    dataset: Path, dataset_with_retrieved: Path, encoder: Encoder, tmp_path: Path
) -> None:
    """Of a request that took nothing: one item that it was not shown, and one that it is said to have retrieved."""
    path = DatasetFolder(dataset_with_retrieved).row_files("train")[0]
    rows = pq.read_table(path, partitioning=None).to_pylist()
    took = {row["request_id"] for row in rows if row["stage"] >= Stage.CLICKED}
    request_id = next(row["request_id"] for row in rows if row["request_id"] not in took)
    own = {row["item_row"]: row["stage"] for row in rows if row["request_id"] == request_id}
    retrieved = next(row for row, stage in own.items() if stage == Stage.RETRIEVED)
    fresh = next(row for row in range(400) if row not in own)
    clicks = pa.table({"request_id": [request_id, request_id], "item_row": pa.array([retrieved, fresh], pa.int32())})
    shutil.copytree(dataset_with_retrieved, tmp_path / "dataset")
    pq.write_table(clicks, DatasetFolder(tmp_path / "dataset").reformulations)
    plain, with_clicks = (
        Shards(tmp_path / "dataset", encoder, all_stages=False, lowest=Stage.RETRIEVED, reformulations=reformulations)
        for reformulations in (False, True)
    )
    assert with_clicks.n_requests == plain.n_requests + 1
    (plain_requests, _), (new_requests, usable) = plain.read_usable(0), with_clicks.read_usable(0)
    index = sorted({row["request_id"] for row in rows}, key=[row["request_id"] for row in rows].index).index(request_id)
    assert index in usable
    row_slice = slice(new_requests.offsets[index], new_requests.offsets[index + 1])
    page_items = [row for row in own if row != retrieved]
    assert new_requests.item_rows[row_slice].tolist() == [*page_items, retrieved, fresh]
    assert new_requests.stages[row_slice].tolist() == [own[row] for row in page_items] + [Stage.CLICKED] * 2
    plain_rest, new_rest = (
        np.delete(requests.item_rows, np.r_[requests.offsets[index] : requests.offsets[index + 1]])
        for requests in (plain_requests, new_requests)
    )
    assert equal(plain_rest, new_rest)


def test_evaluation_does_not_see_what_was_not_shown(dataset: Path, dataset_with_retrieved: Path) -> None:
    requests, other_requests = (
        read_logged_requests(folder, "test", 60, clicked_only=False) for folder in (dataset, dataset_with_retrieved)
    )
    slots, other_slots = (
        read_slots(dataset, "test", requests),
        read_slots(dataset_with_retrieved, "test", other_requests),
    )
    for a, b in ((requests, other_requests), (slots, other_slots)):
        assert all(equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    assert (slots.stages >= Stage.UNCLICKED).all()
    assert len(slots.request) > 500


def test_a_log_with_few_clicks_is_filled_up_from_the_catalogue(dataset: Path, encoder: Encoder) -> None:
    plain = Shards(dataset, encoder, all_stages=False)
    assert plain.n_from_log == plain.n_requests
    enough = Shards(dataset, encoder, all_stages=False, catalogue_below=plain.n_requests)
    limit = plain.n_requests + 1
    few = Shards(dataset, encoder, all_stages=False, catalogue_below=limit, catalogue_stage=Stage.ORDERED)
    assert enough.usable_counts == plain.usable_counts
    assert few.usable_counts == [*plain.usable_counts, MIN_REQUESTS]
    assert few.n_from_log == plain.n_requests
    requests, usable = few.read_usable(len(plain))
    assert len(usable) == len(requests) == MIN_REQUESTS
    assert requests.from_catalogue
    assert not requests.memory.any(), "nobody asked these queries"
    assert (requests.stages == Stage.ORDERED).all()
    assert not few.statistics(requests.snapshot).any(), "nothing was counted before the log"
    assert not few.read_usable(0)[0].from_catalogue


def test_with_slips_each_query_is_encoded_a_second_time_and_remembered_once(dataset: Path, encoder: Encoder) -> None:
    plain, slips, again = (
        Shards(dataset, encoder, all_stages=False, has_slips=has_slips).read_usable(0)[0]
        for has_slips in (False, True, True)
    )
    n = len(plain.memory)
    assert (len(slips.texts), len(slips.memory)) == (2 * n, n)
    assert equal(slips.texts.take(np.arange(n)), plain.texts)
    second = slips.texts.take(np.arange(n, 2 * n))
    assert not np.array_equal(second.grains, plain.texts.grains)
    assert equal(slips, again)


def test_a_query_with_a_slip_is_known_by_nothing_else(dataset: Path, small_shop: Shop, encoder: Encoder) -> None:
    shards = Shards(dataset, encoder, all_stages=False, has_slips=True)
    items = pq.read_table(DatasetFolder(dataset).items)
    features = encoder.space.encode(items, encoder.tokenizer)
    requests, usable = shards.read_usable(0)
    rows = usable[:40]
    for share in (0.0, 1.0):
        batches = Batches(
            shards,
            features,
            encoder.towers.sizes,
            RECIPES["mmse"],
            batch_requests=40,
            group_size=4,
            dropout=Dropout(query=0.0, slips=share),
            seed=0,
        )
        queries = batches.make_batch(requests, rows, np.random.default_rng(0)).queries
        texts = requests.texts.take(requests.query[rows].astype(np.int64) + int(share) * len(requests.memory))
        np.testing.assert_array_equal(queries.text.rows.numpy(), texts.grains)
        assert bool((queries.memory == 0).all()) == bool(share)
