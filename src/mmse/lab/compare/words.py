"""The names of measures and marks in the grid's tables and pages."""

from __future__ import annotations

from mmse.evaluation.report.words import measure_name, target_name
from mmse.evaluation.rows import Measure

_SHORT_NAMES = {
    ("truth", "order_rate"): "order rate",
    ("off_search", "recall"): "off-search",
    ("truth", "share_of_top"): "true best",
    ("ordered", "recall"): "ordered",
    ("clicked", "recall"): "clicked",
    ("clicked", "ndcg"): "nDCG",
    ("judged", "recall"): "judged",
    ("judged", "mrr"): "MRR",
}

MARKS = (
    ("no mark", "The interval of the difference includes zero: these numbers do not tell the two systems apart."),
    ("*", "The interval excludes zero. If nothing differs, about one of twenty differences is still marked."),
    (
        "**",
        "The difference is also significant after Holm's correction over all systems of the table: the chance that any "
        "double mark of a column is false is below one in twenty.",
    ),
)


def short_name(measure: Measure) -> str:
    """A column's head on a terminal: `off-search @100` is recall of orders outside the search among the first 100."""
    target, metric = measure.target, measure.metric
    return f"{_SHORT_NAMES.get((target, metric), f'{target} {metric}')} @{measure.k}"


def long_name(measure: Measure) -> tuple[str, str]:
    """The metric and its target in words."""
    return measure_name(measure), target_name(measure.target)


def chart_title(measure: Measure, joint: str, data: str) -> str:
    """A chart's title: metric, `joint`, target, and data set."""
    metric, target = long_name(measure)
    return f"{metric}{joint}{target.lower()}, {data}"
