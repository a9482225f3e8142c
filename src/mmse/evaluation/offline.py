"""The offline evaluation of a run: what each system finds of what was wanted, in the whole catalogue.

On a log, what was wanted is what was ordered or clicked. That flatters whoever imitates the engine that made the
log, because nobody can order what was not shown; so a simulated shop is also held against its truth, and a real log
against the slots that were filled at random.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float, Int, Int64

from mmse.config import require
from mmse.errors import ArtifactError
from mmse.evaluation import metrics
from mmse.evaluation.bootstrap import BootstrapConfig, bootstrap
from mmse.evaluation.rows import ALL, Difference, Row
from mmse.evaluation.slices import Slice, slices_of
from mmse.evaluation.systems import Questions, System, systems_of
from mmse.market.truth import Truth
from mmse.records import STAGE_GAINS, Stage
from mmse.training.logged import Logged, read_logged

log = logging.getLogger(__name__)

CUTS = (10, 50, 100, 500, 1000)
SLICE_CUTS = (10, 100)
TRUTH_CUTS = (10, 100)
ORDERS_DRAWN = 5
"""Orders per request that are drawn from the simulated truth, outside the search."""

_BLOCK = 256
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EvaluateConfig:
    """How many test requests are looked at (logged, and of them against the truth), and how sure we want to be."""

    requests: int = 5_000
    truth_requests: int = 1_000
    draws: int = 1_000
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.requests >= 1, "requests", self.requests, "at least 1")
        require(self.truth_requests >= 1, "truth_requests", self.truth_requests, "at least 1")
        self.to_bootstrap()

    def to_bootstrap(self) -> BootstrapConfig:
        """The bootstrap these ask for."""
        return BootstrapConfig(draws=self.draws, seed=self.seed)


@dataclass
class Evaluation:
    """Everything an evaluation has to say.

    `differences` are paired, `ours` against each other system; `agreement` holds, for each index of ours, how much
    of the exact ranking it finds; `facts` are what else is worth knowing.
    """

    ours: str
    rows: list[Row] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    agreement: list[dict[str, str | int | float]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """One metric of all systems, a value per request (NaN: not defined), to be averaged over distinct queries."""

    target: str
    slice: str
    metric: str
    k: int
    values: Float[np.ndarray, "systems n"]


def evaluate_log(
    run: Path, config: EvaluateConfig, truth: Path | None = None, progress: Progress | None = None
) -> Evaluation:
    """Compares the systems of `run` on its test requests; with the folder `truth`, also on the simulated truth."""
    say = progress or (lambda what, done, total: None)
    systems = systems_of(run)
    logged = read_logged(run / "groups", "test", config.requests, clicked_only=False)
    if not len(logged):
        raise ArtifactError(
            f"{run / 'groups'} has no test request, so there is nothing to evaluate on.",
            "Mine again with mine.test_share above 0, or evaluate with --judgements.",
        )
    rankings = []
    for done, system in enumerate(systems):
        say(f"rank with {system.name}", done, len(systems))
        rankings.append(ranking(system, Questions(logged.queries, logged.users, logged.history)))
    say("rank", len(systems), len(systems))
    measured = logged_metrics(rankings, logged, slices_of(run / "groups", logged))
    if truth is not None:
        measured += truth_metrics(rankings, logged, truth, run / "groups", config, say)
    queries = np.unique(logged.queries, return_inverse=True)[1].astype(np.int64)
    result = summarise(measured, systems, queries, config.to_bootstrap(), say)
    result.facts = {"test requests": len(logged), "simulated": truth is not None}
    result.agreement = agreement(systems, rankings)
    result.warnings = _warnings(logged, truth)
    return result


def ranking(system: System, asked: Questions) -> Int[np.ndarray, "n depth"]:
    """The first 1,000 of `system` for each question, padded with -1 where the catalogue is smaller."""
    found = system.rank(asked, max(CUTS))
    return np.pad(found, ((0, 0), (0, max(CUTS) - found.shape[1])), constant_values=-1)


def logged_metrics(
    rankings: Sequence[Int[np.ndarray, "n depth"]], logged: Logged, slices: Sequence[Slice]
) -> list[Measured]:
    """Recall of ordered and of clicked-or-ordered items in every slice, nDCG and MRR with stage gains in `all`."""
    measured = []
    for part in slices:
        for target, stage in (("ordered", Stage.ORDERED), ("clicked", Stage.CLICKED)):
            counted = part.pairs & part.requests[logged.request] & (logged.stages >= stage)
            gains = np.where(
                logged.stages[counted] == Stage.ORDERED, STAGE_GAINS[Stage.ORDERED], STAGE_GAINS[Stage.CLICKED]
            )
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


def truth_metrics(
    rankings: Sequence[Int[np.ndarray, "n depth"]],
    logged: Logged,
    truth: Path,
    groups: Path,
    config: EvaluateConfig,
    say: Progress,
) -> list[Measured]:
    """What a simulated shop knows: orders outside the search, the true top 100, the true order rate."""
    world = Truth.open(truth)
    item_ids = pq.read_table(groups / "items.parquet", columns=["item_id"])["item_id"].to_pylist()
    column = {item_id: place for place, item_id in enumerate(world.item_ids)}
    columns = np.array([column.get(item_id, -1) for item_id in item_ids], np.int64)
    n = min(config.truth_requests, len(logged))
    empty = np.full((len(rankings), len(logged)), np.nan)
    off = {k: empty.copy() for k in CUTS}
    top, rate = empty.copy(), {k: empty.copy() for k in TRUTH_CUTS}
    for start in range(0, n, _BLOCK):
        say("hold against the truth", start, n)
        span = slice(start, min(start + _BLOCK, n))
        known = world.order_propensity(logged.request_ids[span])
        propensity = np.where(columns >= 0, known[:, columns], 0.0)
        drawn = metrics.draw_orders(propensity, ORDERS_DRAWN, np.random.default_rng([config.seed, start]))
        for s, ranking in enumerate(rankings):
            found = metrics.locate(ranking[span], drawn)
            for k in CUTS:
                off[k][s, span] = metrics.recall(found, k)
            top[s, span] = metrics.share_of_top(ranking[span], propensity, 100)
            for k in TRUTH_CUTS:
                rate[k][s, span] = metrics.order_rate(ranking[span], propensity, k)
    say("hold against the truth", n, n)
    return [
        *(Measured("off_search", ALL, "recall", k, off[k]) for k in CUTS),
        Measured("truth", ALL, "share_of_top", 100, top),
        *(Measured("truth", ALL, "order_rate", k, rate[k]) for k in TRUTH_CUTS),
    ]


def summarise(
    measured: Sequence[Measured],
    systems: Sequence[System],
    clusters: Int64[np.ndarray, " n"],
    config: BootstrapConfig,
    say: Progress,
) -> Evaluation:
    """Means with intervals, and the paired differences of our model against every other system."""
    ours = next(i for i, system in enumerate(systems) if system.ours)
    result = Evaluation(systems[ours].name)
    for done, m in enumerate(measured):
        say("draw intervals", done, len(measured))
        sure = bootstrap(m.values, clusters, config, reference=ours)
        where = (m.target, m.slice, m.metric, m.k)
        for i, system in enumerate(systems):
            e, d = sure.systems[i], sure.differences[i]
            if e.queries:
                result.rows.append(Row(system.name, *where, e.value, e.low, e.high, e.queries))
            if i != ours and d.low is not None and d.high is not None:
                mirrored = (-d.value, -d.high, -d.low)
                result.differences.append(Difference(systems[ours].name, system.name, *where, *mirrored, d.significant))
    say("draw intervals", len(measured), len(measured))
    return result


def agreement(
    systems: Sequence[System], rankings: Sequence[Int[np.ndarray, "n depth"]]
) -> list[dict[str, str | int | float]]:
    """How much of our exact ranking each index of ours finds."""
    exact = next(r for system, r in zip(systems, rankings, strict=True) if system.ours)
    found = []
    for system, approximate in zip(systems, rankings, strict=True):
        if system.approximate:
            said: dict[str, str | int | float] = {"index": system.name}
            for k in (10, 100, 1000):
                shared = [np.isin(a[:k][a[:k] >= 0], b[:k]).sum() for a, b in zip(exact, approximate, strict=True)]
                said[f"of the exact top {k}"] = round(float(np.sum(shared) / (exact[:, :k] >= 0).sum()), 4)
            found.append(said)
    return found


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
