"""Puts the hits of one query in their final order: boosts, buries, caps and pins, in that order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64

from mmse.ranking.rules import Bury, PinnedItem, RuleEffects
from mmse.schema.filters import Filter

_TOP_TIER, _MIDDLE_TIER, _BOTTOM_TIER = 0, 1, 2


@dataclass(frozen=True)
class RerankCandidates:
    """`n` different rows of the catalogue with the log-odds that they are relevant, in any order.

    `holds` tells which candidates meet a filter. `codes` gives each candidate's value of a column as a number, -1 where
    it has none. `row_of` is the row of an item id, `None` where the catalogue does not have it.
    """

    rows: Int64[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]
    holds: Callable[[Filter], Bool[np.ndarray, " n"]]
    codes: Callable[[str], Int[np.ndarray, " n"]]
    row_of: Callable[[str], int | None]


class RankedRow(NamedTuple):
    """A hit: its row, its log-odds with the boosts, and in short words what rules and caps did to it."""

    row: int
    score: float
    moved_by: tuple[str, ...]


def rerank(
    candidates: RerankCandidates,
    effects: RuleEffects,
    k: int,
    *,
    boosts: Sequence[tuple[Filter, float]] = (),
    caps: Mapping[str, int] | None = None,
    lead: Bool[np.ndarray, " n"] | None = None,
    former_rows: Collection[int] = (),
) -> list[RankedRow]:
    """The first `k` hits, fewer only where there are fewer candidates; equal scores are ordered by row.

    `former_rows`, which are among the candidates, have the first places already: they count for caps and positions, and
    the hits behind them are returned, up to place `k`.

    `boosts` are the request's own, as (filter, factor of the odds). Rows of `lead` come before the rest, buried rows
    after it. `caps` limit how many hits may share a value of a column: a hit over the cap goes behind the hits within
    it that lead (or do not, or are buried) like it; pinned hits count and are not moved; a missing value has no cap.
    Pinned items must be among the candidates; an item pinned past `k` is not shown before its position.
    """
    scores, reasons = _boost_scores(candidates, effects, boosts)
    tiers = np.full(len(candidates.rows), _MIDDLE_TIER)
    if lead is not None:
        tiers[lead] = _TOP_TIER
    for bury in effects.buries:
        mask = _bury_mask(candidates, bury)
        tiers[mask] = _BOTTOM_TIER
        reasons.append((mask, f"buried by rule {bury.head.name}"))
    order: list[int] = np.lexsort((candidates.rows, -scores, tiers)).tolist()
    former = np.flatnonzero(np.isin(candidates.rows, list(former_rows))).tolist() if former_rows else []
    pins = {index: pin for index, pin in _pins_by_index(candidates, effects.pins).items() if index not in former}
    if pins or former:
        placed = pins.keys() | set(former)
        order = [index for index in order if index not in placed]
    cap_reasons: dict[int, tuple[str, ...]] = {}
    if caps:
        counted = former + [index for index, pin in pins.items() if pin.position <= k]
        cap_reasons = _cap_reasons(order, counted, caps, candidates.codes, k - len(former))
        tier_list = tiers.tolist()
        order.sort(key=lambda index: (tier_list[index], index in cap_reasons))
    top = _insert_pins(order, pins, len(former) + 1, k) if pins else order[: k - len(former)]
    rows, values = candidates.rows[top].tolist(), scores[top].tolist()
    if pins or reasons or cap_reasons:
        moved_by = [_moved_by(index, pins, reasons, cap_reasons) for index in top]
    else:
        moved_by = [()] * len(top)
    return list(map(_as_ranked_row, zip(rows, values, moved_by, strict=True)))


_as_ranked_row: Callable[[tuple[int, float, tuple[str, ...]]], RankedRow] = partial(tuple.__new__, RankedRow)
"""`RankedRow._make` without a call of Python for each row: a report makes millions."""


_Reasons = list[tuple[Bool[np.ndarray, " n"], str]]


def _boost_scores(
    candidates: RerankCandidates, effects: RuleEffects, boosts: Sequence[tuple[Filter, float]]
) -> tuple[Float64[np.ndarray, " n"], _Reasons]:
    scores = candidates.scores.astype(np.float64)
    all_boosts = [(boost.condition, boost.factor, f"rule {boost.head.name}") for boost in effects.boosts]
    all_boosts += [(condition, factor, "the request") for condition, factor in boosts]
    reasons = []
    for condition, factor, source in all_boosts:
        mask = candidates.holds(condition)
        scores[mask] += math.log(factor)
        reasons.append((mask, f"boost x{factor:g} by {source}"))
    return scores, reasons


def _bury_mask(candidates: RerankCandidates, bury: Bury) -> Bool[np.ndarray, " n"]:
    if bury.condition is not None:
        return candidates.holds(bury.condition)
    rows = [row for row in map(candidates.row_of, bury.items) if row is not None]
    return np.isin(candidates.rows, rows)


def _pins_by_index(candidates: RerankCandidates, pins: Sequence[PinnedItem]) -> dict[int, PinnedItem]:
    """The pins whose items are candidates, by the candidate's index, in the order of their positions."""
    pins_by_index = {}
    for pin in sorted(pins, key=lambda pin: pin.position):
        row = candidates.row_of(pin.item_id)
        if row is not None:
            pins_by_index.update(dict.fromkeys(np.flatnonzero(candidates.rows == row).tolist(), pin))
    return pins_by_index


def _cap_reasons(
    order: Sequence[int],
    counted: Sequence[int],
    caps: Mapping[str, int],
    codes: Callable[[str], Int[np.ndarray, " n"]],
    k: int,
) -> dict[int, tuple[str, ...]]:
    """The candidates over a cap, with the reasons, until `k` are within the caps; those of `counted` count first."""
    columns = [(column, cap, codes(column).tolist(), Counter[int]()) for column, cap in caps.items()]
    for _, _, values, counts in columns:
        counts.update(values[index] for index in counted)
    cap_reasons = {}
    n_within_caps = 0
    for index in order:
        full_columns = [
            (column, cap)
            for column, cap, values, counts in columns
            if values[index] >= 0 and counts[values[index]] >= cap
        ]
        if full_columns:
            cap_reasons[index] = tuple(f"at most {cap} per {column}" for column, cap in full_columns)
            continue
        for _, _, values, counts in columns:
            counts[values[index]] += 1
        n_within_caps += 1
        if n_within_caps == k:
            break
    return cap_reasons


def _insert_pins(order: Sequence[int], pins: Mapping[int, PinnedItem], first: int, k: int) -> list[int]:
    """The places `first` to `k`: `order` with each pin at its position, or behind the last where it is too short."""
    top: list[int] = []
    unpinned_indices, remaining_pins = iter(order), list(pins)[::-1]
    while (place := first + len(top)) <= k:
        if remaining_pins and pins[remaining_pins[-1]].position <= place:
            top.append(remaining_pins.pop())
            continue
        index = next(unpinned_indices, None)
        if index is None:
            return top + remaining_pins[::-1][: k - place + 1]
        top.append(index)
    return top


def _moved_by(
    index: int, pins: Mapping[int, PinnedItem], reasons: _Reasons, cap_reasons: Mapping[int, tuple[str, ...]]
) -> tuple[str, ...]:
    if index in pins:
        return (f"pinned to place {pins[index].position} by rule {pins[index].rule}",)
    return (*(reason for mask, reason in reasons if mask[index]), *cap_reasons.get(index, ()))
