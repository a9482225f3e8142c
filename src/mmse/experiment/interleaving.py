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
from mmse.experiment.exposure_table import read_table
from mmse.sources.duckdb_session import session
from mmse.sources.tables import EventsConfig, literal

Credit = Literal["clicks", "orders"]
Scoring = Literal["team", "alone", "balanced"]


@dataclass(frozen=True)
class Preference:
    """How often list `b` wins a request that one of them wins: `share`, with its interval over units, and `p`.

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
        """Above 0 where `b` is preferred."""
        return self.share - 0.5

    @property
    def verdict(self) -> str:
        """In one sentence."""
        if self.interval.low <= 0.5 <= self.interval.high:
            said = "Neither list is preferred"
        else:
            said = f"List {'b' if self.delta > 0 else 'a'} is preferred"
        return (
            f"{said}: b wins {self.share:.1%} of {self.decided:,} requests that {self.credit} decide "
            f"(95% interval {self.interval.low:.1%} to {self.interval.high:.1%})."
        )


def preference(
    margins: Float64[np.ndarray, " n"], units: Int64[np.ndarray, " n"], credit: str, alpha: float = 0.05
) -> Preference | None:
    """The preference that `margins` show: by request, `b`'s credit minus `a`'s, of which the sign decides.

    Requests of one unit are drawn together (the delta method for a ratio of sums over units). None where none decided.
    """
    won_by_b, won_by_a = int((margins > 0).sum()), int((margins < 0).sum())
    decided = won_by_a + won_by_b
    if not decided:
        return None
    share = won_by_b / decided
    _, place = np.unique(units, return_inverse=True)
    residual = np.where(margins == 0, 0.0, (margins > 0) - share)
    by_unit = np.bincount(place, residual)
    n = len(by_unit)
    error = math.sqrt((by_unit**2).sum() * (n / max(n - 1, 1))) / decided or 0.5 / math.sqrt(decided)
    half = float(norm.isf(alpha / 2)) * error
    p = float(2 * norm.sf(abs(share - 0.5) / error))
    return Preference(
        credit,
        len(margins),
        decided,
        won_by_a,
        won_by_b,
        share,
        Interval(max(share - half, 0), min(share + half, 1)),
        p,
    )


def margins_of(
    teams: Sequence[Sequence[str | None]],
    ranks_a: Sequence[Sequence[int | None]],
    ranks_b: Sequence[Sequence[int | None]],
    taken: Sequence[Sequence[bool]],
    *,
    scoring: Scoring = "team",
) -> Float64[np.ndarray, " n"]:
    """By request, `b`'s credit minus `a`'s; the lists are by request and shown item.

    `team`: what was taken counts for the list that brought it. `alone`: only what the other list does not have counts
    (what both have went to either by a coin, which says nothing). `balanced` (Joachims, 2003): how much was taken among
    the first k of either list, where k is the depth to which both had to be read for the lowest taken item.
    """
    score = {"team": _team, "alone": _alone, "balanced": _balanced}[scoring]
    return np.array([score(*one) for one in zip(teams, ranks_a, ranks_b, taken, strict=True)], np.float64)


def _team(
    teams: Sequence[str | None], _a: Sequence[int | None], _b: Sequence[int | None], taken: Sequence[bool]
) -> float:
    return float(sum((team == "b") - (team == "a") for team, one in zip(teams, taken, strict=True) if one))


def _alone(_: Sequence[str | None], a: Sequence[int | None], b: Sequence[int | None], taken: Sequence[bool]) -> float:
    return float(sum((in_a is None) - (in_b is None) for in_a, in_b, one in zip(a, b, taken, strict=True) if one))


def _balanced(
    _: Sequence[str | None], a: Sequence[int | None], b: Sequence[int | None], taken: Sequence[bool]
) -> float:
    clicked = [place for place, one in enumerate(taken) if one]
    if not clicked:
        return 0.0
    depth = max(min(rank for rank in (a[place], b[place]) if rank is not None) for place in clicked)
    return float(sum(_within(b[place], depth) - _within(a[place], depth) for place in clicked))


def _within(rank: int | None, depth: int) -> int:
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
    """Margins and units (shoppers, or requests where nobody is named) of the interleaved requests of a table.

    Raises `TableError` where it has none.
    """
    column = {"clicks": "clicked", "orders": "ordered"}[credit]
    with session(memory_limit="2GB", threads=None) as opened:
        told = read_table(opened, config, base, needs=["team"], experiment=experiment)
        kept = "" if experiment is None else " AND arm IS NOT NULL"
        kept += "" if arm is None else f" AND arm = {literal(arm)}"
        found = opened.arrow(f"""
            SELECT coalesce(user_id, request_id) AS unit, list(team ORDER BY position) AS teams,
                   list(CAST(rank_a AS INTEGER) ORDER BY position) AS a,
                   list(CAST(rank_b AS INTEGER) ORDER BY position) AS b, list(taken ORDER BY position) AS taken
              FROM (SELECT request_id, item_id, any_value(user_id) AS user_id, any_value(arm) AS arm,
                           any_value(team) AS team, any_value(rank_a) AS rank_a, any_value(rank_b) AS rank_b,
                           bool_or({column}) AS taken, min(position) AS position
                      FROM told GROUP BY request_id, item_id)
             WHERE team IS NOT NULL{kept} GROUP BY request_id, unit""")
    if not found.num_rows:
        which = "".join(f" of {what} '{name}'" for what, name in (("experiment", experiment), ("arm", arm)) if name)
        raise TableError(f"No request{which} in {told.table.source} was interleaved.", "Check --experiment and --arm.")
    lists = (found[name].to_pylist() for name in ("teams", "a", "b", "taken"))
    _, units = np.unique(np.array(found["unit"].to_pylist(), dtype=object).astype(str), return_inverse=True)
    return margins_of(*lists, scoring=scoring), units.astype(np.int64)
