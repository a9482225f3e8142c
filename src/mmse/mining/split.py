"""Where the log is cut in time: train periods, then validation, then test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from mmse.core.errors import TableError


@dataclass(frozen=True)
class Slices:
    """The log in order of time: `periods` slices of train, then one of validation, then one of test.

    `starts[i]` (microseconds since 1970) is where slice `i` begins; it ends before `starts[i + 1]`, the last one
    before `end`. A slice whose start equals the next one's is empty.
    """

    starts: tuple[int, ...]
    end: int

    @property
    def periods(self) -> int:
        """How many slices belong to train."""
        return len(self.starts) - 2

    @property
    def boundaries(self) -> tuple[int, ...]:
        """One per snapshot: a request of slice `i` may use only what came strictly before `boundaries[i]`."""
        return (*self.starts, self.end)

    def slice_of(self, timestamps: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """The slice of each timestamp of this log."""
        return np.searchsorted(np.asarray(self.starts), timestamps, side="right").astype(np.int64) - 1


def cut(timestamps: Int64[np.ndarray, " n"], *, valid_share: float, test_share: float, periods: int) -> Slices:
    """Cuts requests at the quantiles of their timestamps (microseconds, any order); the array is reordered.

    A boundary is a request's own timestamp, and all requests of that timestamp come after it. Raises `TableError` if
    train would be empty.
    """
    n = len(timestamps)
    ranks = cut_ranks(n, valid_share=valid_share, test_share=test_share, periods=periods)
    pivots = sorted({rank for rank in ranks if rank < n})
    timestamps.partition(pivots)
    end = int(timestamps[pivots[-1] :].max()) + 1
    return slices_at([int(timestamps[rank]) if rank < n else None for rank in ranks], n, end, periods)


def cut_ranks(n: int, *, valid_share: float, test_share: float, periods: int) -> list[int]:
    """The rank in time, among `n` requests, of the first request of each slice; `n` for a slice without any."""
    n_train = round(n * (1 - valid_share - test_share))
    n_before_test = round(n * (1 - test_share))
    return [*(n_train * p // periods for p in range(periods)), n_train, n_before_test]


def slices_at(times: Sequence[int | None], n: int, end: int, periods: int) -> Slices:
    """The slices that start at `times`, None for `end`; raises `TableError` if train would be empty."""
    starts = [end if time is None else time for time in times]
    if starts[0] == starts[periods]:
        raise TableError(
            f"The {n} requests of the events table cannot be split by time: too many share their timestamp.",
            "Give a log of more requests, or one whose timestamps tell them apart.",
        )
    return Slices(tuple(starts), end)
