"""The answers of a new version against those of the one that is served: recall, search time, coverage, drift.

Both know the log up to before their own test window alone, and the new one's window is not older than the served one's.
So neither knows what is asked of it here. What shoppers took was shown by the served version, though, which therefore
finds nearly all of it; a better version finds less than that. So the limit is a share of what the served one finds, and
beside it the new version's recall is compared with that of the version before it, each in its own time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Int64

from mmse.core.findings import Finding, Severity, share
from mmse.core.progress import Progress, silent
from mmse.core.run_folder import DATASET, RunFolder
from mmse.dataset.folder import TEST, DatasetFolder
from mmse.dataset.serving_data import ITEMS, read_probe_queries
from mmse.evaluation import metrics
from mmse.evaluation.channels import QueryBatch, Subject
from mmse.evaluation.step import read_report
from mmse.release.config import ReleaseConfig
from mmse.schema.stages import Stage
from mmse.training.targets import LoggedRequests, read_logged_requests

DEPTH = 100
FIRST = 10
MAX_REQUESTS = 1_000
MAX_HEAD_QUERIES = 200
MIN_PAIRS = 50
"""Of fewer clicks, or orders, in the test window recall is not judged."""
MIN_QUERIES = 20
MIN_SLOTS = 1_000
SLACK_MS = 5.0
"""A median search that takes less longer than this is never too slow."""
_STAGES = {"orders": Stage.ORDERED, "clicks": Stage.CLICKED}


class StageRecall(msgspec.Struct, frozen=True):
    """How much of the `pairs` clicked or ordered items a version finds in its first 10 and 100, and the served one.

    `current_at_100` is of the first 100, None where no other version is served.
    """

    stage: str
    pairs: int
    at_10: float
    at_100: float
    current_at_100: float | None = None


@dataclass(frozen=True)
class AnswerComparison:
    """What a comparison gives: findings, and recall by stage for the next one."""

    findings: list[Finding]
    recalls: list[StageRecall]


@dataclass(frozen=True)
class _TimedHits:
    """The ids of the first hits, and the milliseconds that the search took."""

    item_ids: set[str]
    ms: float


def compare_answers(
    candidate: Path,
    current: Path | None,
    former: Sequence[StageRecall],
    config: ReleaseConfig,
    progress: Progress = silent,
) -> AnswerComparison:
    """Compares the run `candidate` with the version in the run folder `current`; `former` is what that version found.

    Without a test window, or without a served version, what needs it is left out.
    """
    subject = Subject.open(candidate)
    reference = None if current is None else Subject.open(current)
    findings, recalls = [], []
    if subject.run.manifest(DATASET).counts["requests"][TEST]:
        recalls = _measure_recalls(subject, reference, progress)
        findings += _check_recalls(recalls, former, config)
        findings += _check_calibration(subject, config)
    if reference is not None:
        findings += _check_head(subject, reference, config, progress)
    return AnswerComparison(findings, recalls)


def _measure_recalls(subject: Subject, reference: Subject | None, progress: Progress) -> list[StageRecall]:
    log = read_logged_requests(subject.run.dataset, TEST, MAX_REQUESTS)
    batch = QueryBatch(log.queries, log.users, log.history)
    rankings = [_rank(subject, batch, progress)]
    if reference is not None:
        rows = _row_map(subject, reference)
        history = np.where(log.history >= 0, rows[log.history], -1).astype(np.int32)
        served_rows = _rank(reference, QueryBatch(log.queries, log.users, history), progress)
        back = _row_map(reference, subject)
        rankings.append(np.where(served_rows >= 0, back[served_rows], -1))
    return [recall for name, stage in _STAGES.items() if (recall := _recall_of(name, stage, log, rankings))]


def _rank(subject: Subject, batch: QueryBatch, progress: Progress) -> Int64[np.ndarray, "n depth"]:
    """The first rows of what `subject` serves for each query, padded with -1."""
    ranking = np.full((len(batch), DEPTH), -1, np.int64)
    queries, vectors = subject.retriever.spell(batch.queries), subject.vectors(batch)
    for index, channel_rankings in enumerate(subject.retriever.search_channels(queries, vectors, DEPTH)):
        rows = channel_rankings.rows("hybrid")
        ranking[index, : len(rows)] = rows
        progress("compare answers", index + 1, len(batch))
    return ranking


def _row_map(subject: Subject, other: Subject) -> Int64[np.ndarray, " n"]:
    """The row in `other` of each item row of `subject`, -1 where it has no such item."""
    ids, other_ids = _item_ids(subject), _item_ids(other)
    rows: Int64[np.ndarray, " n"] = np.asarray(pc.fill_null(pc.index_in(ids, other_ids), -1), np.int64)
    return rows


def _item_ids(subject: Subject) -> pa.Array:
    return pq.read_table(subject.run.serving / ITEMS, columns=["item_id"])["item_id"].combine_chunks()


def _recall_of(
    name: str, stage: Stage, log: LoggedRequests, rankings: Sequence[Int64[np.ndarray, "n depth"]]
) -> StageRecall | None:
    """The recalls of a stage, None where the window has nothing of it."""
    pairs: Bool[np.ndarray, " pairs"] = log.stages >= stage
    if not pairs.any():
        return None
    relevant = metrics.from_pairs(log.request[pairs], log.item_rows[pairs], np.ones(int(pairs.sum())), len(log))
    hits = [metrics.locate(ranking, relevant) for ranking in rankings]
    at_10, at_100 = (float(np.nanmean(metrics.recall(hits[0], k))) for k in (FIRST, DEPTH))
    current_at_100 = float(np.nanmean(metrics.recall(hits[1], DEPTH))) if len(hits) > 1 else None
    return StageRecall(name, int(pairs.sum()), at_10, at_100, current_at_100)


def _check_recalls(
    recalls: Sequence[StageRecall], former: Sequence[StageRecall], config: ReleaseConfig
) -> list[Finding]:
    earlier = {recall.stage: recall for recall in former if recall.pairs >= MIN_PAIRS}
    findings = []
    for recall in recalls:
        earlier_recall = earlier.get(recall.stage)
        is_low = recall.current_at_100 is not None and recall.at_100 < config.min_recall_share * recall.current_at_100
        is_lower = earlier_recall is not None and (recall.at_100 < (1 - config.max_recall_loss) * earlier_recall.at_100)
        is_judged = recall.pairs >= MIN_PAIRS
        cause = (
            f"Of {recall.pairs:,} {recall.stage} in the test window the first {DEPTH} answers have {recall.at_100:.3f}"
        )
        cause += "" if recall.current_at_100 is None else f", those of the served version {recall.current_at_100:.3f}"
        cause += (
            "" if earlier_recall is None else f"; the version before had {earlier_recall.at_100:.3f} in its own time"
        )
        findings.append(
            Finding(
                f"recall_of_{recall.stage}",
                "blocks" if is_judged and (is_low or is_lower) else "notes",
                f"{cause}." + ("" if is_judged else " They are too few to judge by."),
                "Look at the report of the run, and at what changed in shop.toml and in the log.",
                numbers={"recall": recall.at_100, "served": recall.current_at_100 or 0.0, "pairs": recall.pairs},
            )
        )
    return findings


def _check_calibration(subject: Subject, config: ReleaseConfig) -> list[Finding]:
    """The calibration error on the test window's slots, by the run's report; nothing where there is none."""
    calibration = subject.retriever.ranking.calibration
    if not calibration.is_learned or not (subject.run.report / "report.json").is_file():
        return []
    records = read_report(subject.run.report).reliability
    record = next((r for r in records if r.form == calibration.form and r.sample == "all slots"), None)
    if record is None or record.slots < MIN_SLOTS:
        return []
    return [
        Finding(
            "calibration",
            "blocks" if record.error > config.max_calibration_error else "notes",
            f"Probabilities are off by {record.error:.3f} on average, on {record.slots:,} shown items.",
            "Look at the reliability in the report of the run: do shoppers click otherwise than in the weeks before?",
            numbers={"error": record.error, "limit": config.max_calibration_error},
        )
    ]


def _check_head(subject: Subject, reference: Subject, config: ReleaseConfig, progress: Progress) -> list[Finding]:
    """What becomes of the answers to frequent queries: whether there are any, how many stay, and how long they take."""
    queries = _head_queries(subject.run)
    if len(queries) < MIN_QUERIES:
        return []
    pairs = []
    for number, query in enumerate(queries):
        if number % 2:  # in turn, so that neither is always the one that finds a warm processor
            pairs.append((_ask(subject, query), _ask(reference, query)))
        else:
            served_reply = _ask(reference, query)
            pairs.append((_ask(subject, query), served_reply))
        progress("ask frequent queries", number + 1, len(queries))
    served_pairs = [(reply, served_reply) for reply, served_reply in pairs if served_reply.item_ids]
    return [
        _judge_answered(sum(bool(reply.item_ids) for reply, _ in served_pairs), len(served_pairs), config),
        _judge_overlap([len(a.item_ids & b.item_ids) / len(b.item_ids) for a, b in served_pairs], config),
        _judge_latency([reply.ms for reply, _ in pairs], [reply.ms for _, reply in pairs], config),
    ]


def _ask(version: Subject, query: str) -> _TimedHits:
    start = time.perf_counter()
    hits = version.retriever.search(query, FIRST)
    return _TimedHits({hit.item_id for hit in hits}, 1e3 * (time.perf_counter() - start))


def _judge_answered(n_answered: int, n_served: int, config: ReleaseConfig) -> Finding:
    return Finding(
        "answered",
        _severity(n_answered < config.min_answered * n_served),
        f"Of {n_served:,} frequent queries that the served version answers, {n_answered:,} have an answer still.",
        "Search the run for one that has none: `mmse search RUN QUERY`.",
        numbers={"answered": n_answered, "of_queries": n_served, "limit": config.min_answered},
    )


def _judge_overlap(overlaps: Sequence[float], config: ReleaseConfig) -> Finding:
    overlap = float(np.mean(overlaps)) if overlaps else 1.0
    return Finding(
        "drift",
        _severity(overlap < config.min_overlap),
        f"{share(overlap, 1)} of the first {FIRST} answers to {len(overlaps):,} frequent queries stay.",
        "Compare searches on both: `mmse search RUN QUERY`, `mmse search SITE/versions/NUMBER QUERY`.",
        numbers={"overlap": overlap, "limit": config.min_overlap},
    )


def _judge_latency(times_ms: Sequence[float], served_times_ms: Sequence[float], config: ReleaseConfig) -> Finding:
    candidate_ms, served_ms = float(np.median(times_ms)), float(np.median(served_times_ms))
    is_slow = candidate_ms > config.max_latency_ratio * served_ms and candidate_ms > served_ms + SLACK_MS
    return Finding(
        "latency",
        _severity(is_slow),
        f"The median search takes {candidate_ms:.1f} ms, {served_ms:.1f} ms with the served version.",
        "Look at what changed in [index] and [ranking], and whether other work ran beside.",
        numbers={"ms": candidate_ms, "served_ms": served_ms, "limit": config.max_latency_ratio},
    )


def _severity(is_bad: bool) -> Severity:
    return "blocks" if is_bad else "notes"


def _head_queries(run: RunFolder) -> list[str]:
    """The most frequent queries of the log; without a log, titles."""
    queries = pq.read_table(DatasetFolder(run.dataset).queries, columns=["query"])["query"].slice(0, MAX_HEAD_QUERIES)
    return queries.to_pylist() or read_probe_queries(run.serving, MAX_HEAD_QUERIES)
