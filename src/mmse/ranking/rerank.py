"""Puts the hits of one query in their final order: boosts, buries, caps and pins, in that order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64

from mmse.ranking.rules import Applied, Bury, PinnedItem
from mmse.schema.filters import Filter

_LEAD, _REST, _BURIED = 0, 1, 2


@dataclass(frozen=True)
class Scored:
    """What was found: `n` different rows of the catalogue with the log-odds that they are relevant, in any order.

    `holds` says which candidates meet a filter; `codes` gives each candidate's value of a column as a number, -1
    where it has none; `row_of` is the row of an item id, `None` where the catalogue does not have it.
    """

    rows: Int64[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]
    holds: Callable[[Filter], Bool[np.ndarray, " n"]]
    codes: Callable[[str], Int[np.ndarray, " n"]]
    row_of: Callable[[str], int | None]


class Placed(NamedTuple):
    """A hit at its place: its row, its log-odds with the boosts, and what rules and caps did to it, in short words."""

    row: int
    score: float
    moved_by: tuple[str, ...]


def arrange(
    found: Scored,
    applied: Applied,
    k: int,
    *,
    boosts: Sequence[tuple[Filter, float]] = (),
    caps: Mapping[str, int] | None = None,
    lead: Bool[np.ndarray, " n"] | None = None,
) -> list[Placed]:
    """The first `k` hits, fewer only where fewer were found; equal scores stand in the order of their rows.

    `boosts` are the request's own, as (filter, factor of the odds). Rows of `lead` stand before the rest, buried ones
    after it. `caps` say at most how many of the hits may share a value of a column: hits past it go behind the others
    that lead (or do not, or are buried) like them, pinned ones count and are not moved, a missing value is not
    capped. Pinned items must be among the candidates; an item pinned past `k` is not shown before its place.
    """
    scores, reasons = _boosted(found, applied, boosts)
    group = np.full(len(found.rows), _REST) if lead is None else np.where(lead, _LEAD, _REST)
    for bury in applied.buries:
        buried = _buried(found, bury)
        group[buried] = _BURIED
        reasons.append((buried, f"buried by rule {bury.head.name}"))
    order: list[int] = np.lexsort((found.rows, -scores, group)).tolist()
    pins = _pinned(found, applied.pins)
    if pins:
        order = [at for at in order if at not in pins]
    over: dict[int, tuple[str, ...]] = {}
    if caps:
        over = _over_caps(order, [at for at, pin in pins.items() if pin.place <= k], caps, found.codes, k)
        groups = group.tolist()
        order.sort(key=lambda at: (groups[at], at in over))
    shown = _with_pins(order, pins, k) if pins else order[:k]
    rows, values = found.rows[shown].tolist(), scores[shown].tolist()
    moved = [_why(at, pins, reasons, over) for at in shown] if pins or reasons or over else [()] * len(shown)
    return [Placed(*one) for one in zip(rows, values, moved, strict=True)]


_Reasons = list[tuple[Bool[np.ndarray, " n"], str]]


def _boosted(
    found: Scored, applied: Applied, boosts: Sequence[tuple[Filter, float]]
) -> tuple[Float64[np.ndarray, " n"], _Reasons]:
    scores = found.scores.astype(np.float64)
    named = [(boost.where, boost.factor, f"rule {boost.head.name}") for boost in applied.boosts]
    named += [(where, factor, "the request") for where, factor in boosts]
    reasons = []
    for where, factor, by in named:
        holds = found.holds(where)
        scores[holds] += math.log(factor)
        reasons.append((holds, f"boost x{factor:g} by {by}"))
    return scores, reasons


def _buried(found: Scored, bury: Bury) -> Bool[np.ndarray, " n"]:
    if bury.where is not None:
        return found.holds(bury.where)
    rows = [row for row in map(found.row_of, bury.items) if row is not None]
    return np.isin(found.rows, rows)


def _pinned(found: Scored, pins: Sequence[PinnedItem]) -> dict[int, PinnedItem]:
    """The pins whose items are candidates, by the candidate, first place first."""
    pinned = {}
    for pin in sorted(pins, key=lambda pin: pin.place):
        row = found.row_of(pin.item_id)
        if row is not None:
            pinned.update(dict.fromkeys(np.flatnonzero(found.rows == row).tolist(), pin))
    return pinned


def _over_caps(
    order: Sequence[int],
    counted: Sequence[int],
    caps: Mapping[str, int],
    codes: Callable[[str], Int[np.ndarray, " n"]],
    k: int,
) -> dict[int, tuple[str, ...]]:
    """The candidates past a cap before `k` are within, with the columns; `counted` have their places already."""
    columns = [(column, cap, codes(column).tolist(), Counter[int]()) for column, cap in caps.items()]
    for _, _, values, taken in columns:
        taken.update(values[at] for at in counted)
    over = {}
    within = 0
    for at in order:
        full = [(column, cap) for column, cap, values, taken in columns if values[at] >= 0 and taken[values[at]] >= cap]
        if full:
            over[at] = tuple(f"at most {cap} per {column}" for column, cap in full)
            continue
        for _, _, values, taken in columns:
            taken[values[at]] += 1
        within += 1
        if within == k:
            break
    return over


def _with_pins(order: Sequence[int], pins: Mapping[int, PinnedItem], k: int) -> list[int]:
    """The first `k` of `order` with the pinned at their places, or after the last where there are too few."""
    placed: list[int] = []
    others, waiting = iter(order), list(pins)[::-1]
    while len(placed) < k:
        if waiting and pins[waiting[-1]].place <= len(placed) + 1:
            placed.append(waiting.pop())
            continue
        following = next(others, None)
        if following is None:
            return placed + waiting[::-1][: k - len(placed)]
        placed.append(following)
    return placed


def _why(
    at: int, pins: Mapping[int, PinnedItem], reasons: _Reasons, over: Mapping[int, tuple[str, ...]]
) -> tuple[str, ...]:
    if at in pins:
        return (f"pinned to place {pins[at].place} by rule {pins[at].rule}",)
    return (*(why for held, why in reasons if held[at]), *over.get(at, ()))
