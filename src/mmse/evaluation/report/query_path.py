"""The sections about the query path: both channels together, filters, and how true a probability is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mmse.evaluation.filter_quality import Filtered
from mmse.evaluation.offline import Evaluation
from mmse.evaluation.reliability import Kept, Reliability, better_form
from mmse.evaluation.report.words import HELD_AGAINST, HELD_AGAINST_SHORT, SORTS, listed, measure_name, target_name
from mmse.evaluation.rows import measure_of
from mmse.evaluation.shortfall import Shortfall, in_words

FORM_SLOTS = {"adapter": 0, "distribution": 1}
THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Least probabilities whose cost stands in a table beside the curve."""
FAIR = ("explored slots", "hits, true chance")
"""The sets of slots that no engine picked."""


@dataclass(frozen=True)
class ServedContext:
    """What was measured of the query path (see `Evaluation`); `form` is the calibration in use.

    `filters_tried` is whether filters were looked for, so that none means a catalogue without a column for them.
    """

    shortfall: Shortfall = field(default_factory=Shortfall)
    filters: list[Filtered] = field(default_factory=list)
    filters_tried: bool = False
    reliability: list[Reliability] = field(default_factory=list)
    kept: Kept | None = None
    form: str = ""
    learned_on: str = ""


NOTHING_SERVED = ServedContext()


def served_context(evaluation: Evaluation, *, filters_tried: bool = False) -> ServedContext:
    """What an evaluation has measured of the query path."""
    return ServedContext(
        shortfall=evaluation.shortfall,
        filters=evaluation.filters,
        filters_tried=filters_tried,
        reliability=evaluation.reliability,
        kept=evaluation.kept,
        form=str(evaluation.facts.get("probability", "")),
        learned_on=str(evaluation.facts.get("probability learned on", "")),
    )


def together(about: ServedContext, ours: str) -> dict[str, Any] | None:
    """Whether both channels together fall short of one of them; None where that was not compared."""
    if not about.shortfall.compared:
        return None
    below = [
        {
            "what": measure_name(measure_of(d)),
            "target": target_name(d.target),
            "slice": d.slice,
            "versus": d.versus,
            "value": d.value,
            "low": d.low,
            "high": d.high,
        }
        for d in about.shortfall.below
    ]
    return {"said": re.sub(r"-(?=\d)", "−", in_words(about.shortfall, ours)), "below": below}


def filter_lines(filters: Sequence[Filtered]) -> list[dict[str, Any]]:
    """A line a sort and selectivity, in words."""
    return [
        {
            "sort": SORTS[one.sort],
            "about": _percent(one.about),
            "share": _percent(one.share),
            "searches": one.searches,
            "recall": f"{one.recall:.3f}",
            "full": f"{one.full:.1%}",
            "ms": f"{one.p50_ms:.1f}",
        }
        for one in filters
    ]


def calibration_lines(about: ServedContext) -> list[dict[str, Any]]:
    """A line a set of slots and form, the form in use first; `better` has the lower log loss of its set."""
    best = better_form(about.reliability)
    return [
        {
            "on": HELD_AGAINST.get(one.on, one.on),
            "form": one.form,
            "slots": one.slots,
            "error": f"{one.error:.3f}",
            "log_loss": f"{one.log_loss:.4f}",
            "in_use": one.form == about.form,
            "better": best[one.on] == one.form,
        }
        for on in best
        for one in _forms(about, on)
    ]


def calibration_said(about: ServedContext) -> list[str]:
    """How far off the form in use is, and which form is the likelier, a sentence each; none without a form in use."""
    used = [one for one in about.reliability if one.form == about.form]
    if not used:
        return []
    fair = [one for one in used if one.on in FAIR] or used
    off = listed([f"{100 * one.error:.1f} percentage points on {HELD_AGAINST.get(one.on, one.on)}" for one in fair])
    best = better_form(about.reliability)
    won = [HELD_AGAINST.get(on, on) for on, form in best.items() if form == about.form]
    lead = "everything it was held against" if len(won) == len(best) else listed(won)
    lower = f"has the lower log loss on {lead}" if won else "has the higher log loss on everything it was held against"
    return [
        f"On average a probability is off by {off}.",
        f"The form in use, {about.form}, was learned on {about.learned_on} and {lower}.",
    ]


def reliability_charts(about: ServedContext) -> list[dict[str, Any]]:
    """One chart a set of slots: what was said against what came, a series a form, the one in use first."""
    charts = []
    for on in dict.fromkeys(one.on for one in about.reliability):
        series = [
            {
                "name": one.form,
                "slot": FORM_SLOTS.get(one.form, 2),
                "x": [b.likely for b in one.bins],
                "value": [b.clicked for b in one.bins],
                "low": [b.low for b in one.bins],
                "high": [b.high for b in one.bins],
                "looks": [b.looks for b in one.bins],
            }
            for one in _forms(about, on)
        ]
        title = HELD_AGAINST.get(on, on)
        charts.append({"kind": "reliability", "title": title[:1].upper() + title[1:], "series": series})
    return charts


def kept_charts(kept: Kept | None) -> list[dict[str, Any]]:
    """The curve of what a least probability leaves."""
    if kept is None:
        return []
    series = [
        {"name": "searches that still get a hit", "slot": 0, "x": kept.least, "value": kept.answered},
        {"name": "share of the recall that is kept", "slot": 1, "x": kept.least, "value": kept.recall},
    ]
    return [{"kind": "kept", "title": "What a least probability leaves", "series": series}]


def kept_lines(kept: Kept | None) -> list[dict[str, str]]:
    """A few points of that curve, as far as it goes."""
    if kept is None:
        return []
    lines = []
    for at in THRESHOLDS:
        place = next((i for i, least in enumerate(kept.least) if least >= at - 1e-9), None)
        if place is not None:
            answered, recall = f"{kept.answered[place]:.1%}", f"{kept.recall[place]:.1%}"
            lines.append({"least": _percent(kept.least[place]), "answered": answered, "recall": recall})
    return lines


def summary(about: ServedContext, ours: str) -> list[str]:
    """What a terminal says of the query path, a line each."""
    said = [line] if (line := in_words(about.shortfall, ours)) else []
    if about.filters:
        recall, full = min(one.recall for one in about.filters), min(one.full for one in about.filters)
        short = "no search was short of hits" if full == 1 else f"{1 - full:.1%} of searches short of hits"
        said.append(f"Filters: at worst {recall:.3f} of exact recall@100; {short}.")
    used = [one for one in about.reliability if one.form == about.form]
    if used:
        fair = [one for one in used if one.on in FAIR] or used
        errors = ", ".join(f"{one.error:.3f} {HELD_AGAINST_SHORT.get(one.on, one.on)}" for one in fair)
        said.append(f"Probabilities ({about.form}): calibration error {errors}.")
    return said


def _forms(about: ServedContext, on: str) -> list[Reliability]:
    """What was measured on one set of slots, the form in use first."""
    return sorted((one for one in about.reliability if one.on == on), key=lambda one: one.form != about.form)


def _percent(share: float) -> str:
    """A share with as many places as it needs: `50%`, `1.2%`, `0.035%`."""
    return f"{100 * share:.2g}%" if share < 0.1 else f"{share:.0%}"
