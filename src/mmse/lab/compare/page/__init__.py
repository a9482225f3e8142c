"""The grid's report: one self-contained HTML file, in the style of a run's report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from mmse.core.artifact import write_file
from mmse.core.pages import page_environment
from mmse.evaluation.report import plotly_script, signed
from mmse.evaluation.report.words import INTERVALS_NOTE, METRIC_NAMES, METRIC_NOTES, TARGET_NAMES, TARGET_NOTES
from mmse.lab.compare.data import DataKind
from mmse.lab.compare.machine import facts
from mmse.lab.compare.page import charts
from mmse.lab.compare.results import HEADLINES, Comparison, Gap, Result, Training
from mmse.lab.compare.words import MARKS, long_name

PAGE = "compare.html"


@dataclass(frozen=True)
class SheetCell:
    """One number of a table, and the subject's difference to it."""

    result: Result | None
    gap: Gap | None
    best: bool

    @property
    def word(self) -> str:
        """The subject against this system: `ahead`, `behind`, `level`, or `untested` without an interval."""
        assert self.gap is not None
        if self.gap.low is None:
            return "untested"
        return "level" if not self.gap.significant else "ahead" if self.gap.value > 0 else "behind"


@dataclass(frozen=True)
class Sheet:
    """The table of one data set: a line per system, a column per headline measure."""

    name: str
    kind: DataKind
    heads: list[tuple[str, str]]
    lines: list[tuple[str, list[SheetCell], Training | None]]

    @property
    def simulated(self) -> bool:
        """Whether the behaviour behind the numbers was simulated."""
        return self.kind == "simulated"

    @property
    def tally(self) -> dict[str, int]:
        """How many comparisons the subject wins, draws and loses."""
        words = [cell.word for _, cells, _ in self.lines for cell in cells if cell.gap is not None]
        return {word: words.count(word) for word in ("ahead", "level", "behind")}


def write_page(comparison: Comparison, path: Path) -> None:
    """Writes the report to the file `path`; raises `OutputError` where it cannot be written."""
    page = _environment().get_template("compare.html.j2").render(**_sections(comparison))
    write_file(path, page.encode())


def build_sheet(comparison: Comparison, name: str, kind: DataKind) -> Sheet:
    """The table of one data set with its headline measures."""
    systems = comparison.systems(name)
    measures = [m for m in HEADLINES[kind] if any(comparison.result(name, system, m) for system in systems)]
    best = {m: max(r.value for s in systems if (r := comparison.result(name, s, m))) for m in measures}
    lines = []
    for system in systems:
        cells = []
        for m in measures:
            result = comparison.result(name, system, m)
            cells.append(
                SheetCell(result, comparison.gap(name, system, m), result is not None and result.value == best[m])
            )
        lines.append((system, cells, comparison.seconds(name, system)))
    return Sheet(name, kind, [long_name(m) for m in measures], lines)


def _sections(comparison: Comparison) -> dict[str, Any]:
    sheets = [build_sheet(comparison, name, kind) for name, kind in comparison.data]
    looks = charts.assign_looks(comparison)
    sections = {
        "curves": charts.curves(comparison, looks),
        "gains": charts.slice_gains(comparison, looks),
        "time": charts.time_against_quality(comparison, looks),
        "learning": charts.learning_curves(comparison, looks),
    }
    targets = list(dict.fromkeys(r.target for r in comparison.results))
    metrics = list(dict.fromkeys(r.metric for r in comparison.results))
    return {
        "grid": comparison.grid,
        "subject": comparison.grid.subject,
        "changes": {name: json.dumps(comparison.grid.changes(name)) for name in comparison.grid.systems},
        "facts": facts() | {"cells": comparison.cells, "seeds": ", ".join(map(str, comparison.grid.seeds))},
        "sheets": sheets,
        "looks": looks,
        "visible": charts.first_systems(comparison),
        "failed": comparison.grouped_failures,
        "n_failed": len(comparison.failures),
        "charts": sections,
        "plots": [chart for section in sections.values() for chart in section],
        "simulated": any(sheet.simulated for sheet in sheets),
        "has_log": "ordered" in targets,
        "marks": MARKS,
        "intervals_note": INTERVALS_NOTE,
        "target_notes": {TARGET_NAMES[t]: TARGET_NOTES[t] for t in targets},
        "metric_notes": {METRIC_NAMES[m]: METRIC_NOTES[m] for m in metrics if m in METRIC_NOTES},
        "plotly": Markup(plotly_script()) if any(sections.values()) else "",  # noqa: S704 - our own dependency's source
    }


def _environment() -> Environment:
    sources = [("mmse.lab.compare", f"page/compare.{kind}") for kind in ("css", "js")]
    environment = page_environment("mmse.lab.compare", "page", ("mmse.evaluation", "report/page.css"), *sources)
    environment.filters["signed"] = signed
    return environment
