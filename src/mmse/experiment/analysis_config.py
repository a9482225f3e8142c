"""How a test is to be analysed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmse.core.config import require
from mmse.experiment.checks import MAX_LEAK_SHARE
from mmse.experiment.effects import Effect, Interval
from mmse.experiment.metrics import METRICS, PRIMARY


@dataclass(frozen=True)
class AnalysisConfig:
    """`primary` decides; the other metrics are corrected for their number (Holm).

    `sequential` says that somebody looked before the end, so that the interval that always holds decides.
    `planned_effect` is the relative effect that the test was to find. `weights` are those of the arms, equal by
    default. If more of the units than `max_leak_share` were in several arms, there is no verdict.
    """

    control: str | None = None
    primary: str = PRIMARY
    metrics: tuple[str, ...] = tuple(METRICS)
    alpha: float = 0.05
    sequential: bool = False
    planned_effect: float | None = None
    planned_units: int | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    max_leak_share: float = MAX_LEAK_SHARE

    def __post_init__(self) -> None:
        bad_weight = next((value for value in self.weights.values() if not 0 < value < float("inf")), None)
        require(bad_weight is None, "weights", bad_weight, "above 0")
        require(0 <= self.max_leak_share < 1, "max_leak_share", self.max_leak_share, "0 to below 1")
        require(0 < self.alpha < 0.5, "alpha", self.alpha, "above 0 and below 0.5")
        require(
            self.planned_effect is None or self.planned_effect > 0, "planned_effect", self.planned_effect, "above 0"
        )

    def interval(self, effect: Effect) -> Interval:
        """The interval of `effect` that decides."""
        return effect.always if self.sequential else effect.interval
