"""The memory of a log: right numbers on a log made by hand, nothing of the future, and no weight without use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmse.core.progress import silent
from mmse.dataset.folder import ROWS_SCHEMA, SNAPSHOTS_SCHEMA, DatasetFolder, period_name
from mmse.ranking.memory import QueryMemory, memory_key
from mmse.ranking.memory_fit import ChoiceSets, learn_memory
from mmse.ranking.memory_log import RATE_LOOKS, MemorySettings, open_memory_log
from mmse.schema.stages import Stage

DAY = 86_400_000_000
START, VALID, TEST, END = (day * DAY for day in (0, 100, 110, 120))
N_ITEMS = 6
SETTINGS = MemorySettings(half_life_days=10.0, popularity_half_life_days=10.0, gains=(1.0, 2.0, 3.0), smoothing=0.5)
Row = tuple[str, int, int, Stage, float]
"""Query, time, item row, stage, examination."""


def write_log(folder: Path, train: Sequence[Row], valid: Sequence[Row] = ()) -> Path:
    """A dataset folder with what a memory reads: rows, snapshots, the number of items."""
    for name, rows in ((period_name(0), train), ("valid", valid), ("test", ())):
        (folder / name).mkdir(parents=True)
        columns = {
            "request_id": [str(number) for number, _ in enumerate(rows)],
            "query": [query for query, *_ in rows],
            "user_id": [None] * len(rows),
            "timestamp": pa.array([time for _, time, *_ in rows], pa.int64()).cast(pa.timestamp("us")),
            "item_row": [item for _, _, item, _, _ in rows],
            "position": [1] * len(rows),
            "stage": [int(stage) for *_, stage, _ in rows],
            "examination": [looks for *_, looks in rows],
            "explored": [False] * len(rows),
        }
        pq.write_table(pa.table(columns).cast(ROWS_SCHEMA), folder / name / "shard-000.parquet")
    moments = pa.array([START, VALID, TEST, END], pa.int64()).cast(pa.timestamp("us"))
    table = pa.table([pa.array(range(4), pa.int16()), moments], schema=SNAPSHOTS_SCHEMA)
    pq.write_table(table, DatasetFolder(folder).snapshots)
    pq.write_table(pa.table({"item_row": range(N_ITEMS)}), DatasetFolder(folder).items)
    return folder


def stem(text: str) -> list[str]:
    return [word.removesuffix("s") for word in text.split()]


def remember(dataset: Path, splits: Sequence[str] = ("train",), settings: MemorySettings = SETTINGS) -> QueryMemory:
    with open_memory_log(dataset, splits, stem) as log:
        return log.remember(settings)


def clicks(n: int, item: int = 1, query: str = "tent", time: int = VALID) -> list[Row]:
    return [(query, time, item, Stage.CLICKED, 1.0)] * n


def left(n: int, item: int, looks: float = 1.0) -> list[Row]:
    return [("tent", VALID, item, Stage.UNCLICKED, looks)] * n


def test_clicks_fade_and_later_stages_count_more(tmp_path: Path) -> None:
    rows = [*clicks(1), *clicks(1, time=VALID - 10 * DAY), ("tent", VALID - 20 * DAY, 2, Stage.ORDERED, 1.0)]
    memory = remember(write_log(tmp_path, rows))
    recollection = memory.recall("tent")
    assert recollection.rows.tolist() == [1, 2]
    np.testing.assert_allclose(memory.gains, [1.5, 3 / 4])
    np.testing.assert_allclose(recollection.evidence, np.log([2.0 / 0.5, 1.25 / 0.5]), rtol=1e-6)
    np.testing.assert_allclose(recollection.of(np.array([5, 1])), [0, np.log(4)], rtol=1e-6)
    assert recollection.candidate_rows.tolist() == [1, 2]


def test_what_was_seen_and_left_is_expected_to_be_taken(tmp_path: Path) -> None:
    memory = remember(write_log(tmp_path, [*clicks(4), *left(6, 1), *left(10, 2)]))
    rate = (4 + RATE_LOOKS * 4 / 20) / (20 + RATE_LOOKS)
    np.testing.assert_allclose(memory.expectations, [10 * rate, 10 * rate], rtol=1e-5)
    evidence = memory.recall("tent").evidence
    np.testing.assert_allclose(evidence, np.log([4.5 / (10 * rate + 0.5), 0.5 / (10 * rate + 0.5)]), rtol=1e-5)
    assert memory.recall("tent").candidate_rows.tolist() == [1]


def test_a_click_where_few_look_says_more(tmp_path: Path) -> None:
    low = [("tent", VALID, 3, Stage.CLICKED, 0.2)] * 4
    memory = remember(write_log(tmp_path, [*clicks(4), *left(16, 1), *low, *left(16, 3, looks=0.2)]))
    top, bottom = memory.recall("tent").evidence
    assert bottom > top + 1
    assert memory.popularity[3] > memory.popularity[1]


def test_a_log_of_clicks_alone_expects_nothing_of_a_query(tmp_path: Path) -> None:
    memory = remember(write_log(tmp_path, [*clicks(9), *clicks(1, item=2)]))
    assert memory.expectations.tolist() == [0, 0]
    np.testing.assert_allclose(memory.popularity, [0, np.log(10 / 6), np.log(2 / 6), 0, 0, 0], rtol=1e-5, atol=1e-7)
    assert memory.highest_popularity(np.array([1])) == 0.0
    assert memory.highest_popularity(np.array([2])) == pytest.approx(np.log(10 / 6))
    assert memory.popularity_of(np.array([1, N_ITEMS + 3])).tolist() == [memory.popularity[1], 0]


def test_a_memory_sees_nothing_of_the_window_behind_it(tmp_path: Path) -> None:
    dataset = write_log(tmp_path, clicks(2), [("tent", VALID + DAY, 4, Stage.CLICKED, 1.0)] * 5)
    assert remember(dataset).recall("tent").rows.tolist() == [1]
    assert remember(dataset).popularity[4] == 0
    until_test = remember(dataset, ("train", "valid"))
    assert until_test.recall("tent").rows.tolist() == [1, 4]
    np.testing.assert_allclose(until_test.gains, [2 * 0.5, 5 * 0.5**0.9], rtol=1e-5)
    with open_memory_log(dataset, ("train",), stem) as log:
        assert (log.moment, log.next_days) == (VALID, 10.0)


def test_the_forms_of_a_query_share_a_memory(tmp_path: Path) -> None:
    rows = [*clicks(1, query="blue tents"), *clicks(1, query="bluetent"), *clicks(1, query="blue-tent", item=2)]
    memory = remember(write_log(tmp_path, rows))
    assert len(memory) == 1
    assert memory.recall(memory_key("Blue tent", stem)).rows.tolist() == [1, 2]
    assert len(memory.recall(memory_key("red tent", stem)).rows) == 0
    assert memory_key("🎧", stem) == "🎧"


def test_a_saved_memory_is_the_same(tmp_path: Path) -> None:
    memory = remember(write_log(tmp_path / "log", [*clicks(3), *clicks(2, query="kettle", item=5)]))
    memory.save(tmp_path)
    reopened = QueryMemory.open(tmp_path, memory.smoothing)
    assert reopened.recall("kettle").evidence.tolist() == memory.recall("kettle").evidence.tolist()
    assert reopened.recall("kettle").rows.tolist() == [5]
    QueryMemory.empty().save(tmp_path)
    for empty in (QueryMemory.empty(), QueryMemory.open(tmp_path, 1.0)):
        assert empty.recall("kettle").rows.tolist() == []
        assert empty.highest_popularity(np.array([0])) == 0.0


def choices(chosen_items: Sequence[int], n: int = 200) -> ChoiceSets:
    """Requests, of two queries in turn, that chose among four items of the same score `chosen_items`, in turn."""
    keys = ["tent" if number % 2 else "stove" for number in range(n)]
    zeros = np.zeros(4 * n)
    starts = np.arange(n + 1, dtype=np.int64) * 4
    rows = np.tile(np.arange(1, 5, dtype=np.int64), n)
    chosen = np.array([chosen_items[number // 2 % len(chosen_items)] - 1 for number in range(n)])
    return ChoiceSets(keys, np.zeros(n, bool), starts, rows, zeros, zeros, starts[:-1] + chosen)


def test_a_memory_that_tells_what_is_chosen_has_a_weight_and_no_other(tmp_path: Path) -> None:
    rows = [row for query in ("tent", "stove") for row in [*clicks(20, query=query), *clicks(1, item=2, query=query)]]
    with open_memory_log(write_log(tmp_path, rows), ("train",), stem) as log:
        repeated, other = choices([1]), choices([1, 2, 3, 4])
        fit = learn_memory(log, repeated, repeated, has_orders=False, progress=silent)
        assert fit is not None
        assert sum(fit.weights) > 0.05
        assert fit.gain > 0.5
        assert fit.settings.half_life_days >= log.next_days, "it has to last as long as the window"
        assert learn_memory(log, other, other, has_orders=False, progress=silent) is None
        few = repeated.head(50)
        assert learn_memory(log, few, few, has_orders=False, progress=silent) is None


def test_smoothing_draws_evidence_to_nothing(tmp_path: Path) -> None:
    memory = remember(write_log(tmp_path, clicks(2)))
    values = [replace(memory, smoothing=s).recall("tent").evidence[0] for s in (0.1, 1.0, 100.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.05
