"""Slots filled at random, with the chance that each item had to stand where it stands.

Each slot of the page tosses a coin of its own. Where it says so, the slot shows an item drawn from those ranked behind
the page, each of them at most once; every other slot shows the item that is ranked there. Nothing moves up or down, so
the chances are exact: 1 - share for a slot's own item, share / (how many stand behind the page) for each other.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """What a slot shows: the place of an item in the ranking, from 0, and the chance that it had to stand there."""

    place: int
    explored: bool
    propensity: float


def explore(n: int, page: int, share: float, seed: str, fixed: Collection[int] = ()) -> list[Slot]:
    """The slots of a `page` over a ranking of `n` items; the slots in `fixed` always show their own.

    Where fewer items stand behind the page than it has slots to draw for, nothing is drawn: the chances would depend on
    how many coins fell.
    """
    coin = random.Random(seed)  # noqa: S311  a coin, not a secret
    page, behind = min(page, n), max(n - page, 0)
    free = [place for place in range(page) if place not in fixed]
    if not free or behind < len(free):
        return [Slot(place, explored=False, propensity=1.0) for place in range(page)]
    tossed = [place for place in free if coin.random() < share]
    drawn = dict(zip(tossed, coin.sample(range(page, n), len(tossed)), strict=True))
    return [
        Slot(place, explored=False, propensity=1.0)
        if place in fixed
        else Slot(drawn.get(place, place), place in drawn, share / behind if place in drawn else 1 - share)
        for place in range(page)
    ]


def explored_places(slots: Sequence[Slot]) -> list[int]:
    """The slots that were filled at random."""
    return [place for place, slot in enumerate(slots) if slot.explored]
