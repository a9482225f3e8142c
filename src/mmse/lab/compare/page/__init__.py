"""The grid's report: one HTML file with everything in it, in the style of the report of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmse.core.artifact import write_file
from mmse.evaluation.report.words import INTERVALS_NOTE, METRIC_NAMES, METRIC_NOTES, TARGET_NAMES, TARGET_NOTES
from mmse.evaluation.rows import ALL
from mmse.lab.compare.data import Kind
from mmse.lab.compare.machine import facts
from mmse.lab.compare.page import charts
from mmse.lab.compare.results import HEADLINES, POOLED, Compared, Gap, Result, Training
from mmse.lab.compare.words import MARKS, long_name

PAGE = "compare.html"


@dataclass(frozen=True)
class Cell:
    """One number of a table, and how ours compares with it."""

    result: Result | None
    gap: Gap | None
    best: bool

    @property
    def word(self) -> str:
        """How ours does against this system: `ahead`, `behind`, `level`, or `untested` without an interval."""
        assert self.gap is not None
        if self.gap.low is None:
            return "untested"
        return "level" if not self.gap.significant else "ahead" if self.gap.value > 0 else "behind"


@dataclass(frozen=True)
class Sheet:
    """The table of one data set: a line a system, a column a headline measure."""

    name: str
    kind: Kind
    heads: list[tuple[str, str]]
    lines: list[tuple[str, list[Cell], Training | None]]

    @property
    def simulated(self) -> bool:
        """Whether the behaviour that it was measured on was simulated."""
        return self.kind == "simulated"

    @property
    def tally(self) -> dict[str, int]:
        """How many comparisons ours leads, shares and loses."""
        words = [cell.word for _, cells, _ in self.lines for cell in cells if cell.gap is not None]
        return {word: words.count(word) for word in ("ahead", "level", "behind")}


def write_page(compared: Compared, out: Path) -> None:
    """Writes the report to the file `out`; raises `OutputError` where it cannot be written."""
    page = _environment().get_template("compare.html.j2").render(**_sections(compared))
    write_file(out, page.encode())


def sheet(compared: Compared, name: str, kind: Kind) -> Sheet:
    """The table of one data set, with the headline measures that it has."""
    systems = compared.systems(name)
    measures = [m for m in HEADLINES[kind] if any(compared.result(name, system, m) for system in systems)]
    best = {m: max(r.value for s in systems if (r := compared.result(name, s, m))) for m in measures}
    lines = []
    for system in systems:
        cells = []
        for m in measures:
            result = compared.result(name, system, m)
            cells.append(Cell(result, compared.gap(name, system, m), result is not None and result.value == best[m]))
        lines.append((system, cells, compared.seconds(name, system)))
    return Sheet(name, kind, [long_name(m) for m in measures], lines)


def _sections(compared: Compared) -> dict[str, Any]:
    sheets = [sheet(compared, name, kind) for name, kind in compared.data]
    looks = charts.looks(compared)
    drawn = {
        "curves": charts.curves(compared, looks),
        "gains": charts.slice_gains(compared, looks),
        "time": charts.time_against_quality(compared, looks),
        "learning": charts.learning_curves(compared, looks),
    }
    targets = list(dict.fromkeys(r.target for r in compared.results))
    metrics = list(dict.fromkeys(r.metric for r in compared.results))
    return {
        "grid": compared.grid,
        "ours": compared.grid.ours,
        "changes": {name: json.dumps(compared.grid.changes(name)) for name in compared.grid.systems},
        "facts": facts() | {"cells": compared.cells, "seeds": ", ".join(map(str, compared.grid.seeds))},
        "sheets": sheets,
        "pooled": POOLED,
        "looks": looks,
        "shown": charts.shown_at_first(compared),
        "failed": compared.failed_together,
        "n_failed": len(compared.failed),
        "charts": drawn,
        "plots": [chart for group in drawn.values() for chart in group],
        "simulated": any(one.simulated for one in sheets),
        "logged": "ordered" in targets,
        "marks": MARKS,
        "intervals_note": INTERVALS_NOTE,
        "target_notes": {TARGET_NAMES[t]: TARGET_NOTES[t] for t in targets},
        "metric_notes": {METRIC_NAMES[m]: METRIC_NOTES[m] for m in metrics if m in METRIC_NOTES},
        "all": ALL,
        "plotly": Markup(_plotly()) if any(drawn.values()) else "",  # noqa: S704 - our own dependency's source
    }


def _environment() -> Environment:
    loader = PackageLoader("mmse.lab.compare", "page")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["signed"] = _signed
    sources = {
        "page_css": resources.files("mmse.evaluation") / "report" / "page.css",
        "compare_css": resources.files("mmse.lab.compare") / "page" / "compare.css",
        "compare_js": resources.files("mmse.lab.compare") / "page" / "compare.js",
    }
    for name, file in sources.items():
        environment.globals[name] = Markup(file.read_text("utf-8"))  # noqa: S704 - our own file
    return environment


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _signed(value: float) -> str:
    """`+0.031` or `−0.031`, the minus as wide as the plus."""
    return f"{value:+.3f}".replace("-", "−")
