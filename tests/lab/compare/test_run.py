"""A grid continues after an interruption, remakes cells that have changed, and survives a cell that fails."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cli.called import Call
from lab.compare.grids import COIN, FLAT, write_grid
from mmse.core.errors import OutputError
from mmse.core.locks import try_lock
from mmse.evaluation.rows import Measure
from mmse.lab.compare.grid import Cell, read_grid
from mmse.lab.compare.page import PAGE, write_page
from mmse.lab.compare.results import DIFFERENCES, HEADLINES, MEAN_OVER_SHOPS, RESULTS, compare, write_results
from mmse.lab.compare.run import CellOutcome, GridListener, explain_exit, run_grid

N_CELLS = 6  # bm25, popularity, and two systems with two seeds


class Recorder:
    """Records the reports of a grid; interrupts it at a training step or after a number of cells."""

    def __init__(self, *, stop_at_step: int | None = None, stop_after: int | None = None) -> None:
        self.reasons: dict[str, str | None] = {}
        self.steps: dict[str, list[int]] = {}
        self.outcomes: list[CellOutcome] = []
        self._stop_at_step, self._stop_after = stop_at_step, stop_after

    @property
    def listener(self) -> GridListener:
        return GridListener(cell=self._cell, step=self._step, finish=self._finish)

    @property
    def names(self) -> list[str]:
        """The cells that were not up to date."""
        return [name for name, reason in self.reasons.items() if reason is not None]

    def _cell(self, cell: Cell, reason: str | None) -> None:
        self.reasons[str(cell)] = reason

    def _step(self, cell: Cell, part: str, step: int, total: int) -> None:
        if part == "train":
            self.steps.setdefault(str(cell), []).append(step)
            if step == self._stop_at_step:
                raise KeyboardInterrupt

    def _finish(self, outcome: CellOutcome) -> None:
        self.outcomes.append(outcome)
        if len(self.outcomes) == self._stop_after:
            raise KeyboardInterrupt


GridRuns = tuple[Path, Path, list[Recorder]]
"""The grid file, the output folder, and the reports of each run."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> GridRuns:
    """A grid that was interrupted twice, once between cells and once inside a cell, and then finished."""
    folder = tmp_path_factory.mktemp("grid")
    path, output = write_grid(folder, COIN, FLAT), folder / "out"
    recorders = [Recorder(stop_after=3), Recorder(stop_at_step=5), Recorder()]
    for recorder in recorders[:2]:
        with pytest.raises(KeyboardInterrupt):
            run_grid(read_grid(path), output, listener=recorder.listener)
    run_grid(read_grid(path), output, listener=recorders[2].listener)
    return path, output, recorders


def test_an_interrupted_grid_continues(runs: GridRuns) -> None:
    _, output, (run_1, run_2, run_3) = runs
    assert run_1.names == ["bm25 on coin", "popularity on coin", "mmse on coin, seed 0"]
    assert run_2.names == ["flat on coin, seed 0"], "three cells are up to date"
    assert run_2.steps["flat on coin, seed 0"] == [1, 2, 3, 4, 5]
    assert run_3.names == ["flat on coin, seed 0", "mmse on coin, seed 1", "flat on coin, seed 1"]
    assert run_3.steps["flat on coin, seed 0"][0] == 5, "from the checkpoint after step 4"
    assert len(run_3.outcomes) == N_CELLS
    assert all(outcome.failure is None for outcome in run_3.outcomes)
    temporary = [
        path for path in (output / "cells").rglob("*") if path.name.startswith(".") or path.suffix in (".model", ".log")
    ]
    assert temporary == [], "models are deleted after they are measured"


def test_cells_that_are_up_to_date_are_not_remade(runs: GridRuns) -> None:
    path, output, _ = runs
    recorder = Recorder()
    run_grid(read_grid(path), output, listener=recorder.listener)
    assert recorder.names == []


