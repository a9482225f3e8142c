"""Where a log is cut in time, without a list of all its times: they are counted in ever smaller parts of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmse.mining.log_engine import SplitShares
from mmse.mining.log_sql import LogSql, rows_of
from mmse.mining.split import Slices, cut_ranks, slices_at

FIRST_BITS, MORE_BITS = 17, 12
"""The log is first counted in 2^17 parts, and then each part in which a boundary lies in 2^12 of its own."""


def cut_log(sql: LogSql, shares: SplitShares) -> Slices:
    """The slices that `mmse.mining.split.cut` gives of the times of all requests in `log_request`."""
    ((n, earliest, latest),) = rows_of(
        sql, "SELECT count(*) AS n, min(epoch_us(timestamp)) AS a, max(epoch_us(timestamp)) AS z FROM log_request"
    )
    ranks = cut_ranks(n, valid_share=shares.valid_share, test_share=shares.test_share, periods=shares.periods)
    times = dict(zip(ranks, find_times(sql, [rank for rank in ranks if rank < n], earliest, latest), strict=False))
    return slices_at([times.get(rank) for rank in ranks], n, latest + 1, shares.periods)


def find_times(sql: LogSql, ranks: Sequence[int], earliest: int, latest: int) -> list[int]:
    """The times of the requests of those `ranks` (from 0) in order of time; `earliest` and `latest` bound all times."""
    shift = max(0, (latest - earliest).bit_length() - FIRST_BITS)
    parents, offsets = np.zeros(len(ranks), np.int64), np.asarray(ranks, np.int64)
    condition, width = "true", 1 << (shift + FIRST_BITS)
    while True:
        part = f"CAST(floor((epoch_us(timestamp) - {earliest}) / {1 << shift}) AS BIGINT)"  # a power of two: exact
        counts = sql.arrow(
            f"SELECT part, count(*) AS n FROM (SELECT {part} AS part FROM log_request WHERE {condition}) AS times "
            "GROUP BY part ORDER BY part"
        )
        parts, n = (counts.column(name).to_numpy() for name in ("part", "n"))
        ratio = width >> shift
        for index, parent in enumerate(parents):
            start = int(np.searchsorted(parts, parent * ratio))
            sums = np.cumsum(n[start:])
            step = int(np.searchsorted(sums, offsets[index], side="right"))
            parents[index] = parts[start + step]
            offsets[index] -= sums[step - 1] if step else 0
        if not shift:
            return [earliest + int(part) for part in parents]
        condition = f"{part} IN ({', '.join(str(parent) for parent in np.unique(parents))})"
        width, shift = 1 << shift, max(0, shift - MORE_BITS)
