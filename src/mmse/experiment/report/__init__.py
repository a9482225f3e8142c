"""The report of a test as one HTML file, for whoever has to decide."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmse.core.artifact import write_file
from mmse.experiment.analysis import Analysis
from mmse.experiment.metrics import METRICS, words
from mmse.experiment.report import charts


def write_report(found: Analysis, title: str, out: Path, *, simulated: bool = False) -> None:
    """Writes the page to the file `out`; raises `OutputError` where it cannot be written."""
    others = [seen.name for seen in found.arms if seen.name != found.control]
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            found=found,
            title=title,
            simulated=simulated,
            others=others,
            metrics=METRICS,
            forests={arm: charts.forest(found, arm) for arm in others},
            lines={arm: charts.over_days(found.cumulative[arm], peeked=True) for arm in others},
            ages={arm: charts.over_days(found.by_age[arm], peeked=False) for arm in others},
            decided={(one.arm, one.metric): holds for one, holds in zip(found.effects, found.significant, strict=True)},
        )
    )
    write_file(out, page.encode())


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mmse.experiment", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = charts.signed
    environment.filters["words"] = words
    environment.filters["metric_value"] = metric_value
    css = {
        "page_css": resources.files("mmse.evaluation") / "report" / "page.css",
        "report_css": resources.files("mmse.experiment") / "report" / "report.css",
    }
    for name, file in css.items():
        environment.globals[name] = Markup(file.read_text("utf-8"))  # noqa: S704 - our own file
    return environment


def metric_value(number: float, metric: str) -> str:
    """A value of a metric, in its unit."""
    kind = METRICS[metric].kind
    return f"{number:.2%}" if kind == "share" else f"{number:,.2f}" if kind == "money" else f"{number:.4f}"
