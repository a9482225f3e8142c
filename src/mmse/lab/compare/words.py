"""What the grid's tables and pages call things."""

from __future__ import annotations

from mmse.evaluation.report.words import METRIC_NAMES, TARGET_NAMES

_SHORT = {
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
    ("no mark", "The interval of the difference holds zero: these numbers do not tell the two apart."),
    ("*", "The interval leaves zero out. Of twenty differences that are none, about one is still marked."),
    (
        "**",
        "The difference also stands after Holm's correction over all systems of the table: that any one of a column's "
        "double marks is chance is itself less likely than one in twenty.",
    ),
)


def short_name(measure: tuple[str, str, int]) -> str:
    """A column's head on a terminal: `off-search @100` is recall of orders outside the search among the first 100."""
    target, metric, k = measure
    return f"{_SHORT.get((target, metric), f'{target} {metric}')} @{k}"


def long_name(measure: tuple[str, str, int]) -> tuple[str, str]:
    """What is measured, and of what, in words."""
    target, metric, k = measure
    return f"{METRIC_NAMES.get(metric, metric)}@{k}", TARGET_NAMES.get(target, target)
