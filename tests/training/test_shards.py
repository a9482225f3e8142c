"""Shards: which requests teach, and which of their rows are read."""

import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmse.dataset.folder import shard_files
from mmse.mining.reformulations import TABLE
from mmse.model.encoder import Encoder
from mmse.pipeline import Shop
from mmse.schema.stages import Stage
from mmse.text.tokenizer import Bags
from mmse.training.encoded_requests import Requests
from mmse.training.loop import describe
from mmse.training.shards import Shards
from mmse.training.targets import read_logged, read_shown
from training.below_page import add_retrieved


@pytest.fixture(scope="module")
def groups(small_shop: Shop) -> Path:
    return small_shop.base.parent / "run" / "dataset"


@pytest.fixture(scope="module")
def more(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same groups with what was retrieved and not shown."""
    out = tmp_path_factory.mktemp("below") / "dataset"
    assert add_retrieved(dataset, out, pq.read_metadata(dataset / "items.parquet").num_rows) > 1_000
    return out


@pytest.fixture(scope="module")
def encoder(dataset: Path, small_shop: Shop) -> Encoder:
    tokenizer, space = describe(dataset, small_shop.train)
    features = space.encode(pq.read_table(dataset / "items.parquet"), tokenizer)
    return Encoder.fresh(small_shop.train.to_model(), tokenizer, space, features)


def equal(one: object, other: object) -> bool:
    """Whether two records hold the same arrays and values."""
    if isinstance(one, Requests | Bags):
        return all(equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray) else one == other  # type: ignore[arg-type]


def test_what_was_only_retrieved_is_not_read_unless_it_is_asked_for(
    dataset: Path, more: Path, encoder: Encoder
) -> None:
    plain, without = (Shards(folder, encoder, all_stages=False) for folder in (dataset, more))
    assert len(plain) == len(without)
    for (requests, usable), (same, also) in zip(plain.all_usable(), without.all_usable(), strict=True):
        assert equal(requests, same)
        assert equal(usable, also)


def test_what_was_only_retrieved_comes_last_and_was_looked_over_by_nobody(
    dataset: Path, more: Path, encoder: Encoder
) -> None:
    plain = Shards(dataset, encoder, all_stages=False)
    told = Shards(more, encoder, all_stages=False, lowest=Stage.RETRIEVED)
    for (requests, usable), (same, also) in zip(plain.all_usable(), told.all_usable(), strict=True):
        assert equal(usable, also), "a request that took nothing teaches nothing"
        lengths = np.diff(same.offsets) - np.diff(requests.offsets)
        assert (lengths == 2).all()
        below = same.stages == Stage.RETRIEVED
        assert below.sum() == 2 * len(requests)
        assert below[same.offsets[1:] - 1].all()
        assert below[same.offsets[1:] - 2].all()
        assert (same.examination[below] == 1).all()
        assert equal(same.examination[~below], requests.examination)
        assert equal(same.item_rows[~below], requests.item_rows)


def test_what_the_next_request_took_is_a_click_of_the_one_before(
    dataset: Path, more: Path, encoder: Encoder, tmp_path: Path
) -> None:
    """Of a request that took nothing: one item that it was not shown, and one that it is said to have retrieved."""
    path = shard_files(more, "train")[0]
    rows = pq.read_table(path, partitioning=None).to_pylist()
    took = {row["request_id"] for row in rows if row["stage"] >= Stage.CLICKED}
    first = next(row["request_id"] for row in rows if row["request_id"] not in took)
    own = {row["item_row"]: row["stage"] for row in rows if row["request_id"] == first}
    retrieved = next(row for row, stage in own.items() if stage == Stage.RETRIEVED)
    fresh = next(row for row in range(400) if row not in own)
    added = pa.table({"request_id": [first, first], "item_row": pa.array([retrieved, fresh], pa.int32())})
    shutil.copytree(more, tmp_path / "dataset")
    pq.write_table(added, tmp_path / "dataset" / TABLE)
    plain, later = (
        Shards(tmp_path / "dataset", encoder, all_stages=False, lowest=Stage.RETRIEVED, reformulations=said)
        for said in (False, True)
    )
    assert later.n_requests == plain.n_requests + 1
    (before, _), (after, usable) = plain.usable(0), later.usable(0)
    place = sorted({row["request_id"] for row in rows}, key=[row["request_id"] for row in rows].index).index(first)
    assert place in usable
    found = slice(after.offsets[place], after.offsets[place + 1])
    shown = [row for row in own if row != retrieved]
    assert after.item_rows[found].tolist() == [*shown, retrieved, fresh]
    assert after.stages[found].tolist() == [own[row] for row in shown] + [Stage.CLICKED] * 2
    rest, same = (
        np.delete(one.item_rows, np.r_[one.offsets[place] : one.offsets[place + 1]]) for one in (before, after)
    )
    assert equal(rest, same)


def test_evaluation_does_not_see_what_was_not_shown(dataset: Path, more: Path) -> None:
    one, other = (read_logged(folder, "test", 60, clicked_only=False) for folder in (dataset, more))
    shown, same = read_shown(dataset, "test", one), read_shown(more, "test", other)
    for found, again in ((one, other), (shown, same)):
        assert all(equal(getattr(found, f.name), getattr(again, f.name)) for f in fields(found))
    assert (shown.stages >= Stage.UNCLICKED).all()
    assert len(shown.request) > 500
