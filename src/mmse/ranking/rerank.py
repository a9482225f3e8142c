"""Puts the hits of one query in their final order: boosts, buries, caps and pins, in that order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from mmse.ranking.rules import Bury, PinnedItem, RuleEffects
from mmse.schema.filters import Filter, comparison_key
from mmse.schema.value_sets import values_of

_NO_ROWS: Int64[np.ndarray, " none"] = np.empty(0, np.int64)
_TOP_TIER, _MIDDLE_TIER, _BOTTOM_TIER = 0, 1, 2


@runtime_checkable
class Catalogue(Protocol):
    """What rules and caps ask of a catalogue, such as a `Snapshot`."""

    def rows(self, item_ids: Sequence[str]) -> Int64[np.ndarray, " m"]:
        """The row of each item, -1 where there is no such item."""

    def values(self, column: str, rows: Int64[np.ndarray, " m"]) -> list[Any]:
        """The values in `column` of the items at `rows`."""

    def match_filter(self, filter: Filter, rows: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
        """Which of `rows` have an item that `filter` lets through."""


def rerank(
    catalogue: Catalogue,
    rows: Int64[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    effects: RuleEffects,
    k: int,
    *,
    boosts: Sequence[tuple[Filter, float]] = (),
    caps: Mapping[str, int] | None = None,
    is_lead: Bool[np.ndarray, " n"] | None = None,
    exclusions: Sequence[tuple[Bool[np.ndarray, " n"], str]] = (),
    former_rows: Int64[np.ndarray, " f"] = _NO_ROWS,
    groups: Int64[np.ndarray, " n"] | None = None,
) -> tuple[Int64[np.ndarray, " h"], dict[int, tuple[str, ...]]]:
    """The order of the candidates at `rows` (different, in any order), whose log-odds to be relevant are `scores`.

    Returns the indices of the first `k` hits, fewer only where there are fewer candidates, and in short words what
    rules and caps did to some of them, by index; equal scores are ordered by row. `former_rows`, which are among the
    candidates, have the first places already: they count for caps and positions, and the hits behind them are returned,
    up to place `k`.

    `exclusions` mark candidates that are buried, each with the reason. `boosts` are the request's own, as (filter,
    factor of the odds). Rows that `is_lead` marks come before the rest, buried rows after it. `caps` limit how many
    hits may share a value of a column: a hit over the cap goes behind the hits within it that lead (or do not, or are
    buried) like it; pinned hits count and are not moved; a missing value has no cap, and a hit with several values is
    over it where one of them is. Pinned items must be among the
    candidates; an item pinned past `k` is not shown before its position. Of the candidates with the same number in
    `groups` only the first is a hit; those with first places and pinned ones come before all others.
    """
    scores, reasons = _boost_scores(catalogue, rows, scores, effects, boosts)
    tiers = np.full(len(rows), _MIDDLE_TIER)
    if is_lead is not None:
        tiers[is_lead] = _TOP_TIER
    for bury in effects.buries:
        mask = _bury_mask(catalogue, rows, bury)
        tiers[mask] = _BOTTOM_TIER
        reasons.append((mask, f"buried by rule {bury.head.name}"))
    for mask, reason in exclusions:
        tiers[mask] = _BOTTOM_TIER
        reasons.append((mask, reason))
    order = np.lexsort((rows, -scores, tiers))
    former = np.flatnonzero(np.isin(rows, former_rows, assume_unique=True)).tolist() if len(former_rows) else []
    pins = {index: pin for index, pin in _pins_by_index(catalogue, rows, effects.pins).items() if index not in former}
    if former or pins:
        order = order[~np.isin(order, [*former, *pins], assume_unique=True)]
    if groups is not None:
        order = _best_of_groups(order, groups, [*former, *pins])
    cap_reasons: dict[int, tuple[str, ...]] = {}
    if caps:
        fixed_indices = former + [index for index, pin in pins.items() if pin.position <= k]
        names = {column: _names(catalogue.values(column, rows)) for column in caps}
        cap_reasons = _cap_reasons(order.tolist(), fixed_indices, caps, names, k - len(former))
        is_over = np.zeros(len(rows), bool)
        is_over[list(cap_reasons)] = True
        order = order[np.lexsort((is_over[order], tiers[order]))]
    if pins:
        order = np.array(_insert_pins(order.tolist(), pins, len(former) + 1, k), np.int64)
    order = order[: max(k - len(former), 0)]
    if not (pins or reasons or cap_reasons):
        return order, {}
    moved_by = {index: _moved_by(index, pins, reasons, cap_reasons) for index in order.tolist()}
    return order, {index: words for index, words in moved_by.items() if words}


_Reasons = list[tuple[Bool[np.ndarray, " n"], str]]


def _boost_scores(
    catalogue: Catalogue,
    rows: Int64[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    effects: RuleEffects,
    boosts: Sequence[tuple[Filter, float]],
) -> tuple[Float64[np.ndarray, " n"], _Reasons]:
    scores = scores.astype(np.float64)
    all_boosts = [(boost.condition, boost.factor, f"rule {boost.head.name}") for boost in effects.boosts]
    all_boosts += [(condition, factor, "the request") for condition, factor in boosts]
    reasons = []
    for condition, factor, source in all_boosts:
        mask = catalogue.match_filter(condition, rows)
        scores[mask] += math.log(factor)
        reasons.append((mask, f"boost x{factor:g} by {source}"))
    return scores, reasons


def _bury_mask(catalogue: Catalogue, rows: Int64[np.ndarray, " n"], bury: Bury) -> Bool[np.ndarray, " n"]:
    if bury.condition is not None:
        return catalogue.match_filter(bury.condition, rows)
    return np.isin(rows, catalogue.rows(bury.items))


def _pins_by_index(
    catalogue: Catalogue, rows: Int64[np.ndarray, " n"], pins: Sequence[PinnedItem]
) -> dict[int, PinnedItem]:
    """The pins whose items are candidates, by the candidate's index, in the order of their positions."""
    if not pins:
        return {}
    pins_by_index = {}
    sorted_pins = sorted(pins, key=lambda pin: pin.position)
    for pin, row in zip(sorted_pins, catalogue.rows([pin.item_id for pin in sorted_pins]).tolist(), strict=True):
        pins_by_index.update(dict.fromkeys(np.flatnonzero(rows == row).tolist(), pin))
    return pins_by_index


