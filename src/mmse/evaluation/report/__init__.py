"""The report: one HTML file with everything in it, for a search team and its managers.

The file contains styles, data and the chart library (plotly): nothing is loaded from a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from mmse.core.artifact import explain_os_errors
from mmse.core.config import build
from mmse.core.pages import page_environment
from mmse.evaluation.report import query_path, views, words
from mmse.evaluation.report.query_path import NOTHING_MEASURED, QueryPathContext
from mmse.evaluation.rows import ALL, Difference, Row

__all__ = ["QueryPathContext", "ReportContext", "render_report"]


@dataclass(frozen=True)
class ReportContext:
    """The content of the report besides its rows.

    `shop` and `subject` name the shop and the system that the report is about. `facts` are shown under the title in
    their order (items, requests per split, dates, fingerprint, seed, commit, hardware …). `simulated` adds a badge to
    every section with numbers. `warnings` are sentences that a reader should see before the numbers. `training` has
    points with a `step` and named quantities: losses and shares from 0 to 1 are drawn, others not. `ann` has one record
    per index, all with the same keys, the index's name first. `command` is the command that makes this report again.
    """

    shop: str
    subject: str
    simulated: bool = False
    facts: dict[str, str | int | float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    training: list[dict[str, float | None]] = field(default_factory=list)
    ann: list[dict[str, str | int | float]] = field(default_factory=list)
    command: str = ""


def render_report(
    rows: Sequence[Row],
    differences: Sequence[Difference],
    context: Mapping[str, Any],
    target: Path,
    measurements: QueryPathContext = NOTHING_MEASURED,
) -> None:
    """Writes the report to the file `target`.

    `context` has the fields of `ReportContext`; `measurements` are of the query path.
    Sections without rows are left out. Raises `UsageError` for an unknown or wrong field of `context`, and
    `OutputError` if `target` cannot be written.
    """
    about = build(ReportContext, context, "the report's context")
    page = _environment().get_template("page.html.j2").render(**_sections(rows, differences, about, measurements))
    with explain_os_errors(target):
        target.write_text(page, "utf-8")


def _sections(
    rows: Sequence[Row], differences: Sequence[Difference], about: ReportContext, measurements: QueryPathContext
) -> dict[str, Any]:
    results = views.Results(rows, differences, about.subject)
    lines = views.lines(results)
    charts = {
        "curves": views.curves(results),
        "truth": views.truth_bars(results),
        "gains": views.slice_gains(results),
        "training": views.training_curves(about.training),
        "reliability": query_path.reliability_charts(measurements),
        "kept": query_path.threshold_charts(measurements.threshold_curve),
    }
    targets = list(dict.fromkeys(line.measure.target for line in lines))
    metrics = list(dict.fromkeys(line.measure.metric for line in lines))
    return {
        "about": about,
        "systems": results.systems,
        "colours": results.colours,
        "cards": views.cards(results),
        "lines": lines,
        "slices": list(dict.fromkeys(line.slice for line in lines)),
        "all": ALL,
        "tally": views.tally(lines),
        "charts": charts,
        "fusion": query_path.fusion_section(measurements, about.subject),
        "filters": query_path.filter_lines(measurements.filters),
        "calibration": query_path.calibration_lines(measurements),
        "calibration_sentences": query_path.calibration_sentences(measurements),
        "threshold_lines": query_path.threshold_lines(measurements.threshold_curve),
        "query_path": measurements,
        "target_notes": {words.target_name(t): words.TARGET_NOTES[t] for t in targets},
        "metric_notes": {words.METRIC_NAMES[m]: words.METRIC_NOTES[m] for m in metrics if m in words.METRIC_NOTES},
        "logged": "ordered" in targets or "clicked" in targets,
        "intervals_note": words.INTERVALS_NOTE,
        "plotly": Markup(plotly_script()) if any(charts.values()) else "",  # noqa: S704 - our own dependency's source
    }


def _environment() -> Environment:
    sources = [("mmse.evaluation", f"report/{name}") for name in ("page.css", "page.js")]
    environment = page_environment("mmse.evaluation", "report", *sources)
    environment.filters |= {"signed": signed, "grouped": _group_digits, "sentence": words.sentence}
    return environment


def plotly_script() -> str:
    """The source of plotly.js, to be put into a page."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def signed(value: float) -> str:
    """`+0.031` or `−0.031`, with a true minus sign."""
    return f"{value:+.3f}".replace("-", "−")


def _group_digits(value: str | int | float) -> str:
    """Whole numbers with separated thousands, fractions with four digits, text as it is."""
    if isinstance(value, (bool, str)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