def test_results_of_a_world_of_coin_flips(runs: GridRuns) -> None:
    """Orders carry no information beyond clicks: no system that weighs them is ahead after Holm's correction."""
    path, output, recorders = runs
    comparison = compare(read_grid(path), recorders[-1].outcomes)
    assert comparison.data == [("coin", "simulated")]
    assert comparison.systems("coin") == ["mmse", "flat", "bm25", "popularity"]
    for measure in HEADLINES["simulated"]:
        gap = comparison.gap("coin", "flat", measure)
        assert gap is not None
        assert gap.holm is not None
        assert gap.mark != "**" or gap.value < 0
        mmse, flat = (comparison.result("coin", system, measure) for system in ("mmse", "flat"))
        assert mmse is not None
        assert flat is not None
        assert gap.value == pytest.approx(mmse.value - flat.value)
        assert mmse.seeds == 2
        assert mmse.seed_low is not None
        assert mmse.seed_high is not None
        assert mmse.seed_low <= mmse.value <= mmse.seed_high
        assert (mmse.seed_low + mmse.seed_high) / 2 == pytest.approx(mmse.value)
    training = comparison.seconds("coin", "mmse")
    assert training is not None
    assert training.seconds > 0
    assert comparison.seconds("coin", "bm25") is None
    write_results(comparison, output)
    rows = pq.read_table(output / RESULTS)
    assert len(rows) == len(comparison.results)
    assert set(rows["slice"].unique().to_pylist()) >= {"all", "tail query", "with history"}
    assert pq.read_table(output / DIFFERENCES)["versus"].unique().sort().to_pylist() == ["bm25", "flat", "popularity"]


def test_the_page_has_every_headline(runs: GridRuns, tmp_path: Path) -> None:
    path, _, recorders = runs
    grid = replace(read_grid(path), text="# </pre><script>alert(1)</script>")
    comparison = compare(grid, recorders[-1].outcomes)
    write_page(comparison, tmp_path / PAGE)
    page = (tmp_path / PAGE).read_text("utf-8")
    for system in comparison.systems("coin"):
        for measure in HEADLINES["simulated"]:
            row, gap = comparison.result("coin", system, measure), comparison.gap("coin", system, measure)
            assert row is not None
            assert f"<b>{row.value:.3f}</b>" in page or f'<b class="best">{row.value:.3f}</b>' in page
            assert gap is None or f"{gap.value:+.3f}{gap.mark} ".replace("-", "−") in page
    assert "simulated behaviour" in page
    assert "<script>alert" not in page
    assert not re.search(r"<(link|img|script|iframe)[^>]+(src|href)=.http", page), "nothing is loaded"


def test_the_exit_of_a_process_is_explained(tmp_path: Path) -> None:
    log = tmp_path / "cell.log"
    log.write_text("Traceback\nValueError: no such thing\n", "utf-8")
    assert explain_exit(0, log) is None
    kill, error = explain_exit(-9, log), explain_exit(1, log)
    assert kill is not None
    assert "signal 9 (the system may have been short of memory" in kill.cause
    assert error is not None
    assert "ValueError: no such thing" in error.cause
    assert str(log) in error.cure


def test_a_second_process_is_refused(runs: GridRuns) -> None:
    path, output, _ = runs
    with try_lock(output / "lock") as is_free:
        assert is_free
        with pytest.raises(OutputError, match="Another `mmse compare` is at work"):
            run_grid(read_grid(path), output)


