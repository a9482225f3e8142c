"""The offline evaluation of a run: what each system finds of what was wanted, in the whole catalogue.

On a log, what was wanted is what was ordered or clicked. That flatters whoever imitates the engine that made the
log, because nobody can order what was not shown; so a simulated shop is also held against its truth, and a real log
against the slots that were filled at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int64

from mmse.core import artifact
from mmse.core.config import require
from mmse.core.errors import ArtifactError
from mmse.evaluation import metrics, shortfall
from mmse.evaluation.bootstrap import BootstrapConfig
from mmse.evaluation.channels import CUTS, HITS, Looked, Questions, Served
from mmse.evaluation.filter_quality import Filtered, filtered_recall
from mmse.evaluation.metric_values import Measured, Progress, summarise
from mmse.evaluation.reliability import Kept, Reliability, Slots, flat, kept, reliability
from mmse.evaluation.rows import ALL, Difference, Row
from mmse.evaluation.shortfall import Shortfall
from mmse.evaluation.slices import Slice, slices_of
from mmse.evaluation.systems import baselines_of, ranked
from mmse.evaluation.truth import World, true_hits, truth_metrics
from mmse.schema.stages import STAGE_GAINS, Stage
from mmse.training.targets import Logged, Shown, read_logged, read_shown

SLICE_CUTS = (10, 100)
_GAINS = np.array([STAGE_GAINS.get(stage, 0.0) for stage in Stage])


@dataclass(frozen=True)
class EvaluateConfig:
    """How many test requests are looked at, and how sure we want to be.

    `requests` are held against the log, the first `truth_requests` of them against the truth, the hits of the first
    `calibration_requests` against the true chance of a click; the first `filter_requests` are searched under filters.
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
        """The bootstrap these ask for."""
        return BootstrapConfig(draws=self.draws, seed=self.seed)


@dataclass
class Evaluation:
    """Everything an evaluation has to say.

    `differences` are paired, `ours` against each other system; `agreement` holds how much of the exact ranking the
    index finds; `filters`, `reliability` and `kept` are of the query path on logged requests (`kept` None where nothing
    was wanted); `facts` are what else is worth knowing.
    """

    ours: str
    rows: list[Row] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    agreement: list[dict[str, str | int | float]] = field(default_factory=list)
    shortfall: Shortfall = field(default_factory=Shortfall)
    filters: list[Filtered] = field(default_factory=list)
    reliability: list[Reliability] = field(default_factory=list)
    kept: Kept | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def evaluate_log(
    run: Path, config: EvaluateConfig, truth: Path | None = None, progress: Progress | None = None
) -> Evaluation:
    """Compares the systems of `run` on its test requests; with the folder `truth`, also on the simulated truth."""
    say = progress or (lambda what, done, total: None)
    served = Served.open(run)
    logged = read_logged(run / "dataset", "test", config.requests, clicked_only=False)
    if not len(logged):
        raise ArtifactError(
            f"{run / 'dataset'} has no test request, so there is nothing to evaluate on.",
            "Mine again with mine.test_share above 0, or evaluate with --judgements.",
        )
    asked = Questions(logged.queries, logged.users, logged.history)
    vectors = served.vectors(asked)
    shown = read_shown(run / "dataset", "test", logged)
    order, per_request = by_request(shown, len(logged))
    looked = served.look(logged.queries, vectors, say, per_request)
    rankings = looked.rankings | ranked(baselines_of(served), asked, say)
    world = World.open(truth, run / "dataset") if truth is not None else None
    found = list(rankings.values())
    measured = logged_metrics(found, logged, slices_of(run / "dataset", logged))
    if world is not None:
        measured += truth_metrics(found, logged.request_ids, world, config.truth_requests, config.seed, say)
    queries = np.unique(logged.queries, return_inverse=True)[1].astype(np.int64)
    result = compared(measured, list(rankings), served, queries, config, say)
    result.agreement = served.agreement(vectors, looked)
    say("search under filters", 0, 1)
    result.filters = filtered_recall(served.retriever, logged, vectors, config.filter_requests, config.seed)
    slots = slots_of(shown, order, looked)
    if world is not None:
        slots.append(true_hits(looked.hits, logged.request_ids, world, config.calibration_requests))
    result.reliability = [one for those in slots for one in reliability(those)]
    result.kept = kept(looked.hits, served.retriever.ranking.calibration.form, _wanted(logged), HITS)
    result.facts = {"test requests": len(logged), "simulated": truth is not None} | _calibration_facts(served)
    result.warnings += _warnings(logged, truth)
    return result


