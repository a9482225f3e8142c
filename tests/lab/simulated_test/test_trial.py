"""A simulated test from end to end: two rounds behind the real server."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from mmse.core.errors import UsageError
from mmse.lab.simulated_test.arms import Arm
from mmse.lab.simulated_test.trial import OUTCOME, TrialConfig, simulate, table_of
from mmse.lab.simulated_test.world import OnlineConfig
from mmse.lab.simulator.simulate import MarketConfig


def test_shoppers_meet_the_server_and_the_next_round_learns_from_it(tmp_path: Path) -> None:
    online = OnlineConfig(MarketConfig(n_items=800), log_days=8, round_days=3, rounds=2, requests_a_day=150)
    arms = {"bm25": Arm("mmse", "lexical"), "mmse": Arm("mmse")}
    went = simulate(TrialConfig(online, arms, exploration=0.2), tmp_path)
    assert [one.number for one in went] == [1, 2]
    for one in went:
        assert sum(arm.requests for arm in one.arms.values()) > 300
        assert all(0 < arm.true_orders < 1 and 0 < arm.shown_items <= 1 for arm in one.arms.values())
        assert one.analysis is not None
        assert {seen.name for seen in one.analysis.arms} == set(arms)
        assert "imulated" in (tmp_path / f"round-{one.number}.html").read_text("utf-8")
    assert len(table_of(went)) == 4
    assert len(json.loads((tmp_path / OUTCOME).read_text("utf-8"))) == 2
    shown = ds.dataset(tmp_path / "events-1").to_table()
    known = {path.name for path in (tmp_path / "known-2" / "events").iterdir()}
    assert any(name.startswith("round-1-") for name in known)
    assert any(name.startswith("log-") for name in known)
    assert any(shown["explored"].to_pylist())


def test_a_folder_that_something_else_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "serving.json").write_text("{}", "utf-8")
    with pytest.raises(UsageError, match="is not empty"):
        simulate(TrialConfig(), tmp_path)
    assert (tmp_path / "site" / "serving.json").is_file()
