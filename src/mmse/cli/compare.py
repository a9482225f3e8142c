"""The command that holds systems against one another over seeds and data sets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from mmse.lab.compare.data import Kind
    from mmse.lab.compare.grid import Cell
    from mmse.lab.compare.results import Compared, Gap, Measure, Result
    from mmse.lab.compare.run import Outcome, Watcher

out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)
ROOMY = 110
"""From so many columns on a terminal shows intervals."""
NAMED = 4
"""So many cells that failed for one cause are named."""


def compare(
    grid_file: Annotated[Path, typer.Argument(help="What is compared (docs/compare.md).", metavar="GRID.toml")],
    folder: Annotated[Path, typer.Option("--out", help="Where shops, cells and the report are written.")],
    workers: Annotated[int, typer.Option(help="Cells made at once; cores are shared among them.", min=1)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Trains systems on data sets with several seeds, and says which differences are more than chance.

    What is up to date is not made again, so the same command goes on where it was ended.
    """
    from mmse.lab.compare.grid import read_grid
    from mmse.lab.compare.page import PAGE, write_page
    from mmse.lab.compare.results import compare as comparison
    from mmse.lab.compare.results import write_results
    from mmse.lab.compare.run import run_grid

    grid = read_grid(grid_file)
    with _progress() as watcher:
        outcomes = run_grid(grid, folder, workers, watcher)
    compared = comparison(grid, outcomes)
    write_results(compared, folder)
    write_page(compared, folder / PAGE)
    if as_json:
        said = {name: [asdict(row) for row in getattr(compared, name)] for name in ("results", "training")}
        said["differences"] = [asdict(gap) | {"mark": gap.mark} for gap in compared.gaps]
        said["failed"] = [_failure(one) for one in compared.failed]
        out.print_json(json.dumps(said))
    else:
        paper = out if out.is_terminal else Console(highlight=False, emoji=False, width=max(out.width, ROOMY))
        paper.print(tables(compared, paper.width))
        out.print(f"Report: {folder / PAGE}", markup=False, soft_wrap=True)
    if compared.failed:
        raise typer.Exit(1)


def tables(compared: Compared, width: int) -> RenderableType:
    """A table for each data set, and what failed; intervals where there is room."""
    shown: list[RenderableType] = []
    roomy = width >= ROOMY
    for data, kind in compared.data:
        shown += [_table(compared, data, kind, roomy=roomy), Text()]
    ours = compared.grid.ours
    half = " ± half a 95% interval over queries" if roomy else ""
    shown.append(
        Text(
            f"Below a number: {ours} minus that system, paired{half}. * the interval leaves 0 out, ** also after "
            f"Holm's correction over all systems. {compared.cells} cells; the report has every interval and slice.",
            style="dim",
        )
    )
    for system, failed, places in compared.failed_together:
        more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
        shown.append(Text(f"✗ {system} failed on {'; '.join(places[:NAMED])}{more}: {failed.cause}", style="bold red"))
        shown.append(Text(f"  {failed.cure}", style="dim"))
    return Group(*shown)


