"""What a test is judged by: means over units, and ratios of their sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float64

from mmse.core.errors import UsageError
from mmse.experiment.units import BEFORE

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates


@dataclass(frozen=True)
class Metric:
    """`above` summed over units, by `below` summed over them; without `below`, by the number of units."""

    name: str
    says: str
    above: str
    below: str | None = None
    kind: Literal["share", "number", "money"] = "number"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a unit that it needs, those of its past included."""
        own = (self.above, *([self.below] if self.below else []))
        return (*own, *(BEFORE + name for name in own))


METRICS = {
    one.name: one
    for one in (
        Metric("conversion", "shoppers with an order", "converted", kind="share"),
        Metric("orders_per_unit", "orders a shopper", "orders"),
        Metric("revenue_per_unit", "revenue a shopper", "revenue", kind="money"),
        Metric("request_conversion", "requests with an order", "buying_requests", "requests", "share"),
        Metric("orders_per_request", "orders a request", "orders", "requests"),
        Metric("revenue_per_request", "revenue a request", "revenue", "requests", "money"),
        Metric("clicks_per_request", "clicks a request", "clicks", "requests"),
    )
}
PRIMARY = "conversion"


def words(name: str) -> str:
    """A metric's name as people write it."""
    return name.replace("_", " ")


def metric_of(name: str) -> Metric:
    """The metric of that name; raises `UsageError` where there is none."""
    if name not in METRICS:
        raise UsageError(f"There is no metric '{name}'.", f"Metrics: {', '.join(METRICS)}.")
    return METRICS[name]


def aggregates(
    columns: Mapping[str, Float64[np.ndarray, " n"]], kept: Bool[np.ndarray, " n"] | None = None
) -> Aggregates:
    """Count, means, variances and covariances of columns of units, of those that are `kept`: all that a test needs."""
    from tea_tasting.aggr import Aggregates

    names = list(columns)
    values = np.stack([columns[name] if kept is None else columns[name][kept] for name in names])
    n = values.shape[1]
    spread = np.cov(values) if n > 1 else np.zeros((len(names), len(names)))
    spread = np.atleast_2d(spread)
    means = values.mean(axis=1) if n else np.zeros(len(names))
    return Aggregates(
        count_=n,
        mean_=dict(zip(names, means.tolist(), strict=True)),
        var_={name: float(spread[i, i]) for i, name in enumerate(names)},
        cov_={(a, b): float(spread[names.index(a), names.index(b)]) for a in names for b in names if a < b},
    )
