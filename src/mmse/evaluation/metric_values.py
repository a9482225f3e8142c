"""One metric of all systems, a value per request, and what a bootstrap over queries makes of it: rows, differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from mmse.core.progress import Progress
from mmse.evaluation.bootstrap import BootstrapConfig, bootstrap
from mmse.evaluation.rows import Difference, Row


@dataclass(frozen=True)
class MetricValues:
    """One metric of all systems, a value per request (NaN if not defined), to be averaged over distinct queries."""

    target: str
    slice: str
    metric: str
    k: int
    values: Float[np.ndarray, "systems n"]


def summarise(
    metrics: Sequence[MetricValues],
    systems: Sequence[str],
    clusters: Int64[np.ndarray, " n"],
    config: BootstrapConfig,
    progress: Progress,
) -> tuple[list[Row], list[Difference]]:
    """Means with intervals, and the paired differences of the first system, the subject, to every other."""
    rows, differences = [], []
    for index, m in enumerate(metrics):
        progress("draw intervals", index, len(metrics))
        result = bootstrap(m.values, clusters, config, reference=0)
        key = (m.target, m.slice, m.metric, m.k)
        for i, system in enumerate(systems):
            e, d = result.systems[i], result.differences[i]
            if e.queries:
                rows.append(Row(system, *key, e.value, e.low, e.high, e.queries))
            if i and d.low is not None and d.high is not None:  # the bootstrap has system minus subject: turn it round
                differences.append(Difference(systems[0], system, *key, -d.value, -d.high, -d.low, d.significant))
    progress("draw intervals", len(metrics), len(metrics))
    return rows, differences
