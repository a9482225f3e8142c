"""Off-policy estimates against a truth that is known, and their refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmse.core.errors import TableError
from mmse.experiment.off_policy import estimate
from mmse.experiment.search_log import SearchLog, read_log, weigh_log
from mmse.retrieval.explore import explore
from mmse.sources.tables import EventsConfig

PAGE, ITEMS = 4, 12
LOOKS = np.array([1.0, 0.6, 0.4, 0.3])
RATES = np.linspace(0.5, 0.05, ITEMS)[::-1]
"""The chance that whoever looks clicks an item: the log ranks the worst first."""
NEW = [f"i{item}" for item in range(ITEMS)][::-1][:PAGE]


def logged(n: int, share: float, seed: int = 0) -> SearchLog:
    """What a ranking shows that explores a share of its slots, and what was clicked."""
    rng = np.random.default_rng(seed)
    slots = [explore(ITEMS, PAGE, share, f"{seed}-{row}") for row in range(n)]
    item = np.array([slot.index for row in slots for slot in row])
    look = np.tile(LOOKS, n)
    clicked = rng.random(n * PAGE) < look * RATES[item]
    return SearchLog(
        request_ids=[f"r{row}" for row in range(n)],
        queries=["q"] * n,
        users=[None] * n,
        item_ids=[f"i{i}" for i in range(ITEMS)],
        request=np.repeat(np.arange(n), PAGE),
        item=item,
        slot=np.tile(np.arange(PAGE), n),
        clicked=clicked,
        ordered=np.zeros(n * PAGE, bool),
        explored=np.array([slot.explored for row in slots for slot in row]),
        propensity=np.array([slot.propensity for row in slots for slot in row]),
    )


def test_intervals_hold_the_true_value_of_a_ranking_that_the_log_never_had() -> None:
    truth = float(LOOKS @ RATES[::-1][:PAGE])
    covered = {"ips": 0, "snips": 0, "dr": 0}
    for seed in range(16):
        log = logged(1_500, 0.4, seed)
        estimates = estimate(weigh_log(log, [NEW] * 1_500, LOOKS, "clicks"))
        assert estimates.refusal == ""
        for kind in covered:
            interval = getattr(estimates, kind).interval
            covered[kind] += interval.low <= truth <= interval.high
    assert min(covered.values()) >= 12, covered  # of 16, binomial(16, .95) is below that once in 1,000


def test_the_logged_ranking_itself_has_what_its_slots_earned() -> None:
    log = logged(2_000, 0.2)
    estimates = estimate(weigh_log(log, [[f"i{i}" for i in range(PAGE)]] * 2_000, LOOKS, "clicks"))
    truth = float(LOOKS @ RATES[:PAGE])
    assert estimates.dr.interval.low <= truth <= estimates.dr.interval.high
    assert estimates.mean_weight.estimate == pytest.approx(1, abs=0.05)


def test_nothing_is_said_where_the_log_could_not_show_it() -> None:
    log = logged(500, 1e-12)
    assert "explore more" in estimate(weigh_log(log, [NEW] * 500, LOOKS, "clicks")).refusal


def test_nothing_is_said_of_a_log_whose_chances_cannot_be() -> None:
    log = logged(2_000, 0.4)
    log.propensity[:] /= 3
    assert "propensities" in estimate(weigh_log(log, [NEW] * 2_000, LOOKS, "clicks")).refusal


def test_few_requests_say_nothing() -> None:
    log = logged(60, 0.4)
    assert "Cannot say" in estimate(weigh_log(log, [NEW] * 60, LOOKS, "clicks")).refusal


@pytest.mark.parametrize(("chance", "message"), [(None, "no propensity"), (0.0, "is no chance"), (1.5, "is no chance")])
def test_a_log_without_chances_is_refused(tmp_path: Path, chance: float | None, message: str) -> None:
    pq.write_table(
        pa.table(
            {
                "request_id": ["r1"],
                "timestamp": pa.array([1_700_000_000.0]),
                "query": ["shoe"],
                "item_id": ["a"],
                "position": [1],
                "clicked": [False],
                "ordered": [False],
                "explored": [False],
                "propensity": pa.array([chance], pa.float64()),
            }
        ),
        tmp_path / "log.parquet",
    )
    with pytest.raises(TableError, match=message):
        read_log(EventsConfig(str(tmp_path / "log.parquet")), tmp_path)