def test_changes_and_failures_by_the_command(call: Call, runs: GridRuns) -> None:
    path, output, _ = runs
    burst = "[variants.burst]\nlearning_rate = 1e30\n"
    grid = write_grid(path.parent, COIN, FLAT.replace("0.0", "0.1"), burst, systems=["mmse", "flat", "burst"])
    result = call("compare", grid, "--out", output)
    assert result.code == 1, "a cell failed"
    messages = " ".join(result.err.split())
    assert "skip mmse on coin, seed 0 (up to date" in messages
    reason = "recipe.rank_weight: 0.0 → 0.1, train.objective.rank_weight: 0.0 → 0.1"
    assert f"run flat on coin, seed 0 (its config has changed: {reason})" in messages
    assert "failed burst on coin, seed 1: The loss is" in messages
    assert "burst failed on coin, seed 0; coin, seed 1: The loss is" in " ".join(result.out.split())
    assert "coin (simulated)" in result.out
    page = (output / PAGE).read_text("utf-8")
    assert "Lower learning_rate." in page

    repeat = call("compare", grid, "--out", output, "--json")
    document = json.loads(repeat.out)
    assert [row["seed"] for row in document["failed"]] == [0, 1]
    assert {row["system"] for row in document["results"]} == {"mmse", "flat", "bm25", "popularity"}
    assert {row["mark"] for row in document["differences"]} <= {"", "*", "**"}
    assert "run flat" not in " ".join(repeat.err.split()), "finished cells are kept"


def test_wrong_grids_end_with_2(call: Call, tmp_path: Path) -> None:
    result = call("compare", write_grid(tmp_path, COIN), "--out", tmp_path / "out")
    assert result.code == 2
    assert "there is no system 'flat'" in result.err
    assert not (tmp_path / "out").exists()


def write_judged(folder: Path, name: str, n_items: int) -> None:
    """Writes a small catalogue with grades: the relevant items have the query's word in their title."""
    words = ["hammer", "saw", "drill", "lamp", "chair", "desk", "brush", "nail"]
    with (folder / f"{name}.csv").open("w", newline="") as items:
        rows = csv.writer(items)
        rows.writerow(["item_id", "title"])
        rows.writerows([f"{name}{i}", f"{words[i % 8]} kind {i % 13}"] for i in range(n_items))
    with (folder / f"{name}-grades.csv").open("w", newline="") as grades:
        rows = csv.writer(grades)
        rows.writerow(["query", "item_id", "relevance", "split"])
        for q in range(24):
            for i in range(6):
                row = [f"{words[q % 8]} {q}", f"{name}{(q * 7 + i) % n_items}"]
                rows.writerow([*row, 3 if (q * 7 + i - q) % 8 == 0 else 1, "dev" if q % 3 == 0 else "train"])


def test_judged_catalogues_and_processes(tmp_path: Path) -> None:
    """Trained on one catalogue, measured by grades of it and of another, in processes that leave nothing behind."""
    write_judged(tmp_path, "tools", 120)
    write_judged(tmp_path, "shed", 60)
    tools = """
[judged.tools]
items = "tools.csv"
judgements = "tools-grades.csv"
relevant_from = 2.5
market = {requests_per_query = 20}
train = {views = ["text"]}

[judged.tools.evaluate_on.shed]
items = "shed.csv"
judgements = "shed-grades.csv"
relevant_from = 2.5
"""
    path = write_grid(tmp_path, tools, systems=["mmse"], top="seeds = [0]\nkeep_models = true")
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_grid(read_grid(path), output, workers=2, listener=Recorder(stop_at_step=1).listener)
    processes = subprocess.run(["pgrep", "-f", str(output)], capture_output=True, text=True, check=False)
    assert processes.stdout == "", "no process is left"
    outcomes = run_grid(read_grid(path), output, workers=2)
    assert [outcome.failure for outcome in outcomes] == [None] * 3
    comparison = compare(read_grid(path), outcomes)
    foreign = "shed (trained on tools)"
    assert comparison.data == [("tools", "judged"), (foreign, "judged")]
    assert comparison.systems(foreign) == ["mmse", "bm25"], "no log says what is popular there"
    assert MEAN_OVER_SHOPS not in dict(comparison.data)
    for name in ("tools", foreign):
        row = comparison.result(name, "bm25", Measure("judged", "recall", 100))
        assert row is not None
        assert row.value > 0.5
        assert comparison.result(name, "mmse", Measure("judged", "recall", 100)) is not None
    assert comparison.seconds(foreign, "mmse") is not None
    assert (output / "cells" / "tools" / "mmse" / "seed-0" / "model" / "towers.safetensors").is_file()