def _best_of_groups(
    order: Int64[np.ndarray, " m"], groups: Int64[np.ndarray, " n"], fixed_indices: Sequence[int]
) -> Int64[np.ndarray, " h"]:
    """The first of each group in `order`, without the groups of `fixed_indices`."""
    order = order[~np.isin(groups[order], groups[np.array(fixed_indices, np.int64)])]
    _, places = np.unique(groups[order], return_index=True)
    return order[np.sort(places)]


def _names(cells: Sequence[Any]) -> list[frozenset[str]]:
    """The values of each candidate in a column, in the form in which names are compared."""
    return [frozenset(filter(None, map(comparison_key, values_of(cell)))) for cell in cells]


def _cap_reasons(
    order: Sequence[int],
    fixed_indices: Sequence[int],
    caps: Mapping[str, int],
    names: Mapping[str, list[frozenset[str]]],
    k: int,
) -> dict[int, tuple[str, ...]]:
    """The candidates over a cap, with the reasons, until `k` are within the caps; `fixed_indices` count first."""
    columns = [(column, cap, names[column], Counter[str]()) for column, cap in caps.items()]
    for _, _, values, counts in columns:
        counts.update(name for index in fixed_indices for name in values[index])
    cap_reasons = {}
    n_within_caps = 0
    for index in order:
        full_columns = [
            (column, cap)
            for column, cap, values, counts in columns
            if any(counts[name] >= cap for name in values[index])
        ]
        if full_columns:
            cap_reasons[index] = tuple(f"at most {cap} per {column}" for column, cap in full_columns)
            continue
        for _, _, values, counts in columns:
            counts.update(values[index])
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
