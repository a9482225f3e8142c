"""The report of a test as one HTML file, for the people who decide."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment

from mmse.core.artifact import write_file
from mmse.core.pages import page_environment
from mmse.experiment.analysis import Analysis
from mmse.experiment.metrics import METRICS, label
from mmse.experiment.report import charts


def write_report(analysis: Analysis, title: str, path: Path, *, simulated: bool = False) -> None:
    """Writes the page to the file `path`; raises `OutputError` if it cannot be written."""
    treatments = [arm.name for arm in analysis.arms if arm.name != analysis.control]
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            analysis=analysis,
            title=title,
            simulated=simulated,
            treatments=treatments,
            metrics=METRICS,
            forests={arm: charts.forest_chart(analysis, arm) for arm in treatments},
            lines={arm: charts.daily_chart(analysis.cumulative[arm], show_always=True) for arm in treatments},
            ages={arm: charts.daily_chart(analysis.by_age[arm], show_always=False) for arm in treatments},
            capped={(e.arm, e.metric): light for e, light in zip(analysis.effects, analysis.capped, strict=True)},
            significant={
                (effect.arm, effect.metric): holds
                for effect, holds in zip(analysis.effects, analysis.significant, strict=True)
            },
        )
    )
    write_file(path, page.encode())


def _environment() -> Environment:
    environment = page_environment(
        "mmse.experiment", "report", ("mmse.evaluation", "report/page.css"), ("mmse.experiment", "report/report.css")
    )
    environment.filters |= {"signed": charts.signed, "label": label}
    return environment
