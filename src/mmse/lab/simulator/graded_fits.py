"""Fit by human grades, for the simulated shoppers of a judged catalogue."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64

from mmse.lab.simulator.preferences import WORST_GRADE_CLICK, WORST_GRADE_ORDER, Fit


@dataclass(frozen=True)
class GradedFits:
    """Grades from 0 to 1 of judged pairs, sorted by (`intent`, `item`); unjudged items do not fit at all.

    `starts` is where each intent's pairs begin, with the end of all pairs as its last element.
    """

    item: Int32[np.ndarray, " n_pairs"]
    grade: Float32[np.ndarray, " n_pairs"]
    starts: Int64[np.ndarray, " n_intents_1"]
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
        starts = np.searchsorted(intent[order], np.arange(n_intents + 1)).astype(np.int64)
        return cls(item[order].astype(np.int32), grade[order], starts, np.array(n_items, np.int64))

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> GradedFits:
        """The fits that `arrays` gave."""
        return cls(arrays["item"], arrays["grade"], arrays["first"], arrays["n_items"])

    def fit(self, intents: Int[np.ndarray, "..."], items: Int[np.ndarray, "..."]) -> Fit:
        """The fit of each pair, for rows that broadcast."""
        keys = intents.astype(np.int64) * self.n_items + items
        index = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        shortfall = np.float32(1) - self.grade[index]
        return Fit(
            np.float32(WORST_GRADE_CLICK) * shortfall,
            np.float32(WORST_GRADE_ORDER) * shortfall,
            self._keys[index] == keys,
        )

    def related_items(self, intents: Int[np.ndarray, " n"]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Intents one by one, with the items judged for each."""
        return [
            (
                np.flatnonzero(intents == intent),
                self.item[self.starts[intent] : self.starts[intent + 1]].astype(np.int64),
            )
            for intent in np.unique(intents)
        ]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays to save, by the names that they have in the truth's file."""
        return {"item": self.item, "grade": self.grade, "first": self.starts, "n_items": self.n_items}

    @functools.cached_property
    def _keys(self) -> Int64[np.ndarray, " n_pairs"]:
        intents = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        return np.asarray(intents * self.n_items + self.item, np.int64)