def compared(
    measured: Sequence[Measured],
    systems: Sequence[str],
    served: Served,
    clusters: Int64[np.ndarray, " n"],
    config: EvaluateConfig,
    say: Progress,
) -> Evaluation:
    """The rows and differences of all systems, what is served first, and whether it falls short of its channels."""
    rows, differences = summarise(measured, systems, clusters, config.to_bootstrap(), say)
    channels = [served.names["vector"], served.names["lexical"]]
    short = shortfall.shortfall(differences, served.name, channels)
    warnings = [shortfall.in_words(short, served.name)] if short.below else []
    return Evaluation(served.name, rows, differences, warnings, shortfall=short)


def logged_metrics(
    rankings: Sequence[Int[np.ndarray, "n depth"]], logged: Logged, slices: Sequence[Slice]
) -> list[Measured]:
    """Recall of ordered and of clicked-or-ordered items in every slice, nDCG and MRR with stage gains in `all`."""
    measured = []
    for part in slices:
        for target, stage in (("ordered", Stage.ORDERED), ("clicked", Stage.CLICKED)):
            counted = part.pairs & part.requests[logged.request] & (logged.stages >= stage)
            gains = _GAINS[logged.stages[counted]]
            relevant = metrics.from_pairs(logged.request[counted], logged.item_rows[counted], gains, len(logged))
            found = [metrics.locate(ranking, relevant) for ranking in rankings]
            for k in CUTS if part.name == ALL else SLICE_CUTS:
                values = np.stack([metrics.recall(f, k) for f in found])
                measured.append(Measured(target, part.name, "recall", k, values))
            if target == "clicked":
                for name, metric in (("ndcg", metrics.ndcg), ("mrr", metrics.mrr)):
                    values = np.stack([metric(f, 10) for f in found])
                    measured.append(Measured(target, part.name, name, 10, values))
    return measured


def by_request(shown: Shown, n: int) -> tuple[Int64[np.ndarray, " slots"], list[Int64[np.ndarray, " _"]]]:
    """The slots in order of their request, and the distinct rows that each of `n` requests was shown in that order."""
    order = np.lexsort((shown.item_rows, shown.request))
    request, rows = shown.request[order], shown.item_rows[order].astype(np.int64)
    again = np.append(False, (request[1:] == request[:-1]) & (rows[1:] == rows[:-1]))[: len(order)]
    order, request, rows = order[~again], request[~again], rows[~again]
    return order, np.split(rows, np.searchsorted(request, np.arange(1, n)))


def slots_of(shown: Shown, order: Int64[np.ndarray, " slots"], looked: Looked) -> list[Slots]:
    """The shown slots with their probabilities: all, and those alone that were filled at random."""
    chances = flat(looked.hits, others=True)
    clicked = (shown.stages[order] >= Stage.CLICKED).astype(np.float64)
    looks, explored = shown.examination[order].astype(np.float64), shown.explored[order]
    every = Slots("all slots", chances, clicked, looks)
    by_chance = {form: values[explored] for form, values in chances.items()}
    return [every, Slots("explored slots", by_chance, clicked[explored], looks[explored])]


def _wanted(logged: Logged) -> metrics.Relevant:
    return metrics.from_pairs(logged.request, logged.item_rows, np.ones(len(logged.request)), len(logged))


def _calibration_facts(served: Served) -> dict[str, str]:
    learned = artifact.read_manifest(served.run / "ranking", "ranking").counts
    on = f"{learned['calibrated_on']} of {learned['requests']:,} validation requests"
    return {"probability": served.retriever.ranking.calibration.form, "probability learned on": on}


def _warnings(logged: Logged, truth: Path | None) -> list[str]:
    said = []
    if truth is None and not logged.explored.any():
        said.append(
            "No slot of this log was filled at random: recall of logged clicks and orders flatters whoever imitates "
            "the engine that made the log, and nothing here can correct it. Explore a share of slots to know more."
        )
    ordered = int((logged.stages == Stage.ORDERED).sum())
    if ordered < 100:
        said.append(f"Only {ordered} orders stand in the test window: intervals of 'ordered' are wide.")
    return said
