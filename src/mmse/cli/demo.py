"""The whole chain on a simulated shop, and what to show of a run when it is done."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from mmse.catalogue.transfer import count_stale_edits
from mmse.cli.console import answer_table, evaluation_table
from mmse.core import artifact
from mmse.core.config import plain_values
from mmse.core.run_folder import REPORT, RunFolder
from mmse.dataset.serving_data import read_probe_queries
from mmse.evaluation.step import PAGE, read_report
from mmse.lab.simulator.simulate import KIND, SimulatorConfig, simulate
from mmse.pipeline import Listener
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Search
from mmse.shop import Shop, read_shop
from mmse.training.targets import read_logged_requests


def simulated_shop(folder: Path, config: SimulatorConfig, listener: Listener) -> Shop:
    """The shop that `config` describes, simulated into `folder` unless it is there already."""
    exists = False
    if (folder / artifact.MANIFEST).is_file():
        exists = artifact.verify(folder, KIND).config == plain_values(config)
    listener.step("shop", "up to date: same config" if exists else "simulated items and behaviour", not exists)
    if not exists:
        simulate(config, folder, listener.part)
    return read_shop(folder / "shop.toml")


def summary(run: Path) -> RenderableType:
    """The evaluation of a run where it has one, and a query of its log, or else a title, answered."""
    parts: list[RenderableType] = [Text()]
    folders = RunFolder(run)
    if folders.has(REPORT):
        parts += [evaluation_table(read_report(folders.report)), Text()]
    query, user = _sample_queries(run, 1)[0]
    parts += [answer_table(query, Retriever.open(run, edits=False).answer(Search(query, 5, user))), Text()]
    if n_edits := count_stale_edits(run):
        items = "item" if n_edits == 1 else "items"
        cure = f"a server carries them over when it starts, `mmse items carry-over {run}` at once"
        parts += [Text(f"{n_edits} edited {items} of before this run: {cure}.")]
    return Group(*parts)


def next_steps(run: Path, seconds: float | None = None) -> RenderableType:
    """What to try on a finished run."""
    query, _ = _sample_queries(run, 2)[-1]
    lines = {f'mmse search {run} "{query}"': "your own words, too"}
    lines[f"mmse serve {run}"] = "the same over HTTP, and a page to search: http://127.0.0.1:8000"
    if RunFolder(run).has(REPORT):
        if (RunFolder(run).report / PAGE).is_file():
            lines[f"{run}/report/report.html"] = "in a browser: curves, slices, every number"
        lines[f"mmse evaluate {run} --json"] = "the same numbers for a program"
    lines["mmse run shop.toml"] = "the same on your own two tables (docs/tables.md)"
    text = Text("\n").join(
        Text.assemble((command, "bold"), "\n", (f"    {purpose}", "dim")) for command, purpose in lines.items()
    )
    took = f"Done in {seconds:.0f} s. " if seconds is not None else ""
    return Panel(text, title=f"{took}What to try next", title_align="left", expand=False)


def _sample_queries(run: Path, n: int) -> list[tuple[str, str | None]]:
    """Up to `n` queries, each with its shopper: of requests with a click of the test window, or else of validation.

    Where the log has neither, they are titles of items.
    """
    folders = RunFolder(run)
    for split in ("test", "valid"):
        sample = read_logged_requests(folders.dataset, split, n)
        if len(sample):
            return list(zip(sample.queries, sample.users, strict=True))
    return [(title, None) for title in read_probe_queries(folders.serving, n)]
