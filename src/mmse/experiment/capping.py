"""What the heaviest units weigh: effects with their values capped (winsorised), and who they are, by rank and share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from mmse.experiment.effects import Effect
from mmse.experiment.units import COUNTS, PAST_PREFIX, Units

CAP_QUANTILE = 0.99
"""Of the units that have any: values above this quantile count as much as it."""
PARTING_ERRORS = 0.5
"""An effect parts from its capped one if they differ by more standard errors than this."""
HEAVY_SHARE = 0.1
"""A unit with more than this share of its arm's sum is worth a warning."""
N_HEAVIEST = 3
_WEIGHED = ("requests", "clicks", "orders", "revenue")


@dataclass(frozen=True)
class HeavyUnit:
    """The unit at `rank` in `column` of an arm, with its `share` of the arm's sum.

    `name` is the shop's own id, None where it is not known; a report shows rank and share alone.
    """

    column: str
    arm: str
    rank: int
    share: float
    name: str | None = None


def cap_columns(columns: Mapping[str, Float64[np.ndarray, " n"]]) -> dict[str, Float64[np.ndarray, " n"]]:
    """`columns` with the largest values of each count cut to its limit; the limit never is the largest value itself."""
    names = {*COUNTS, *(PAST_PREFIX + name for name in COUNTS)}
    return {name: _cap(values) if name in names else values for name, values in columns.items()}


def _cap(values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    positive = values[values > 0]
    if len(positive) < 2:
        return values
    return np.asarray(np.minimum(values, np.quantile(positive, CAP_QUANTILE, method="lower")), np.float64)


def parts(effect: Effect, capped: Effect | None) -> bool:
    """Whether few units move an effect: capped it would be another one, or none at all."""
    if capped is None:
        return True
    distance = abs(np.log1p(effect.relative) - np.log1p(capped.relative))
    return bool(distance > PARTING_ERRORS * capped.log_error)


def heaviest_units(units: Units) -> list[HeavyUnit]:
    """The three heaviest units of each arm, by requests, clicks, orders and revenue."""
    heaviest = []
    for column in _WEIGHED:
        if column == "requests" and units.unit == "request":
            continue
        for arm in sorted(set(units.arms.tolist())):
            indices = np.flatnonzero(units.arms == arm)
            values = np.maximum(units.columns[column][indices], 0)
            if not (total := float(values.sum())):
                continue
            for rank, i in enumerate(np.argsort(-values, kind="stable")[:N_HEAVIEST].tolist(), 1):
                name = None if units.names is None else str(units.names[indices[i]])
                heaviest.append(HeavyUnit(column, arm, rank, float(values[i]) / total, name))
    return heaviest
