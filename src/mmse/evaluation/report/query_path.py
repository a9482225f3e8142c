"""The report's sections on the query path: fusion against its channels, filters, and how true probabilities are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mmse.evaluation.filter_quality import FilterQuality
from mmse.evaluation.offline import Evaluation
from mmse.evaluation.reliability import Reliability, ThresholdCurve, best_forms
from mmse.evaluation.report.words import FILTER_SORTS, SAMPLES, SAMPLES_SHORT, join_words, measure_name, target_name
from mmse.evaluation.rows import measure_of
from mmse.evaluation.shortfall import Shortfall, describe

FORM_COLOURS = {"adapter": 0, "distribution": 1}
THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""The minimum probabilities whose cost the table beside the curve shows."""
UNBIASED_SAMPLES = ("explored slots", "hits, true chance")
"""The samples that no engine selected."""


@dataclass(frozen=True)
class QueryPathContext:
    """The measurements of the query path (see `Evaluation`); `form` is the calibration in use.

    `filters_tried` is whether the evaluation looked for filters: then an empty `filters` means that no column can be
    filtered by.
    """

    shortfall: Shortfall = field(default_factory=Shortfall)
    filters: list[FilterQuality] = field(default_factory=list)
    filters_tried: bool = False
    reliability: list[Reliability] = field(default_factory=list)
    threshold_curve: ThresholdCurve | None = None
    form: str = ""
    learned_on: str = ""

    @property
    def of_form_in_use(self) -> list[Reliability]:
        """The reliability of the calibration in use, a record per sample."""
        return [record for record in self.reliability if record.form == self.form]


NOTHING_MEASURED = QueryPathContext()


def query_path_context(evaluation: Evaluation, *, filters_tried: bool = False) -> QueryPathContext:
    """The measurements of the query path in an evaluation."""
    return QueryPathContext(
        shortfall=evaluation.shortfall,
        filters=evaluation.filters,
        filters_tried=filters_tried,
        reliability=evaluation.reliability,
        threshold_curve=evaluation.threshold_curve,
        form=str(evaluation.facts.get("probability", "")),
        learned_on=str(evaluation.facts.get("probability learned on", "")),
    )


def fusion_section(context: QueryPathContext, subject: str) -> dict[str, Any] | None:
    """Whether the fused ranking falls short of one of its channels; None if that was not compared."""
    if not context.shortfall.n_compared:
        return None
    losses = [
        {
            "measure": measure_name(measure_of(d)),
            "target": target_name(d.target),
            "slice": d.slice,
            "versus": d.versus,
            "value": d.value,
            "low": d.low,
            "high": d.high,
        }
        for d in context.shortfall.losses
    ]
    return {"sentence": re.sub(r"-(?=\d)", "−", describe(context.shortfall, subject)), "losses": losses}


def filter_lines(filters: Sequence[FilterQuality]) -> list[dict[str, Any]]:
    """A line per sort and selectivity, as text."""
    return [
        {
            "sort": FILTER_SORTS[quality.sort],
            "selectivity": _percent(quality.selectivity),
            "share": _percent(quality.share),
            "searches": quality.searches,
            "recall": f"{quality.recall:.3f}",
            "full": f"{quality.full:.1%}",
            "ms": f"{quality.p50_ms:.1f}",
        }
        for quality in filters
    ]


def calibration_lines(context: QueryPathContext) -> list[dict[str, Any]]:
    """A line per sample and form, the form in use first; `better` marks the lower log loss of a sample."""
    best = best_forms(context.reliability)
    return [
        {
            "sample": SAMPLES.get(sample, sample),
            "form": record.form,
            "slots": record.slots,
            "error": f"{record.error:.3f}",
            "log_loss": f"{record.log_loss:.4f}",
            "in_use": record.form == context.form,
            "better": best[sample] == record.form,
        }
        for sample in best
        for record in _of_sample(context, sample)
    ]


