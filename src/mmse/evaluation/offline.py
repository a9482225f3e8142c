"""The offline evaluation of a run on its log: how much of what shoppers clicked or ordered each system finds.

Recall of logged clicks and orders favours systems that imitate the engine that made the log, because shoppers can only
order what they were shown. A simulated shop is therefore also compared with its truth, and a real log with the slots
that were filled at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int64

from mmse.core.config import require
from mmse.core.errors import ArtifactError
from mmse.core.progress import Progress, silent
from mmse.core.run_folder import DATASET, RANKING
from mmse.dataset.folder import TEST
from mmse.evaluation import metrics
from mmse.evaluation.bootstrap import BootstrapConfig
from mmse.evaluation.channels import CUTS, HITS, ChannelResults, QueryBatch, Subject
from mmse.evaluation.filter_quality import FilterQuality, measure_filters
from mmse.evaluation.metric_values import MetricValues, summarise
from mmse.evaluation.reliability import (
    CalibrationSample,
    Reliability,
    ThresholdCurve,
    concatenate_probabilities,
    measure_reliability,
    threshold_curve,
)
from mmse.evaluation.rows import ALL, Difference, Row
from mmse.evaluation.shortfall import Shortfall, describe, find_shortfall
from mmse.evaluation.slices import Slice, slices_of
from mmse.evaluation.systems import open_baselines, rank_all
from mmse.evaluation.truth import CatalogueTruth, ShopperTruth, true_hits, truth_metrics
from mmse.ranking.calibration import NO_PROBABILITIES
from mmse.schema.stages import STAGE_GAINS, Stage
from mmse.training.targets import LoggedRequests, ShownSlots, read_logged_requests, read_slots

SLICE_CUTS = (10, 100)
_GAINS = np.array([STAGE_GAINS.get(stage, 0.0) for stage in Stage])


@dataclass(frozen=True)
class EvaluateConfig:
    """How many test requests are evaluated, and how precise the intervals are.

    `requests` are compared with the log, the first `truth_requests` of them with the truth, the hits of the first
    `calibration_requests` with the true chance of a click; the first `filter_requests` are searched under filters.
    """

    requests: int = 5_000
    truth_requests: int = 1_000
    calibration_requests: int = 500
    filter_requests: int = 150
    draws: int = 1_000
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.requests >= 1, "requests", self.requests, "at least 1")
        require(self.truth_requests >= 1, "truth_requests", self.truth_requests, "at least 1")
        require(self.calibration_requests >= 1, "calibration_requests", self.calibration_requests, "at least 1")
        require(self.filter_requests >= 0, "filter_requests", self.filter_requests, "0 or more")
        self.to_bootstrap()

    def to_bootstrap(self) -> BootstrapConfig:
        """The part of the config that is the bootstrap's."""
        return BootstrapConfig(draws=self.draws, seed=self.seed)


@dataclass
class Evaluation:
    """The results of an evaluation.

    `subject` is the name of the system that is served; `differences` are paired, the subject against each other system.
    `agreement` is how much of the exact ranking the index finds. `filters`, `reliability` and `threshold_curve` are of
    the query path on logged requests (`threshold_curve` is None if no hit was clicked or ordered). `facts` are other
    numbers and names for people.
    """

    subject: str
    rows: list[Row] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    agreement: list[dict[str, str | int | float]] = field(default_factory=list)
    shortfall: Shortfall = field(default_factory=Shortfall)
    filters: list[FilterQuality] = field(default_factory=list)
    reliability: list[Reliability] = field(default_factory=list)
    threshold_curve: ThresholdCurve | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def evaluate_log(
    run: Path, config: EvaluateConfig, truth: ShopperTruth | None = None, progress: Progress = silent
) -> Evaluation:
    """Compares the systems of `run` on its test requests; with `truth`, also with a simulated shop's truth."""
    subject = Subject.open(run)
    dataset = subject.run.dataset
    log = read_logged_requests(dataset, TEST, config.requests, clicked_only=False)
    if not len(log):
        raise ArtifactError(
            f"{dataset} has no test request, so there is nothing to evaluate on.",
            "Mine again with mine.test_share above 0, or evaluate with --judgements.",
        )
    batch = QueryBatch(log.queries, log.users, log.history)
    vectors = subject.vectors(batch)
    slots = read_slots(dataset, TEST, log)
    order, shown_rows = by_request(slots, len(log))
    results = subject.rank(log.queries, vectors, progress, shown_rows)
    rankings = results.rankings | rank_all(open_baselines(subject), batch, progress)
    catalogue_truth = CatalogueTruth.align(truth, dataset) if truth is not None else None
    rows = list(rankings.values())
    values = logged_metrics(rows, log, slices_of(dataset, log))
    samples = calibration_samples(slots, order, results)
    if catalogue_truth is not None:
        values += truth_metrics(rows, log.request_ids, catalogue_truth, config.truth_requests, config.seed, progress)
        samples.append(true_hits(results.hits, log.request_ids, catalogue_truth, config.calibration_requests))
    queries = np.unique(log.queries, return_inverse=True)[1].astype(np.int64)
    evaluation = compare_systems(values, list(rankings), subject, queries, config, progress)
    evaluation.agreement = subject.agreement(vectors, results)
    progress("search under filters", 0, 1)
    evaluation.filters = measure_filters(subject.retriever, log, vectors, config.filter_requests, config.seed)
    calibration = subject.retriever.ranking.calibration
    if calibration.is_learned:
        evaluation.reliability = [record for sample in samples for record in measure_reliability(sample)]
        evaluation.threshold_curve = threshold_curve(results.hits, calibration.form, _relevant(log), HITS)
    else:
        evaluation.warnings.append(NO_PROBABILITIES)
    evaluation.facts = {"test requests": len(log), "simulated": truth is not None} | _calibration_facts(subject)
    evaluation.warnings += _warnings(log, simulated=truth is not None)
    evaluation.warnings += subject.run.manifest(DATASET).counts.get("warnings", [])
    return evaluation


