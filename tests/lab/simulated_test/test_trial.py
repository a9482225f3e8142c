"""A simulated test from end to end: two rounds behind the real server."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from mmse.core.errors import UsageError
from mmse.lab.simulated_test.arms import SimulatedArm
from mmse.lab.simulated_test.online_shop import OnlineConfig
from mmse.lab.simulated_test.trial import OUTCOME, TrialConfig, run_trial, table_rows
from mmse.lab.simulator.simulate import SimulatorConfig


def test_shoppers_meet_the_server_and_the_next_round_learns_from_it(tmp_path: Path) -> None:
    online = OnlineConfig(SimulatorConfig(n_items=600), log_days=6, round_days=3, rounds=2, requests_a_day=110)
    arms = {"bm25": SimulatedArm("mmse", "lexical"), "mmse": SimulatedArm("mmse")}
    rounds = run_trial(
        TrialConfig(online, arms, exploration=0.2, train={"catalogue_below": 0, "epochs": 1, "vocab_size": 1_000}),
        tmp_path,
    )
    assert [result.number for result in rounds] == [1, 2]
    for result in rounds:
        assert sum(arm.requests for arm in result.arms.values()) > 300
        assert all(0 < arm.true_orders < 1 and 0 < arm.shown_items <= 1 for arm in result.arms.values())
        assert result.analysis is not None
        assert {arm.name for arm in result.analysis.arms} == set(arms)
        assert "imulated" in (tmp_path / f"round-{result.number}.html").read_text("utf-8")
    assert len(table_rows(rounds)) == 4
    assert len(json.loads((tmp_path / OUTCOME).read_text("utf-8"))) == 2
    exposures = ds.dataset(tmp_path / "events-1").to_table()
    file_names = {path.name for path in (tmp_path / "known-2" / "events").iterdir()}
    assert any(name.startswith("round-1-") for name in file_names)
    assert any(name.startswith("log-") for name in file_names)
    assert any(exposures["explored"].to_pylist())


def test_a_folder_that_something_else_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "serving.json").write_text("{}", "utf-8")
    with pytest.raises(UsageError, match="is not empty"):
        run_trial(TrialConfig(), tmp_path)
    assert (tmp_path / "site" / "serving.json").is_file()
