"""The sections about the query path: both channels together, filters, and how true a probability is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmse.evaluation.filtered import Filtered
from mmse.evaluation.reliability import Kept, Reliability, better_form
from mmse.evaluation.report.words import measure_name, target_name
from mmse.evaluation.rows import measure_of
from mmse.evaluation.shortfall import Shortfall, in_words

SORTS = {"random": "unrelated to the query", "near": "around an item that was wanted"}
FORM_SLOTS = {"adapter": 0, "distribution": 1}


@dataclass(frozen=True)
class ServedContext:
    """What was measured of the query path (see `Evaluation`); `form` is the calibration in use."""

    shortfall: Shortfall = field(default_factory=Shortfall)
    filters: list[Filtered] = field(default_factory=list)
    reliability: list[Reliability] = field(default_factory=list)
    kept: Kept | None = None
    form: str = ""
    learned_on: str = ""


NOTHING_SERVED = ServedContext()


def together(about: ServedContext, ours: str) -> dict[str, Any] | None:
    """Whether both channels together fall short of one of them; None where that was not compared."""
    if not about.shortfall.compared:
        return None
    below = [
        {
            "what": measure_name(measure_of(d)), "target": target_name(d.target), "slice": d.slice,
            "versus": d.versus, "value": d.value, "low": d.low, "high": d.high,
        }
        for d in about.shortfall.below
    ]  # fmt: skip
    return {"said": in_words(about.shortfall, ours), "below": below}


def filter_lines(filters: Sequence[Filtered]) -> list[dict[str, Any]]:
    """A line a sort and selectivity, in words."""
    return [
        {
            "sort": SORTS[one.sort], "about": f"{one.about:.1%}", "searches": one.searches,
            "recall": f"{one.recall:.3f}", "full": f"{one.full:.1%}", "ms": f"{one.p50_ms:.1f}",
        }
        for one in filters
    ]  # fmt: skip


def calibration_lines(about: ServedContext) -> list[dict[str, Any]]:
    """A line a set of slots and form, the form in use first; `better` has the lower log loss of its set."""
    best = better_form(about.reliability)
    ordered = sorted(about.reliability, key=lambda one: (one.on, one.form != about.form))
    return [
        {
            "on": one.on, "form": one.form, "slots": one.slots, "error": f"{one.error:.3f}",
            "log_loss": f"{one.log_loss:.4f}", "in_use": one.form == about.form, "better": best[one.on] == one.form,
        }
        for one in ordered
    ]  # fmt: skip


def reliability_charts(about: ServedContext) -> list[dict[str, Any]]:
    """One chart a set of slots: what was said against what came, a series a form, the one in use first."""
    charts = []
    for on in dict.fromkeys(one.on for one in about.reliability):
        forms = sorted((one for one in about.reliability if one.on == on), key=lambda one: one.form != about.form)
        series = [
            {
                "name": one.form, "slot": FORM_SLOTS.get(one.form, 2), "x": [b.likely for b in one.bins],
                "value": [b.clicked for b in one.bins], "low": [b.low for b in one.bins],
                "high": [b.high for b in one.bins], "looks": [b.looks for b in one.bins],
            }
            for one in forms
        ]  # fmt: skip
        charts.append({"kind": "reliability", "title": on[0].upper() + on[1:], "series": series})
    return charts


def kept_charts(kept: Kept | None) -> list[dict[str, Any]]:
    """The curve of what a least probability leaves."""
    if kept is None:
        return []
    series = [
        {"name": "searches with a hit left", "slot": 0, "x": kept.least, "value": kept.answered},
        {"name": "of the recall kept", "slot": 1, "x": kept.least, "value": kept.recall},
    ]
    return [{"kind": "kept", "title": "What a least probability leaves", "series": series}]


def summary(about: ServedContext, ours: str) -> list[str]:
    """What a terminal says of the query path, a line each."""
    line = in_words(about.shortfall, ours)
    said = [line] if line and not about.shortfall.below else []  # what falls short is a warning already
    if about.filters:
        worst = min(about.filters, key=lambda one: one.recall)
        full = "every search got all the hits there are" if all(one.full == 1 for one in about.filters) else (
            f"{min(one.full for one in about.filters):.1%} of searches got all the hits there are"
        )  # fmt: skip
        said.append(f"Under filters: recall@100 against exact at least {worst.recall:.3f}; {full}.")
    used = [one for one in about.reliability if one.form == about.form]
    if used:
        errors = ", ".join(f"{one.error:.3f} on {one.on}" for one in used)
        said.append(f"Probabilities ({about.form}, {about.learned_on}): calibration error {errors}.")
    return said


def served_context(evaluation: Mapping[str, Any]) -> ServedContext:
    """The context of an evaluation's fields."""
    facts = evaluation["facts"]
    return ServedContext(
        evaluation["shortfall"], evaluation["filters"], evaluation["reliability"], evaluation["kept"],
        str(facts.get("probability", "")), str(facts.get("probability learned on", "")),
    )  # fmt: skip
