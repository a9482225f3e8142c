"""One metric of all systems, a value per request, and what a bootstrap over queries makes of it: rows, differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from mmse.evaluation.bootstrap import BootstrapConfig, bootstrap
from mmse.evaluation.rows import Difference, Row

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Measured:
    """One metric of all systems, a value per request (NaN: not defined), to be averaged over distinct queries."""

    target: str
    slice: str
    metric: str
    k: int
    values: Float[np.ndarray, "systems n"]


def summarise(
    measured: Sequence[Measured],
    systems: Sequence[str],
    clusters: Int64[np.ndarray, " n"],
    config: BootstrapConfig,
    say: Progress,
) -> tuple[list[Row], list[Difference]]:
    """Means with intervals, and the paired differences of the first system, which is ours, to every other."""
    rows, differences = [], []
    for done, m in enumerate(measured):
        say("draw intervals", done, len(measured))
        sure = bootstrap(m.values, clusters, config, reference=0)
        where = (m.target, m.slice, m.metric, m.k)
        for i, system in enumerate(systems):
            e, d = sure.systems[i], sure.differences[i]
            if e.queries:
                rows.append(Row(system, *where, e.value, e.low, e.high, e.queries))
            if i and d.low is not None and d.high is not None:
                mirrored = (-d.value, -d.high, -d.low)
                differences.append(Difference(systems[0], system, *where, *mirrored, d.significant))
    say("draw intervals", len(measured), len(measured))
    return rows, differences
