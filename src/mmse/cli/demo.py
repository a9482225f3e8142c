"""The whole chain on a simulated shop, and what to show of a run when it is done."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from mmse.cli.console import answer_table, evaluation_table
from mmse.core import artifact
from mmse.core.config import plain
from mmse.evaluation.step import read_report
from mmse.lab.simulator.simulate import KIND, MarketConfig, simulate
from mmse.pipeline import Listener, Shop, read_shop
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Search
from mmse.training.targets import Logged, read_logged


def simulated_shop(folder: Path, config: MarketConfig, listener: Listener) -> Shop:
    """The shop that `config` describes, simulated into `folder` unless it is there already."""
    there = False
    if (folder / artifact.MANIFEST).is_file():
        there = artifact.verify(folder, KIND).config == plain(config)
    listener.stage("shop", "up to date: same config" if there else "simulated items and behaviour", not there)
    if not there:
        simulate(config, folder, listener.part)
    return read_shop(folder / "shop.toml")


def summary(run: Path) -> RenderableType:
    """The evaluation of a run where it has one, and a query of its log answered."""
    shown: list[RenderableType] = [Text()]
    if (run / "report").is_dir():
        shown += [evaluation_table(read_report(run / "report")), Text()]
    asked = _asked(run, 1)
    if len(asked):
        query, user = asked.queries[0], asked.users[0]
        answer = Retriever.open(run).answer(Search(query, 5, user))
        shown += [answer_table(query, answer), Text()]
    return Group(*shown)


def what_next(run: Path, seconds: float | None = None) -> RenderableType:
    """What to try on a finished run."""
    asked = _asked(run, 2)
    query = asked.queries[-1] if len(asked) else "a query"
    lines = {f'mmse search {run} "{query}"': "your own words, too"}
    lines[f"mmse serve {run}"] = "the same over HTTP, and a page to search: http://127.0.0.1:8000"
    if (run / "report").is_dir():
        lines |= {
            f"{run}/report/report.html": "in a browser: curves, slices, every number",
            f"mmse evaluate {run} --json": "the same numbers for a program",
        }
    lines["mmse run shop.toml"] = "the same on your own two tables (docs/tables.md)"
    text = Text("\n").join(Text.assemble((what, "bold"), "\n", (f"    {why}", "dim")) for what, why in lines.items())
    took = f"Done in {seconds:.0f} s. " if seconds is not None else ""
    return Panel(text, title=f"{took}What to try next", title_align="left", expand=False)


def _asked(run: Path, n: int) -> Logged:
    """Requests of the newest window that has any which clicked something."""
    found = (read_logged(run / "dataset", split, n) for split in ("test", "valid"))
    return next((logged for logged in found if len(logged)), read_logged(run / "dataset", "valid", 0))