def compare_systems(
    values: Sequence[MetricValues],
    systems: Sequence[str],
    subject: Subject,
    clusters: Int64[np.ndarray, " n"],
    config: EvaluateConfig,
    progress: Progress,
) -> Evaluation:
    """The rows and differences of all systems, the subject first, and whether it falls short of its channels."""
    rows, differences = summarise(values, systems, clusters, config.to_bootstrap(), progress)
    channels = [subject.names["vector"], subject.names["lexical"]]
    shortfall = find_shortfall(differences, subject.name, channels)
    warnings = [describe(shortfall, subject.name)] if shortfall.losses else []
    return Evaluation(subject.name, rows, differences, warnings, shortfall=shortfall)


def logged_metrics(
    rankings: Sequence[Int[np.ndarray, "n depth"]], log: LoggedRequests, slices: Sequence[Slice]
) -> list[MetricValues]:
    """Recall of ordered and of clicked-or-ordered items in every slice, and nDCG and MRR with stage gains."""
    metric_values = []
    for part in slices:
        for target, stage in (("ordered", Stage.ORDERED), ("clicked", Stage.CLICKED)):
            pairs = part.pairs & part.requests[log.request] & (log.stages >= stage)
            relevant = metrics.from_pairs(log.request[pairs], log.item_rows[pairs], _GAINS[log.stages[pairs]], len(log))
            hits = [metrics.locate(ranking, relevant) for ranking in rankings]
            for k in CUTS if part.name == ALL else SLICE_CUTS:
                values = np.stack([metrics.recall(h, k) for h in hits])
                metric_values.append(MetricValues(target, part.name, "recall", k, values))
            if target == "clicked":
                for name, metric in (("ndcg", metrics.ndcg), ("mrr", metrics.mrr)):
                    values = np.stack([metric(h, 10) for h in hits])
                    metric_values.append(MetricValues(target, part.name, name, 10, values))
    return metric_values


def by_request(slots: ShownSlots, n: int) -> tuple[Int64[np.ndarray, " slots"], list[Int64[np.ndarray, " _"]]]:
    """An order of the slots by request, and the distinct rows that each of `n` requests was shown, in that order.

    A row that a request was shown twice counts once.
    """
    order = np.lexsort((slots.item_rows, slots.request))
    request, rows = slots.request[order], slots.item_rows[order].astype(np.int64)
    repeats = np.append(False, (request[1:] == request[:-1]) & (rows[1:] == rows[:-1]))[: len(order)]
    order, request, rows = order[~repeats], request[~repeats], rows[~repeats]
    return order, np.split(rows, np.searchsorted(request, np.arange(1, n)))


def calibration_samples(
    slots: ShownSlots, order: Int64[np.ndarray, " slots"], results: ChannelResults
) -> list[CalibrationSample]:
    """The shown slots with their probabilities: all slots, and those filled at random."""
    probabilities = concatenate_probabilities([query_hits.extra_probabilities for query_hits in results.hits])
    clicked = (slots.stages[order] >= Stage.CLICKED).astype(np.float64)
    looks, explored = slots.examination[order].astype(np.float64), slots.explored[order]
    explored_probabilities = {form: values[explored] for form, values in probabilities.items()}
    return [
        CalibrationSample("all slots", probabilities, clicked, looks),
        CalibrationSample("explored slots", explored_probabilities, clicked[explored], looks[explored]),
    ]


def _relevant(log: LoggedRequests) -> metrics.Relevant:
    return metrics.from_pairs(log.request, log.item_rows, np.ones(len(log.request)), len(log))


def _calibration_facts(subject: Subject) -> dict[str, str]:
    counts = subject.run.manifest(RANKING).counts
    source = f"{counts['calibrated_on']} of {counts['requests']:,} validation requests"
    calibration = subject.retriever.ranking.calibration
    return {"probability": calibration.form if calibration.is_learned else "none", "probability learned on": source}


def _warnings(log: LoggedRequests, *, simulated: bool) -> list[str]:
    warnings = []
    if not simulated and not log.explored.any():
        warnings.append(
            "No slot of this log was filled at random: recall of logged clicks and orders favours systems that imitate "
            "the engine that made the log, and nothing here can correct it. Fill a share of slots at random to know "
            "more."
        )
    n_orders = int((log.stages == Stage.ORDERED).sum())
    if n_orders < 100:
        warnings.append(f"The test window has only {n_orders} orders: intervals of 'ordered' are wide.")
    return warnings
