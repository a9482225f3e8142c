"""A grid goes on where it was ended, makes again what has changed, and outlives a cell that fails."""

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
from lab.compare.grids import COIN, FLAT, written
from mmse.core.errors import OutputError
from mmse.core.locks import if_free
from mmse.lab.compare.grid import Cell, read_grid
from mmse.lab.compare.page import PAGE, write_page
from mmse.lab.compare.results import DIFFERENCES, HEADLINES, POOLED, RESULTS, compare, write_results
from mmse.lab.compare.run import Outcome, Watcher, _left, run_grid

N_CELLS = 6  # bm25, popularity, and two systems with two seeds


class Heard:
    """What a grid said, and when to end it."""

    def __init__(self, *, end_at_step: int | None = None, end_after: int | None = None) -> None:
        self.why: dict[str, str | None] = {}
        self.steps: dict[str, list[int]] = {}
        self.done: list[Outcome] = []
        self._end_at_step, self._end_after = end_at_step, end_after

    @property
    def watcher(self) -> Watcher:
        return Watcher(cell=self._cell, step=self._step, done=self._finished)

    @property
    def made(self) -> list[str]:
        return [name for name, why in self.why.items() if why is not None]

    def _cell(self, cell: Cell, why: str | None) -> None:
        self.why[str(cell)] = why

    def _step(self, cell: Cell, what: str, done: int, total: int) -> None:
        if what == "train":
            self.steps.setdefault(str(cell), []).append(done)
            if done == self._end_at_step:
                raise KeyboardInterrupt

    def _finished(self, outcome: Outcome) -> None:
        self.done.append(outcome)
        if len(self.done) == self._end_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Heard]]:
    """A grid that was ended twice, once between cells and once inside one, and then finished."""
    folder = tmp_path_factory.mktemp("grid")
    path, out = written(folder, COIN, FLAT), folder / "out"
    heard = [Heard(end_after=3), Heard(end_at_step=5), Heard()]
    for one in heard[:2]:
        with pytest.raises(KeyboardInterrupt):
            run_grid(read_grid(path), out, watcher=one.watcher)
    run_grid(read_grid(path), out, watcher=heard[2].watcher)
    return path, out, heard


def test_an_ended_grid_goes_on(whole: tuple[Path, Path, list[Heard]]) -> None:
    _, out, (first, second, third) = whole
    assert first.made == ["bm25 on coin", "popularity on coin", "mmse on coin, seed 0"]
    assert second.made == ["flat on coin, seed 0"], "three cells were kept"
    assert second.steps["flat on coin, seed 0"] == [1, 2, 3, 4, 5]
    assert third.made == ["flat on coin, seed 0", "mmse on coin, seed 1", "flat on coin, seed 1"]
    assert third.steps["flat on coin, seed 0"][0] == 5, "from the checkpoint after step 4"
    assert len(third.done) == N_CELLS
    assert all(outcome.failed is None for outcome in third.done)
    left = [
        path for path in (out / "cells").rglob("*") if path.name.startswith(".") or path.suffix in (".model", ".log")
    ]
    assert left == [], "models are deleted once they are measured"


def test_up_to_date_is_not_made_again(whole: tuple[Path, Path, list[Heard]]) -> None:
    path, out, _ = whole
    heard = Heard()
    run_grid(read_grid(path), out, watcher=heard.watcher)
    assert heard.made == []


def test_results_of_a_world_of_coin_flips(whole: tuple[Path, Path, list[Heard]]) -> None:
    """Orders that say nothing beyond clicks: no system that weighs them stands out after Holm's correction."""
    path, out, heard = whole
    compared = compare(read_grid(path), heard[-1].done)
    assert compared.data == [("coin", "simulated")]
    assert compared.systems("coin") == ["mmse", "flat", "bm25", "popularity"]
    for measure in HEADLINES["simulated"]:
        gap = compared.gap("coin", "flat", measure)
        assert gap is not None
        assert gap.holm is not None
        assert gap.mark != "**"
        ours, flat = (compared.result("coin", system, measure) for system in ("mmse", "flat"))
        assert ours is not None
        assert flat is not None
        assert gap.value == pytest.approx(ours.value - flat.value)
        assert ours.seeds == 2
        assert ours.seed_low is not None
        assert ours.seed_high is not None
        assert ours.seed_low <= ours.value <= ours.seed_high
        assert (ours.seed_low + ours.seed_high) / 2 == pytest.approx(ours.value)
    spent = compared.seconds("coin", "mmse")
    assert spent is not None
    assert spent.seconds > 0
    assert compared.seconds("coin", "bm25") is None
    write_results(compared, out)
    rows = pq.read_table(out / RESULTS)
    assert len(rows) == len(compared.results)
    assert set(rows["slice"].unique().to_pylist()) >= {"all", "tail query", "with history"}
    assert pq.read_table(out / DIFFERENCES)["versus"].unique().sort().to_pylist() == ["bm25", "flat", "popularity"]


