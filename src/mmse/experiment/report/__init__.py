"""The report of a test as one HTML file, for the people who decide."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmse.core.artifact import write_file
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
    environment = Environment(
        loader=PackageLoader("mmse.experiment", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = charts.signed
    environment.filters["label"] = label
    css = {
        "page_css": resources.files("mmse.evaluation") / "report" / "page.css",
        "report_css": resources.files("mmse.experiment") / "report" / "report.css",
    }
    for name, file in css.items():
        environment.globals[name] = Markup(file.read_text("utf-8"))  # noqa: S704 - our own file
    return environment
