"""From a fused score to the probability that a shopper who looks at the item clicks it.

Learned on logged slots under the examination hypothesis, P(click) = examination · P(relevant) (Richardson et al.,
*Predicting Clicks*, WWW 2007), so that position bias does not lower it, and on randomly filled slots alone where there
are enough: shown items were picked by an engine that knew more than the score does, and make it overconfident.

Two forms, both rising with the score for every query. `adapter`: a line in the score whose height and slope depend on
the query (after the Cosine Adapter of Walmart, arXiv 2408.04887, with one readable query feature, how often the log has
asked it, in place of the query's embedding). `distribution`: a line in how many deviations the score lies above
the mean of the query's own candidates (after pEBR of JD.com, arXiv 2410.19349, with moments of the
candidates in place of a learned distribution).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import softplus

from mmse.ranking.fit import minimise

Form = Literal["adapter", "distribution"]
FORMS: tuple[Form, ...] = ("adapter", "distribution")
SPREAD_OVER = 100
"""The best so many candidates of a query give the moments of `distribution`."""
_PULL = 1e-4


@dataclass(frozen=True)
class Calibration:
    """`logit = a + b · known + rise · x`, where `rise = log(1 + exp(c + d · known))`, which is above 0.

    `x` is the score (`adapter`) or its deviations (`distribution`); `known` is log(1 + requests of the query in the
    log), held within `known_range`, outside which nothing was seen.
    """

    form: Form = "adapter"
    a: float = -3.0
    b: float = 0.0
    c: float = 3.0
    d: float = 0.0
    known_range: tuple[float, float] = (0.0, 0.0)

    def log_odds(
        self, scores: Float[np.ndarray, " n"], asked_before: int, moments: tuple[float, float]
    ) -> Float64[np.ndarray, " n"]:
        """Log odds of relevance of one query's candidates; `moments` as `moments_of` gives them."""
        known = float(np.clip(np.log1p(asked_before), *self.known_range))
        x = scores if self.form == "adapter" else (scores - moments[0]) / moments[1]
        rise = float(np.logaddexp(0.0, self.c + self.d * known))
        return self.a + self.b * known + rise * np.asarray(x, np.float64)


@dataclass(frozen=True)
class Slots:
    """Logged slots: the fused score, how often the query was asked before, its moments, examination, clicked."""

    scores: Float[np.ndarray, " n"]
    asked_before: Int64[np.ndarray, " n"]
    moments: Float[np.ndarray, "n 2"]
    examination: Float[np.ndarray, " n"]
    clicked: Float[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.scores)


def moments_of(scores: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Mean and deviation of a query's best candidates."""
    if len(scores) == 0:
        return 0.0, 1.0
    best = np.partition(scores, -SPREAD_OVER)[-SPREAD_OVER:] if len(scores) > SPREAD_OVER else scores
    return float(best.mean()), max(float(best.std()), 1e-3)


def learn_calibration(slots: Slots, form: Form) -> Calibration:
    """The calibration of `form` under which the clicks of `slots` are likeliest, pulled lightly towards b = d = 0."""
    if len(slots) == 0:
        return Calibration(form)
    known = np.log1p(slots.asked_before)
    x = slots.scores if form == "adapter" else (slots.scores - slots.moments[:, 0]) / slots.moments[:, 1]
    score, familiar = torch.from_numpy(np.asarray(x, np.float64)), torch.from_numpy(known)
    examined = torch.from_numpy(slots.examination.astype(np.float64)).clamp(max=1 - 1e-6)
    clicked = torch.from_numpy(slots.clicked.astype(np.float64))
    parameters = torch.tensor([-3.0, 0.0, 2.0, 0.0], dtype=torch.double, requires_grad=True)

    def loss() -> Tensor:
        a, b, c, d = parameters
        logit = a + b * familiar + softplus(c + d * familiar) * score
        chance = (examined * torch.sigmoid(logit)).clamp(1e-9, 1 - 1e-9)
        surprise = -(clicked * chance.log() + (1 - clicked) * (1 - chance).log()).mean()
        total: Tensor = surprise + _PULL * (b**2 + d**2)
        return total

    minimise(parameters, loss)
    a, b, c, d = parameters.tolist()
    return Calibration(form, a, b, c, d, (float(known.min()), float(known.max())))
