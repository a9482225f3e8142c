"""What the log says was wanted: a sample that time does not order, and pairs that stay with their request."""

import numpy as np
import pyarrow.parquet as pq

from mmse.dataset.folder import DatasetFolder
from mmse.schema.stages import Stage
from mmse.shop import Shop
from mmse.training.targets import read_logged_requests


def test_a_sample_is_spread_over_the_window_and_part_of_any_larger_one(small_shop: Shop) -> None:
    dataset = small_shop.base.parent / "run" / "dataset"
    whole = read_logged_requests(dataset, "test", 10_000, clicked_only=False)
    sample = read_logged_requests(dataset, "test", 40, clicked_only=False)
    assert len(whole) > 100
    assert sample.request_ids == whole.request_ids[:40]
    in_time = sorted(whole.request_ids)
    positions = np.array([in_time.index(request_id) for request_id in sample.request_ids]) / len(in_time)
    assert positions.min() < 0.2
    assert positions.max() > 0.8


def test_every_pair_is_one_the_request_took(small_shop: Shop) -> None:
    dataset = small_shop.base.parent / "run" / "dataset"
    requests = read_logged_requests(dataset, "test", 50)
    rows = [
        row
        for path in DatasetFolder(dataset).row_files("test")
        for row in pq.read_table(path, partitioning=None).to_pylist()
    ]
    clicked_pairs = {(r["request_id"], r["item_row"], r["stage"]) for r in rows if r["stage"] >= Stage.CLICKED}
    request_ids = set(requests.request_ids)
    pairs = [
        (requests.request_ids[r], i, s)
        for r, i, s in zip(requests.request, requests.item_rows, requests.stages, strict=True)
    ]
    assert sorted(pairs) == sorted(pair for pair in clicked_pairs if pair[0] in request_ids)
    assert {requests.request_ids[r] for r in requests.request} == request_ids


def test_no_request_is_no_error(small_shop: Shop) -> None:
    assert len(read_logged_requests(small_shop.base.parent / "run" / "dataset", "test", 0)) == 0