def calibration_sentences(context: QueryPathContext) -> list[str]:
    """Two sentences: the error of the form in use, and on which samples it is the better form; none without a form."""
    records = context.of_form_in_use
    if not records:
        return []
    errors = join_words(
        [
            f"{100 * record.error:.1f} percentage points on {SAMPLES.get(record.sample, record.sample)}"
            for record in _unbiased(records)
        ]
    )
    best = best_forms(context.reliability)
    wins = [SAMPLES.get(sample, sample) for sample, form in best.items() if form == context.form]
    samples = "everything it was held against" if len(wins) == len(best) else join_words(wins)
    loss = (
        f"has the lower log loss on {samples}" if wins else "has the higher log loss on everything it was held against"
    )
    return [
        f"On average a probability is off by {errors}.",
        f"The form in use, {context.form}, was learned on {context.learned_on} and {loss}.",
    ]


def reliability_charts(context: QueryPathContext) -> list[dict[str, Any]]:
    """One chart per sample: probability against share of clicks, a series per form, the form in use first."""
    charts = []
    for sample in dict.fromkeys(record.sample for record in context.reliability):
        series = [
            {
                "name": record.form,
                "colour": FORM_COLOURS.get(record.form, 2),
                "x": [b.probability for b in record.bins],
                "value": [b.clicked for b in record.bins],
                "low": [b.low for b in record.bins],
                "high": [b.high for b in record.bins],
                "looks": [b.looks for b in record.bins],
            }
            for record in _of_sample(context, sample)
        ]
        title = SAMPLES.get(sample, sample)
        charts.append({"kind": "reliability", "title": title[:1].upper() + title[1:], "series": series})
    return charts


def threshold_charts(curve: ThresholdCurve | None) -> list[dict[str, Any]]:
    """The curve of what a minimum probability costs."""
    if curve is None:
        return []
    series = [
        {"name": "searches that still get a hit", "colour": 0, "x": curve.thresholds, "value": curve.answer_rate},
        {"name": "share of the recall that remains", "colour": 1, "x": curve.thresholds, "value": curve.recall},
    ]
    return [{"kind": "kept", "title": "What a minimum probability costs", "series": series}]


def threshold_lines(curve: ThresholdCurve | None) -> list[dict[str, str]]:
    """A few points of that curve, as far as it goes."""
    if curve is None:
        return []
    lines = []
    for minimum in THRESHOLDS:
        index = next((i for i, threshold in enumerate(curve.thresholds) if threshold >= minimum - 1e-9), None)
        if index is not None:
            answer_rate, recall = f"{curve.answer_rate[index]:.1%}", f"{curve.recall[index]:.1%}"
            threshold = _percent(curve.thresholds[index])
            lines.append({"threshold": threshold, "answer_rate": answer_rate, "recall": recall})
    return lines


def summary(context: QueryPathContext, subject: str) -> list[str]:
    """The query path for a terminal, a line each."""
    lines = [line] if (line := describe(context.shortfall, subject)) else []
    if context.filters:
        recall = min(quality.recall for quality in context.filters)
        full = min(quality.full for quality in context.filters)
        missing_hits = "no search was short of hits" if full == 1 else f"{1 - full:.1%} of searches short of hits"
        lines.append(f"Filters: at worst {recall:.3f} of exact recall@100; {missing_hits}.")
    if records := context.of_form_in_use:
        errors = ", ".join(
            f"{record.error:.3f} {SAMPLES_SHORT.get(record.sample, record.sample)}" for record in _unbiased(records)
        )
        lines.append(f"Probabilities ({context.form}): calibration error {errors}.")
    return lines


def _unbiased(records: Sequence[Reliability]) -> Sequence[Reliability]:
    """The records of samples that no engine selected; all of them if there is no such sample."""
    return [record for record in records if record.sample in UNBIASED_SAMPLES] or records


def _of_sample(context: QueryPathContext, sample: str) -> list[Reliability]:
    """The records of one sample, the form in use first."""
    records = [record for record in context.reliability if record.sample == sample]
    return sorted(records, key=lambda record: record.form != context.form)


def _percent(share: float) -> str:
    """A share with as many digits as it needs: `50%`, `1.2%`, `0.035%`."""
    return f"{100 * share:.2g}%" if share < 0.1 else f"{share:.0%}"