def _table(compared: Compared, data: str, kind: Kind, *, roomy: bool) -> RenderableType:
    from mmse.lab.compare.results import HEADLINES
    from mmse.lab.compare.words import short_name

    systems = compared.systems(data)
    measures = [m for m in HEADLINES[kind] if any(compared.result(data, s, m) for s in systems)]
    behaviour = {"simulated": "simulated", "shop": "a log", "judged": "people's grades"}[kind]
    grid = Table(
        title=f"{data} ({behaviour})",
        title_justify="left",
        title_style="italic",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    grid.add_column("", overflow="fold")
    for measure in measures:
        grid.add_column(short_name(measure), justify="right")
    grid.add_column("train seconds", justify="right")
    for system in systems:
        cells = [_cell(compared, data, system, measure, roomy=roomy) for measure in measures]
        seconds = compared.seconds(data, system)
        spent = Text(f"{seconds.seconds:,.0f}" if seconds else "–", style="" if seconds else "dim")
        grid.add_row(Text(system, style="bold" if system == compared.grid.ours else ""), *cells, spent)
    return grid


def _cell(compared: Compared, data: str, system: str, measure: Measure, *, roomy: bool) -> Text:
    """A number, and below it how much ours is ahead (or, with a minus, behind), with its mark."""
    row, gap = compared.result(data, system, measure), compared.gap(data, system, measure)
    if row is None:
        return Text("–", style="dim")
    best = max(other.value for s in compared.systems(data) if (other := compared.result(data, s, measure)))
    said = Text.assemble(
        (_short(row.value), "bold green" if row.value == best else ""), _half(row) if roomy else "", "  "
    )
    if gap is not None:
        colour = "dim" if not gap.mark else "cyan" if gap.value > 0 else "red"
        said.append(f"\n{_short(gap.value, signed=True)}{_half(gap) if roomy else ''}{gap.mark:<2}", colour)
    return said


def _half(row: Result | Gap) -> str:
    return f" ±{_short((row.high - row.low) / 2)}" if row.low is not None and row.high is not None else ""


def _short(share: float, *, signed: bool = False) -> str:
    """A share to three places without its leading zero, so that a table fits a terminal."""
    text = f"{share:+.3f}" if signed else f"{share:.3f}"
    return text.replace("0.", ".", 1) if abs(share) < 1 else text[:-1]


def _failure(one: Outcome) -> dict[str, object]:
    assert one.failed is not None
    cell = one.cell
    said: dict[str, object] = {"data": cell.data.name, "system": cell.system, "seed": cell.seed, "world": cell.world}
    return said | {"cause": one.failed.cause, "cure": one.failed.cure}


@contextmanager
def _progress() -> Iterator[Watcher]:
    """A watcher that draws the grid on standard error."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        yield _Bars(bars).watcher()


class _Bars:
    """Bars of a grid: how many cells are done, and one for each cell, or part of a data set, that is being made."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._whole = bars.add_task("data sets", total=None, note="")
        self._at_work: dict[str, TaskID] = {}

    def watcher(self) -> Watcher:
        from mmse.lab.compare.run import Watcher
        from mmse.pipeline import Listener

        def stage(name: str, why: str, runs: bool) -> None:
            _told(name, why if runs else None)

        def data(name: str) -> None:
            err.print(f"[bold]{escape(name)}[/]", highlight=False)

        listener = Listener(stage, lambda what, done, total: self._show(what, done, total, ""))
        return Watcher(listener, data, self._begun, self._cell, self._step, self._done)

    def _show(self, name: str, done: int, total: int | None, note: str) -> None:
        if name not in self._at_work:
            self._at_work[name] = self._bars.add_task(escape(name), total=total, note=note)
        self._bars.update(self._at_work[name], completed=done, total=total, note=note)

    def _hide(self, name: str) -> None:
        if (task := self._at_work.pop(name, None)) is not None:
            self._bars.remove_task(task)

    def _begun(self, cells: int) -> None:
        for name in list(self._at_work):
            self._hide(name)
        self._bars.update(self._whole, description="cells", total=cells, completed=0)

    def _cell(self, cell: Cell, why: str | None) -> None:
        _told(str(cell), why)
        if why is not None:
            self._show(str(cell), 0, None, "")

    def _step(self, cell: Cell, what: str, done: int, total: int) -> None:
        self._show(str(cell), done, total, what)

    def _done(self, outcome: Outcome) -> None:
        self._hide(str(outcome.cell))
        self._bars.advance(self._whole)
        if outcome.failed:
            said = f"[bold red]failed[/] {escape(str(outcome.cell))}: {escape(outcome.failed.cause)}"
            err.print(said, highlight=False)


def _told(name: str, why: str | None) -> None:
    """Why something is made, or that it is up to date."""
    mark = "[dim]skip[/]" if why is None else "[bold green]run [/]"
    said = escape(why or "up to date: same inputs, same config")
    err.print(f"{mark} [bold]{escape(name)}[/] [dim]({said})[/]", highlight=False)
