"""Slots filled at random, with the probability that each item had to be shown where it is shown.

For each slot of the page a coin is tossed. If it says explore, the slot shows an item drawn from those ranked behind
the page, each of them at most once; otherwise the slot shows the item that is ranked there. Nothing moves up or down,
so the probabilities are exact: 1 - share for a slot's own item, share / (number of items behind the page) for each of
these.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """What a slot shows: the index of an item in the ranking, from 0, and the probability of that item in this slot."""

    index: int
    explored: bool
    propensity: float


def explore(n: int, page_size: int, share: float, seed: str, fixed_slots: Collection[int] = ()) -> list[Slot]:
    """The slots of a page over a ranking of `n` items; `fixed_slots` (from 0) always show their own item.

    If fewer items are behind the page than it has slots to explore, nothing is explored: the probabilities would depend
    on the number of coins that say explore.
    """
    coin = random.Random(seed)  # noqa: S311  a coin, not a secret
    page_size, n_behind = min(page_size, n), max(n - page_size, 0)
    open_slots = [slot for slot in range(page_size) if slot not in fixed_slots]
    if not open_slots or n_behind < len(open_slots):
        return [Slot(slot, explored=False, propensity=1.0) for slot in range(page_size)]
    random_slots = [slot for slot in open_slots if coin.random() < share]
    index_of = dict(zip(random_slots, coin.sample(range(page_size, n), len(random_slots)), strict=True))
    return [
        Slot(slot, explored=False, propensity=1.0)
        if slot in fixed_slots
        else Slot(index_of.get(slot, slot), slot in index_of, share / n_behind if slot in index_of else 1 - share)
        for slot in range(page_size)
    ]
