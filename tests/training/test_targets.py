"""What the log says was wanted: a sample that time does not order, and pairs that stay with their request."""

import numpy as np
import pyarrow.parquet as pq

from mmse.dataset.folder import shard_files
from mmse.pipeline import Shop
from mmse.schema.stages import Stage
from mmse.training.targets import read_logged


def test_a_sample_is_spread_over_the_window_and_part_of_any_larger_one(small_shop: Shop) -> None:
    groups = small_shop.base.parent / "run" / "dataset"
    whole = read_logged(groups, "test", 10_000, clicked_only=False)
    some = read_logged(groups, "test", 40, clicked_only=False)
    assert len(whole) > 100
    assert some.request_ids == whole.request_ids[:40]
    in_time = sorted(whole.request_ids)
    places = np.array([in_time.index(request_id) for request_id in some.request_ids]) / len(in_time)
    assert places.min() < 0.2
    assert places.max() > 0.8


def test_every_pair_is_one_the_request_took(small_shop: Shop) -> None:
    groups = small_shop.base.parent / "run" / "dataset"
    logged = read_logged(groups, "test", 50)
    rows = [row for path in shard_files(groups, "test") for row in pq.read_table(path, partitioning=None).to_pylist()]
    taken = {(r["request_id"], r["item_row"], r["stage"]) for r in rows if r["stage"] >= Stage.CLICKED}
    asked = set(logged.request_ids)
    pairs = [
        (logged.request_ids[r], i, s) for r, i, s in zip(logged.request, logged.item_rows, logged.stages, strict=True)
    ]
    assert sorted(pairs) == sorted(pair for pair in taken if pair[0] in asked)
    assert {logged.request_ids[r] for r in logged.request} == asked


def test_no_request_is_no_error(small_shop: Shop) -> None:
    assert len(read_logged(small_shop.base.parent / "run" / "dataset", "test", 0)) == 0
