"""What a click on an item is worth: the chance of an order after it, from the item's numbers alone.

P(order) = P(click) · P(order | click). The towers learn what is clicked, with a higher weight for orders. Whether a
clicked item is then ordered depends on things that do not depend on the query: its rating, its price within its
category, its own past. Only clicked items are compared, so neither their position nor the engine's choice biases the
comparison. A regression with few parameters finds this; towers, which are trained to tell queries apart, do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy.special import expit

MIN_EXAMPLES = 50
"""With fewer orders, or fewer clicks without an order, nothing is learned: every click is worth the same."""


@dataclass(frozen=True)
class Conversion:
    """Log odds of an order after a click: `intercept` plus `weights` times an item's numbers (`ItemInputs.numbers`).

    `mean` is the mean of `weights` times the numbers over the clicks of the training log.
    """

    weights: Float64[np.ndarray, " numbers"]
    intercept: float
    mean: float

    @classmethod
    def fit(cls, numbers: Float32[np.ndarray, "clicks numbers"], ordered: Bool[np.ndarray, " clicks"]) -> Conversion:
        """Fits a logistic regression with a unit Gaussian prior on each weight; `numbers` are of the clicked items."""
        n, n_ordered = len(ordered), int(ordered.sum())
        if min(n_ordered, n - n_ordered) < MIN_EXAMPLES:
            rate = (n_ordered + 0.5) / (n + 1)
            return cls(np.zeros(numbers.shape[1]), float(np.log(rate / (1 - rate))), 0.0)
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]  # slow, and for training alone

        regression = LogisticRegression(C=1.0, max_iter=1_000, tol=1e-6).fit(numbers.astype(np.float64), ordered)
        weights = regression.coef_[0].astype(np.float64)
        return cls(weights, float(regression.intercept_[0]), float((numbers @ weights).mean()))

    def predict(self, numbers: Float32[np.ndarray, "n numbers"]) -> Float32[np.ndarray, " n"]:
        """P(order | click)."""
        chance: Float32[np.ndarray, " n"] = expit(numbers @ self.weights + self.intercept).astype(np.float32)
        return chance
