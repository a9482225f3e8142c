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
    from mmse.evaluation.rows import Measure
    from mmse.lab.compare.data import DataKind
    from mmse.lab.compare.grid import Cell
    from mmse.lab.compare.results import Comparison, Gap, Result
    from mmse.lab.compare.run import CellOutcome, GridListener

stdout = Console(highlight=False, emoji=False)
stderr = Console(stderr=True, highlight=False, emoji=False)
WIDE = 110
"""From so many columns on a terminal shows intervals."""
MAX_NAMES = 4
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
    from mmse.core.extras import require_extra

    require_extra("lab")
    from mmse.lab.compare.grid import read_grid
    from mmse.lab.compare.page import PAGE, write_page
    from mmse.lab.compare.results import compare as comparison
    from mmse.lab.compare.results import write_results
    from mmse.lab.compare.run import run_grid

    grid = read_grid(grid_file)
    with _progress() as watcher:
        outcomes = run_grid(grid, folder, workers, watcher)
    comparison_result = comparison(grid, outcomes)
    write_results(comparison_result, folder)
    write_page(comparison_result, folder / PAGE)
    if as_json:
        document = {name: [asdict(row) for row in getattr(comparison_result, name)] for name in ("results", "training")}
        document["differences"] = [asdict(gap) | {"mark": gap.mark} for gap in comparison_result.gaps]
        document["failed"] = [_failure(outcome) for outcome in comparison_result.failures]
        stdout.print_json(json.dumps(document))
    else:
        paper = stdout if stdout.is_terminal else Console(highlight=False, emoji=False, width=max(stdout.width, WIDE))
        paper.print(tables(comparison_result, paper.width))
        stdout.print(f"Report: {folder / PAGE}", markup=False, soft_wrap=True)
    if comparison_result.failures:
        raise typer.Exit(1)


def tables(comparison: Comparison, width: int) -> RenderableType:
    """A table for each data set, and what failed; intervals where there is room."""
    parts: list[RenderableType] = []
    wide = width >= WIDE
    for data, kind in comparison.data:
        parts += [_table(comparison, data, kind, wide=wide), Text()]
    subject = comparison.grid.subject
    half = " ± half a 95% interval over queries" if wide else ""
    parts.append(
        Text(
            f"Below a number: {subject} minus that system, paired{half}. * the interval leaves 0 out, ** also after "
            f"Holm's correction over all systems. {comparison.cells} cells; the report has every interval and slice.",
            style="dim",
        )
    )
    for system, failure, cells in comparison.grouped_failures:
        suffix = f" and {len(cells) - MAX_NAMES} more" if len(cells) > MAX_NAMES else ""
        parts.append(
            Text(f"✗ {system} failed on {'; '.join(cells[:MAX_NAMES])}{suffix}: {failure.cause}", style="bold red")
        )
        parts.append(Text(f"  {failure.cure}", style="dim"))
    return Group(*parts)


def _table(comparison: Comparison, data: str, kind: DataKind, *, wide: bool) -> RenderableType:
    from mmse.lab.compare.results import HEADLINES
    from mmse.lab.compare.words import short_name

    systems = comparison.systems(data)
    measures = [m for m in HEADLINES[kind] if any(comparison.result(data, s, m) for s in systems)]
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
        cells = [_cell(comparison, data, system, measure, wide=wide) for measure in measures]
        seconds = comparison.seconds(data, system)
        time_cell = Text(f"{seconds.seconds:,.0f}" if seconds else "–", style="" if seconds else "dim")
        grid.add_row(Text(system, style="bold" if system == comparison.grid.subject else ""), *cells, time_cell)
    return grid


def _cell(comparison: Comparison, data: str, system: str, measure: Measure, *, wide: bool) -> Text:
    """A number, and below it how much ours is ahead (or, with a minus, behind), with its mark."""
    row, gap = comparison.result(data, system, measure), comparison.gap(data, system, measure)
    if row is None:
        return Text("–", style="dim")
    best = max(rival.value for s in comparison.systems(data) if (rival := comparison.result(data, s, measure)))
    text = Text.assemble(
        (_short(row.value), "bold green" if row.value == best else ""), _half(row) if wide else "", "  "
    )
    if gap is not None:
        colour = "dim" if not gap.mark else "cyan" if gap.value > 0 else "red"
        text.append(f"\n{_short(gap.value, with_sign=True)}{_half(gap) if wide else ''}{gap.mark:<2}", colour)
    return text


def _half(row: Result | Gap) -> str:
    return f" ±{_short((row.high - row.low) / 2)}" if row.low is not None and row.high is not None else ""


def _short(share: float, *, with_sign: bool = False) -> str:
    """A share to three places without its leading zero, so that a table fits a terminal."""
    text = f"{share:+.3f}" if with_sign else f"{share:.3f}"
    return text.replace("0.", ".", 1) if abs(share) < 1 else text[:-1]


def _failure(outcome: CellOutcome) -> dict[str, object]:
    assert outcome.failure is not None
    cell = outcome.cell
    row: dict[str, object] = {"data": cell.data.name, "system": cell.system, "seed": cell.seed, "world": cell.world}
    return row | {"cause": outcome.failure.cause, "cure": outcome.failure.cure}


@contextmanager
def _progress() -> Iterator[GridListener]:
    """A watcher that draws the grid on standard error."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bars:
        yield _Bars(bars).watcher()


class _Bars:
    """Bars of a grid: how many cells are done, and one for each cell, or part of a data set, that is being made."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._whole = bars.add_task("data sets", total=None, note="")
        self._tasks: dict[str, TaskID] = {}

    def watcher(self) -> GridListener:
        from mmse.lab.compare.run import GridListener
        from mmse.pipeline import Listener

        def step(name: str, reason: str, runs: bool) -> None:
            _print_reason(name, reason if runs else None)

        def data(name: str) -> None:
            stderr.print(f"[bold]{escape(name)}[/]", highlight=False)

        listener = Listener(step, lambda part, n_done, total: self._show(part, n_done, total, ""))
        return GridListener(listener, data, self._start, self._cell, self._step, self._finish)

    def _show(self, name: str, n_done: int, total: int | None, note: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(escape(name), total=total, note=note)
        self._bars.update(self._tasks[name], completed=n_done, total=total, note=note)

    def _hide(self, name: str) -> None:
        if (task := self._tasks.pop(name, None)) is not None:
            self._bars.remove_task(task)

    def _start(self, cells: int) -> None:
        for name in list(self._tasks):
            self._hide(name)
        self._bars.update(self._whole, description="cells", total=cells, completed=0)

    def _cell(self, cell: Cell, reason: str | None) -> None:
        _print_reason(str(cell), reason)
        if reason is not None:
            self._show(str(cell), 0, None, "")

    def _step(self, cell: Cell, part: str, n_done: int, total: int) -> None:
        self._show(str(cell), n_done, total, part)

    def _finish(self, outcome: CellOutcome) -> None:
        self._hide(str(outcome.cell))
        self._bars.advance(self._whole)
        if outcome.failure:
            line = f"[bold red]failed[/] {escape(str(outcome.cell))}: {escape(outcome.failure.cause)}"
            stderr.print(line, highlight=False)


def _print_reason(name: str, reason: str | None) -> None:
    """Why something is made, or that it is up to date."""
    mark = "[dim]skip[/]" if reason is None else "[bold green]run [/]"
    text = escape(reason or "up to date: same inputs, same config")
    stderr.print(f"{mark} [bold]{escape(name)}[/] [dim]({text})[/]", highlight=False)
