"""Fit by human grades: what the simulated shoppers of a judged catalogue go by."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64

from mmse.lab.simulator.preferences import WORST_GRADE_CLICK, WORST_GRADE_ORDER, Fit


@dataclass(frozen=True)
class GradedFits:
    """Grades from 0 to 1 of judged pairs, sorted by (`intent`, `item`); unjudged items do not fit at all.

    `first` is where each intent's pairs begin, with the end after the last.
    """

    item: Int32[np.ndarray, " n_pairs"]
    grade: Float32[np.ndarray, " n_pairs"]
    first: Int64[np.ndarray, " n_intents_1"]
    n_items: Int64[np.ndarray, ""]

    @classmethod
    def of(
        cls,
        intent: Int[np.ndarray, " n"],
        item: Int[np.ndarray, " n"],
        grade: Float32[np.ndarray, " n"],
        *,
        n_intents: int,
        n_items: int,
    ) -> GradedFits:
        """The fits of distinct judged pairs in any order."""
        order = np.lexsort((item, intent))
        first = np.searchsorted(intent[order], np.arange(n_intents + 1)).astype(np.int64)
        return cls(item[order].astype(np.int32), grade[order], first, np.array(n_items, np.int64))

    def fit(self, intents: Int[np.ndarray, "..."], items: Int[np.ndarray, "..."]) -> Fit:
        """The fit of each pair, for rows that broadcast."""
        wanted = intents.astype(np.int64) * self.n_items + items
        place = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        lacking = np.float32(1) - self.grade[place]
        return Fit(
            np.float32(WORST_GRADE_CLICK) * lacking,
            np.float32(WORST_GRADE_ORDER) * lacking,
            self._keys[place] == wanted,
        )

    def related_items(self, intents: Int[np.ndarray, " n"]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Intents one by one, with the items judged for each."""
        return [
            (np.flatnonzero(intents == one), self.item[self.first[one] : self.first[one + 1]].astype(np.int64))
            for one in np.unique(intents)
        ]

    def arrays(self) -> dict[str, np.ndarray]:
        """All that is needed to make this again."""
        return {"item": self.item, "grade": self.grade, "first": self.first, "n_items": self.n_items}

    @functools.cached_property
    def _keys(self) -> Int64[np.ndarray, " n_pairs"]:
        intents = np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))
        return np.asarray(intents * self.n_items + self.item, np.int64)
