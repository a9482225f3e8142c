"""Which of two interleaved rankings shoppers prefer: credit for clicks or orders, request by request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64
from scipy.stats import norm

from mmse.core.errors import TableError
from mmse.experiment.effects import Interval
from mmse.experiment.exposure_table import describe_scope, read_exposures
from mmse.sources.duckdb_session import open_session
from mmse.sources.merging import merge_rows
from mmse.sources.tables import EventsConfig, literal

Credit = Literal["clicks", "orders"]
Scoring = Literal["team", "alone", "balanced"]
_Ranks = Sequence[int | None]
"""The rank in one list of each shown item, None for an item that the list does not have."""


@dataclass(frozen=True)
class Preference:
    """How often list `b` wins a request that one of the lists wins: `share`, with its interval over units, and `p`.

    `delta` is share minus one half, Chapelle et al.'s Δ ("Large-Scale Validation and Analysis of Interleaved Search
    Evaluation", TOIS 2012). `requests` are all that were interleaved, `decided` those that one list won.
    """

    credit: str
    requests: int
    decided: int
    won_by_a: int
    won_by_b: int
    share: float
    interval: Interval
    p: float

    @property
    def delta(self) -> float:
        """Above 0 if `b` is preferred."""
        return self.share - 0.5

    @property
    def verdict(self) -> str:
        """In one sentence."""
        if self.interval.low <= 0.5 <= self.interval.high:
            outcome = "Neither list is preferred"
        else:
            outcome = f"List {'b' if self.delta > 0 else 'a'} is preferred"
        return (
            f"{outcome}: b wins {self.share:.1%} of {self.decided:,} requests that {self.credit} decide "
            f"(95% interval {self.interval.low:.1%} to {self.interval.high:.1%})."
        )


def estimate_preference(
    margins: Float64[np.ndarray, " n"], units: Int64[np.ndarray, " n"], credit: str, alpha: float = 0.05
) -> Preference | None:
    """The preference from `margins`: by request, `b`'s credit minus `a`'s, of which only the sign counts.

    The interval is over units, because requests of one unit are alike (the delta method for a ratio of sums over
    units). None if no request has a winner.
    """
    won_by_b, won_by_a = int((margins > 0).sum()), int((margins < 0).sum())
    n_decided = won_by_a + won_by_b
    if not n_decided:
        return None
    share = won_by_b / n_decided
    _, unit_index = np.unique(units, return_inverse=True)
    residual = np.where(margins == 0, 0.0, (margins > 0) - share)
    by_unit = np.bincount(unit_index, residual)
    n = len(by_unit)
    error = math.sqrt((by_unit**2).sum() * (n / max(n - 1, 1))) / n_decided or 0.5 / math.sqrt(n_decided)
    half = float(norm.isf(alpha / 2)) * error
    p = float(2 * norm.sf(abs(share - 0.5) / error))
    return Preference(
        credit,
        len(margins),
        n_decided,
        won_by_a,
        won_by_b,
        share,
        Interval(max(share - half, 0), min(share + half, 1)),
        p,
    )


def credit_margins(
    teams: Sequence[Sequence[str | None]],
    ranks_a: Sequence[_Ranks],
    ranks_b: Sequence[_Ranks],
    rewards: Sequence[Sequence[bool]],
    *,
    scoring: Scoring = "team",
) -> Float64[np.ndarray, " n"]:
    """By request, `b`'s credit minus `a`'s; the arguments are by request and shown item.

    `rewards` says which items were clicked or ordered. `team`: such an item counts for the list that brought it.
    `alone`: an item counts if only one list has it (an item of both lists went to one of them by a coin, which says
    nothing). `balanced` (Joachims, 2003): the number of such items among the first k of either list, where k is the
    depth to which both lists had to be read for the lowest of them.
    """
    score = {"team": _team, "alone": _alone, "balanced": _balanced}[scoring]
    return np.array([score(*request) for request in zip(teams, ranks_a, ranks_b, rewards, strict=True)], np.float64)


def _team(teams: Sequence[str | None], _a: _Ranks, _b: _Ranks, rewards: Sequence[bool]) -> float:
    return float(sum((team == "b") - (team == "a") for team, reward in zip(teams, rewards, strict=True) if reward))


def _alone(_: Sequence[str | None], a: _Ranks, b: _Ranks, rewards: Sequence[bool]) -> float:
    return float(
        sum((rank_a is None) - (rank_b is None) for rank_a, rank_b, reward in zip(a, b, rewards, strict=True) if reward)
    )


def _balanced(_: Sequence[str | None], a: _Ranks, b: _Ranks, rewards: Sequence[bool]) -> float:
    indices = [i for i, reward in enumerate(rewards) if reward]
    if not indices:
        return 0.0
    depth = max(min(rank for rank in (a[i], b[i]) if rank is not None) for i in indices)
    return float(sum(_in_top(b[i], depth) - _in_top(a[i], depth) for i in indices))


def _in_top(rank: int | None, depth: int) -> int:
    return int(rank is not None and rank <= depth)


def read_margins(
    config: EventsConfig,
    base: Path,
    experiment: str | None,
    credit: Credit,
    *,
    arm: str | None = None,
    scoring: Scoring = "team",
) -> tuple[Float64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Margins and units (shoppers, or requests without a `user_id`) of the interleaved requests of a table.

    Raises `TableError` if it has none.
    """
    column = {"clicks": "clicked", "orders": "ordered"}[credit]
    columns = ["request_id", "user_id", "arm", "position", "team", "rank_a", "rank_b", column]
    with open_session(memory_limit="2GB", threads=None) as session:
        exposures = read_exposures(session, config, base, needs=["team"], experiment=experiment)
        condition = "" if experiment is None else " AND arm IS NOT NULL"
        condition += "" if arm is None else f" AND arm = {literal(arm)}"
        rows = session.arrow(f"""
            SELECT coalesce(user_id, request_id) AS unit, list(team ORDER BY position) AS teams,
                   list(CAST(rank_a AS INTEGER) ORDER BY position) AS ranks_a,
                   list(CAST(rank_b AS INTEGER) ORDER BY position) AS ranks_b,
                   list({column} ORDER BY position) AS rewards
              FROM ({merge_rows("exposures", columns)})
             WHERE team IS NOT NULL{condition} GROUP BY request_id, unit""")
    if not rows.num_rows:
        scope, source = describe_scope(experiment, arm), exposures.table.source
        raise TableError(f"No request{scope} in {source} was interleaved.", "Check --experiment and --arm.")
    lists = (rows[name].to_pylist() for name in ("teams", "ranks_a", "ranks_b", "rewards"))
    _, units = np.unique(np.array(rows["unit"].to_pylist(), dtype=object).astype(str), return_inverse=True)
    return credit_margins(*lists, scoring=scoring), units.astype(np.int64)
