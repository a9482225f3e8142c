"""The report: one HTML file with everything in it, for a search team and whom they answer to.

Nothing is loaded from a network: styles, data, the chart library (plotly) stand in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmse.core.artifact import writable
from mmse.core.config import build
from mmse.evaluation.report import query_path as served
from mmse.evaluation.report import views, words
from mmse.evaluation.report.query_path import NOTHING_SERVED, ServedContext
from mmse.evaluation.rows import ALL, Difference, Row

__all__ = ["ReportContext", "ServedContext", "render_report"]


@dataclass(frozen=True)
class ReportContext:
    """What the report says besides its rows.

    `shop` and `ours` name the shop and the system that the report is about. `facts` are shown under the title in their
    order (items, requests per split, dates, fingerprint, seed, commit, hardware …). `simulated` puts a badge wherever
    numbers stand. `warnings` are sentences that a reader should see before the numbers. `training` holds points with a
    `step` and named quantities: losses, and shares from 0 to 1; others are not drawn. `ann` holds one record an index
    with the same keys each, the first its name. `command` makes this report again.
    """

    shop: str
    ours: str
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
    out: Path,
    path: ServedContext = NOTHING_SERVED,
) -> None:
    """Writes the report to the file `out`; `context` holds the fields of `ReportContext`, `path` is of the query path.

    Sections without rows are left out. Raises `UsageError` for an unknown or wrong field of `context`, and
    `OutputError` where `out` cannot be written.
    """
    about = build(ReportContext, context, "the report's context")
    page = _environment().get_template("page.html.j2").render(**_sections(rows, differences, about, path))
    with writable(out):
        out.write_text(page, "utf-8")


def _sections(
    rows: Sequence[Row], differences: Sequence[Difference], about: ReportContext, path: ServedContext
) -> dict[str, Any]:
    results = views.Results(rows, differences, about.ours)
    lines = views.lines(results)
    charts = {
        "curves": views.curves(results),
        "truth": views.truth_bars(results),
        "gains": views.slice_gains(results),
        "training": views.training_curves(about.training),
        "reliability": served.reliability_charts(path),
        "kept": served.kept_charts(path.kept),
    }
    targets = list(dict.fromkeys(line.measure.target for line in lines))
    metrics = list(dict.fromkeys(line.measure.metric for line in lines))
    return {
        "about": about,
        "systems": results.systems,
        "slots": results.slots,
        "cards": views.cards(results),
        "lines": lines,
        "slices": list(dict.fromkeys(line.slice for line in lines)),
        "all": ALL,
        "tally": views.tally(lines),
        "charts": charts,
        "together": served.together(path, about.ours),
        "filters": served.filter_lines(path.filters),
        "calibration": served.calibration_lines(path),
        "calibration_said": served.calibration_said(path),
        "kept_lines": served.kept_lines(path.kept),
        "path": path,
        "target_notes": {words.target_name(t): words.TARGET_NOTES[t] for t in targets},
        "metric_notes": {words.METRIC_NAMES[m]: words.METRIC_NOTES[m] for m in metrics if m in words.METRIC_NOTES},
        "logged": "ordered" in targets or "clicked" in targets,
        "intervals_note": words.INTERVALS_NOTE,
        "plotly": Markup(_plotly()) if any(charts.values()) else "",  # noqa: S704 - our own dependency's source
    }


def _environment() -> Environment:
    loader = PackageLoader("mmse.evaluation", "report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"signed": _signed, "grouped": _grouped, "sentence": words.sentence}
    folder = resources.files("mmse.evaluation") / "report"
    for name in ("page.css", "page.js"):
        source = (folder / name).read_text("utf-8")
        environment.globals[name.replace(".", "_")] = Markup(source)  # noqa: S704 - our own file
    return environment


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _signed(value: float) -> str:
    """`+0.031` or `−0.031`, the minus as wide as the plus."""
    return f"{value:+.3f}".replace("-", "−")


def _grouped(value: str | int | float) -> str:
    """Whole numbers with thousands apart, fractions short, text as it is."""
    if isinstance(value, (bool, str)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
