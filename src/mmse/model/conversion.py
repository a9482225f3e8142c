"""What a click on an item is worth: the chance of an order after it, by the item's numbers alone.

P(order) = P(click) · P(order | click). The towers learn what is clicked, with orders weighing more; what is ordered
once clicked depends on what every query's shoppers agree on (rating, price against its like, its own past), and what
was clicked is compared with what was clicked: neither position nor the engine's choice stands between. So a regression
of few parameters finds it where towers, which are trained to tell queries apart, do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy.special import expit

FEW = 50
"""With fewer orders, or fewer clicks without one, nothing is learned: every click is worth the same."""


@dataclass(frozen=True)
class Conversion:
    """Log odds of an order after a click: `intercept` plus `weights` times an item's numbers (`ItemInputs.numbers`).

    `mean` is the mean of the second part over the clicks it was learned from.
    """

    weights: Float64[np.ndarray, " numbers"]
    intercept: float
    mean: float

    @classmethod
    def fit(cls, numbers: Float32[np.ndarray, "clicks numbers"], ordered: Bool[np.ndarray, " clicks"]) -> Conversion:
        """Learned by logistic regression with a unit Gaussian prior on each weight; `numbers` of the clicked items."""
        n, n_ordered = len(ordered), int(ordered.sum())
        if min(n_ordered, n - n_ordered) < FEW:
            rate = (n_ordered + 0.5) / (n + 1)
            return cls(np.zeros(numbers.shape[1]), float(np.log(rate / (1 - rate))), 0.0)
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]  # slow, and for training alone

        found = LogisticRegression(C=1.0, max_iter=1_000, tol=1e-6).fit(numbers.astype(np.float64), ordered)
        weights = found.coef_[0].astype(np.float64)
        return cls(weights, float(found.intercept_[0]), float((numbers @ weights).mean()))

    def advantage(self, numbers: Float32[np.ndarray, "n numbers"]) -> Float32[np.ndarray, " n"]:
        """Log odds above what a clicked item has on average."""
        above: Float32[np.ndarray, " n"] = (numbers @ self.weights - self.mean).astype(np.float32)
        return above

    def chance(self, numbers: Float32[np.ndarray, "n numbers"]) -> Float32[np.ndarray, " n"]:
        """P(order | click)."""
        chance: Float32[np.ndarray, " n"] = expit(numbers @ self.weights + self.intercept).astype(np.float32)
        return chance
