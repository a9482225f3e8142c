"""From what both channels found to the places of the hits: guard, rules, caps, and what is likely enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Int64
from scipy.special import expit

from mmse.catalogue.snapshot import Snapshot
from mmse.index.lexical import Matches
from mmse.ranking.candidates import Candidates
from mmse.ranking.rerank import Placed, Scored, arrange
from mmse.ranking.rules import Applied
from mmse.retrieval.explain import Found
from mmse.retrieval.query_context import NO_ROWS, Near, Question
from mmse.schema.filters import Filter, comparable
from mmse.schema.search import Search


@dataclass(frozen=True)
class Asked:
    """A search, what the rules make of it, and the question that follows."""

    search: Search
    applied: Applied
    question: Question


def placed_of(asked: Asked, near: Near | None, matches: Matches | None) -> tuple[Found, list[Placed]]:
    """All that was found, and what of it is to be shown, in its order; where hits are cut, more than `k`."""
    search, applied, question = asked.search, asked.applied, asked.question
    found, lead = question.guarded(question.found(near, matches, search.k), search.channel)
    pinned = _pinned(question.now, applied, search.filter)
    found = question.with_rows(found, pinned)
    lead = np.pad(lead, (0, len(found) - len(lead))) if len(found) > len(lead) else lead
    scores = question.scores(found, search.channel)
    odds = question.log_odds(scores) if search.channel == "hybrid" else scores
    placed = arrange(
        _scored(question.now, found, odds),
        applied,
        len(found) if search.cuts else search.k,
        boosts=search.boosts,
        caps=search.caps,
        lead=lead,
    )
    chances = expit(odds) if search.channel == "hybrid" else None
    if search.cuts:
        assert chances is not None
        by_row = dict(zip(found.rows.tolist(), chances.tolist(), strict=True))
        placed = likely_enough(placed, by_row, search, set(pinned.tolist()))
    return Found(question, found, chances, frozenset(found.rows[lead].tolist())), placed


def likely_enough(
    placed: Sequence[Placed], chances: Mapping[int, float], search: Search, pinned: set[int]
) -> list[Placed]:
    """The hits that are likely enough for `search`, in their order; the rows that a rule `pinned` stay."""
    least = search.min_probability
    if search.target_precision is not None:
        falling = np.sort([chances[one.row] for one in placed])[::-1]
        means = np.cumsum(falling) / np.arange(1, len(falling) + 1)
        precise = np.flatnonzero(means >= search.target_precision)
        least = max(least, float(falling[precise[-1]]) if len(precise) else 2.0)
    return [one for one in placed if chances[one.row] >= least or one.row in pinned]


def _pinned(now: Snapshot, applied: Applied, only: Filter | None) -> Int64[np.ndarray, " m"]:
    """The rows that rules pin, of those that exist and that the filter lets through."""
    if not applied.pins:
        return NO_ROWS
    rows = now.rows([pin.item_id for pin in applied.pins])
    rows = rows[rows >= 0]
    return rows if only is None or len(rows) == 0 else rows[now.holds(only, rows)]


def _scored(now: Snapshot, found: Candidates, odds: Float64[np.ndarray, " n"]) -> Scored:
    """The candidates as `arrange` takes them."""

    def codes(column: str) -> Int[np.ndarray, " n"]:
        values = [None if v is None else comparable(str(v)) for v in now.values(column, found.rows)]
        numbers = {value: place for place, value in enumerate(dict.fromkeys(v for v in values if v))}
        return np.array([numbers.get(value, -1) if value else -1 for value in values], np.int64)

    def row_of(item_id: str) -> int | None:
        row = int(now.rows([item_id])[0])
        return row if row >= 0 else None

    return Scored(found.rows, odds, lambda only: now.holds(only, found.rows), codes, row_of)
