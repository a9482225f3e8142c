"""The metrics that judge a test: means over units, and ratios of sums over units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float64

from mmse.core.errors import UsageError
from mmse.experiment.units import PAST_PREFIX

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates


@dataclass(frozen=True)
class Metric:
    """The sum of `numerator` over units, divided by that of `denominator`, or by the number of units without one."""

    name: str
    description: str
    numerator: str
    denominator: str | None = None
    kind: Literal["share", "number", "money"] = "number"

    @property
    def own_columns(self) -> tuple[str, ...]:
        """The columns of a unit that the metric needs, without its past."""
        return (self.numerator, *([self.denominator] if self.denominator else []))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a unit that the metric needs, those of its past included."""
        return (*self.own_columns, *(PAST_PREFIX + name for name in self.own_columns))

    def format(self, value: float) -> str:
        """A value of the metric as text, by its kind."""
        if self.kind == "share":
            return f"{value:.2%}"
        return f"{value:,.2f}" if self.kind == "money" else f"{value:.4f}"


METRICS = {
    metric.name: metric
    for metric in (
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


def label(name: str) -> str:
    """A metric's name with spaces."""
    return name.replace("_", " ")


def find_metric(name: str) -> Metric:
    """The metric called `name`; raises `UsageError` if there is none."""
    if name not in METRICS:
        raise UsageError(f"There is no metric '{name}'.", f"Metrics: {', '.join(METRICS)}.")
    return METRICS[name]


def aggregate(
    columns: Mapping[str, Float64[np.ndarray, " n"]], mask: Bool[np.ndarray, " n"] | None = None
) -> Aggregates:
    """Count, means, variances and covariances of columns of units, or of the units in `mask`: all that a test needs."""
    from tea_tasting.aggr import Aggregates

    names = list(columns)
    values = np.stack([columns[name] if mask is None else columns[name][mask] for name in names])
    n = values.shape[1]
    covariance = np.cov(values) if n > 1 else np.zeros((len(names), len(names)))
    covariance = np.atleast_2d(covariance)
    means = values.mean(axis=1) if n else np.zeros(len(names))
    return Aggregates(
        count_=n,
        mean_=dict(zip(names, means.tolist(), strict=True)),
        var_={name: float(covariance[i, i]) for i, name in enumerate(names)},
        cov_={(a, b): float(covariance[names.index(a), names.index(b)]) for a in names for b in names if a < b},
    )