def test_the_page_holds_every_headline(whole: tuple[Path, Path, list[Heard]], tmp_path: Path) -> None:
    path, _, heard = whole
    grid = replace(read_grid(path), text="# </pre><script>alert(1)</script>")
    compared = compare(grid, heard[-1].done)
    write_page(compared, tmp_path / PAGE)
    page = (tmp_path / PAGE).read_text("utf-8")
    for system in compared.systems("coin"):
        for measure in HEADLINES["simulated"]:
            row, gap = compared.result("coin", system, measure), compared.gap("coin", system, measure)
            assert row is not None
            assert f"<b>{row.value:.3f}</b>" in page or f'<b class="best">{row.value:.3f}</b>' in page
            assert gap is None or f"{gap.value:+.3f}{gap.mark} ".replace("-", "−") in page
    assert "simulated behaviour" in page
    assert "<script>alert" not in page
    assert not re.search(r"<(link|img|script|iframe)[^>]+(src|href)=.http", page), "nothing is loaded"


def test_a_process_that_dies_says_how(tmp_path: Path) -> None:
    said = tmp_path / "said.log"
    said.write_text("Traceback\nValueError: no such thing\n", "utf-8")
    assert _left(0, said) is None
    killed, faulty = _left(-9, said), _left(1, said)
    assert killed is not None
    assert "signal 9 (the system may have been short of memory" in killed.cause
    assert faulty is not None
    assert "ValueError: no such thing" in faulty.cause
    assert str(said) in faulty.cure


def test_two_at_once_are_refused(whole: tuple[Path, Path, list[Heard]]) -> None:
    path, out, _ = whole
    with if_free(out / "lock") as free:
        assert free
        with pytest.raises(OutputError, match="Another `mmse compare` is at work"):
            run_grid(read_grid(path), out)


def test_changes_and_failures_by_the_command(call: Call, whole: tuple[Path, Path, list[Heard]]) -> None:
    path, out, _ = whole
    burst = "[variants.burst]\nlearning_rate = 1e30\n"
    changed = written(path.parent, COIN, FLAT.replace("0.0", "0.1"), burst, systems=["mmse", "flat", "burst"])
    done = call("compare", changed, "--out", out)
    assert done.code == 1, "a cell failed"
    said = " ".join(done.err.split())
    assert "skip mmse on coin, seed 0 (up to date" in said
    why = "recipe.rank_weight: 0.0 → 0.1, train.objective.rank_weight: 0.0 → 0.1"
    assert f"run flat on coin, seed 0 (its config has changed: {why})" in said
    assert "failed burst on coin, seed 1: The loss is" in said
    assert "burst failed on coin, seed 0; coin, seed 1: The loss is" in " ".join(done.out.split())
    assert "coin (simulated)" in done.out
    page = (out / PAGE).read_text("utf-8")
    assert "Lower learning_rate." in page

    again = call("compare", changed, "--out", out, "--json")
    said_json = json.loads(again.out)
    assert [one["seed"] for one in said_json["failed"]] == [0, 1]
    assert {one["system"] for one in said_json["results"]} == {"mmse", "flat", "bm25", "popularity"}
    assert {one["mark"] for one in said_json["differences"]} <= {"", "*", "**"}
    assert "run flat" not in " ".join(again.err.split()), "what was made is kept"


def test_wrong_grids_end_with_2(call: Call, tmp_path: Path) -> None:
    done = call("compare", written(tmp_path, COIN), "--out", tmp_path / "out")
    assert done.code == 2
    assert "there is no system 'flat'" in done.err
    assert not (tmp_path / "out").exists()


def judged(folder: Path, name: str, n_items: int) -> None:
    """A small catalogue with grades: a query's word stands in the items that are right for it."""
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
    judged(tmp_path, "ours", 120)
    judged(tmp_path, "theirs", 60)
    tools = """
[judged.tools]
items = "ours.csv"
judgements = "ours-grades.csv"
relevant_from = 2.5
market = {requests_per_query = 20}
train = {views = ["text"]}

[judged.tools.evaluate_on.shed]
items = "theirs.csv"
judgements = "theirs-grades.csv"
relevant_from = 2.5
"""
    path, out = written(tmp_path, tools, systems=["mmse"], top="seeds = [0]\nkeep_models = true"), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_grid(read_grid(path), out, workers=2, watcher=Heard(end_at_step=1).watcher)
    running = subprocess.run(["pgrep", "-f", str(out)], capture_output=True, text=True, check=False)
    assert running.stdout == "", "no process is left"
    heard = Heard()
    outcomes = run_grid(read_grid(path), out, workers=2, watcher=heard.watcher)
    assert [outcome.failed for outcome in outcomes] == [None] * 3
    compared = compare(read_grid(path), outcomes)
    other = "shed (trained on tools)"
    assert compared.data == [("tools", "judged"), (other, "judged")]
    assert compared.systems(other) == ["mmse", "bm25"], "no log says what is popular there"
    assert POOLED not in dict(compared.data)
    for name in ("tools", other):
        row = compared.result(name, "bm25", ("judged", "recall", 100))
        assert row is not None
        assert row.value > 0.5
        assert compared.result(name, "mmse", ("judged", "recall", 100)) is not None
    assert compared.seconds(other, "mmse") is not None
    assert (out / "cells" / "tools" / "mmse" / "seed-0" / "model" / "towers.safetensors").is_file()
