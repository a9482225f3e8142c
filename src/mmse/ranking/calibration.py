"""From a fused score to the probability that a shopper who looks at the item clicks it.

It is learned on logged slots under the examination hypothesis, P(click) = examination · P(relevant) (Richardson et
al., *Predicting Clicks*, WWW 2007), so that position bias does not lower it. Where there are enough randomly filled
slots, it is learned on these alone: the other items were picked by an engine that knew more than the score does, and
they would make the probability too high.

There are two forms; both rise with the score for every query. `adapter`: a line in the score whose height and slope
depend on the query (after the Cosine Adapter of Walmart, arXiv 2408.04887, with one readable feature of the query, how
often the log has it, instead of its embedding). `distribution`: a line in how many deviations the score lies above the
mean of the query's own candidates (after pEBR of JD.com, arXiv 2410.19349, with moments of the candidates instead of a
learned distribution).
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
N_MOMENTS = 100
"""From how many of a query's best candidates the moments of `distribution` are taken."""
MIN_OF_EACH = 10
"""With fewer clicked, or fewer unclicked, shown items than this there is nothing to learn probabilities from."""
NO_PROBABILITIES = (
    f"Too small a log, or none, gives no probabilities: of the shown items, fewer than {MIN_OF_EACH} were left "
    "unclicked, or fewer were clicked. Hits have an order and no chance of a click."
)
_PENALTY = 1e-4


@dataclass(frozen=True)
class Calibration:
    """`logit = a + b · frequency + slope · x`, where `slope = log(1 + exp(c + d · frequency))`, which is above 0.

    `x` is the score (`adapter`) or its deviations (`distribution`). `frequency` is log(1 + requests of the query in the
    log), clipped to `known_range`, the range that the calibration was learned on. Where `is_learned` is false, the log
    has not both clicked and unclicked items: the numbers give an order, and nothing may be read as a probability.
    """

    form: Form = "adapter"
    a: float = -3.0
    b: float = 0.0
    c: float = 3.0
    d: float = 0.0
    known_range: tuple[float, float] = (0.0, 0.0)
    is_learned: bool = True

    def log_odds(
        self, scores: Float[np.ndarray, " n"], query_count: int, moments: tuple[float, float]
    ) -> Float64[np.ndarray, " n"]:
        """Log odds of relevance of one query's candidates.

        `query_count` is the requests of the query in the log, `moments` come from `moments_of`.
        """
        frequency = float(np.clip(np.log1p(query_count), *self.known_range))
        x = scores if self.form == "adapter" else (scores - moments[0]) / moments[1]
        slope = float(np.logaddexp(0.0, self.c + self.d * frequency))
        return self.a + self.b * frequency + slope * np.asarray(x, np.float64)


@dataclass(frozen=True)
class CalibrationSlots:
    """Logged slots: fused score, requests of the query in the training log, its moments, examination, clicked."""

    scores: Float[np.ndarray, " n"]
    query_counts: Int64[np.ndarray, " n"]
    moments: Float[np.ndarray, "n 2"]
    examination: Float[np.ndarray, " n"]
    clicked: Float[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.scores)


def moments_of(scores: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Mean and deviation of the scores of a query's best candidates."""
    if len(scores) == 0:
        return 0.0, 1.0
    best = np.partition(scores, -N_MOMENTS)[-N_MOMENTS:] if len(scores) > N_MOMENTS else scores
    return float(best.mean()), max(float(best.std()), 1e-3)


def learn_calibration(slots: CalibrationSlots, form: Form) -> Calibration:
    """The calibration of `form` that makes the clicks of `slots` likeliest, with a light penalty on b and d.

    It is not learned where too few slots were clicked or too few were not, as in a log of clicks or of orders alone.
    """
    n_clicked = float(slots.clicked.sum())
    if min(n_clicked, len(slots) - n_clicked) < MIN_OF_EACH:
        return Calibration(form, is_learned=False)
    frequency = np.log1p(slots.query_counts)
    x = slots.scores if form == "adapter" else (slots.scores - slots.moments[:, 0]) / slots.moments[:, 1]
    score, log_count = torch.from_numpy(np.asarray(x, np.float64)), torch.from_numpy(frequency)
    examination = torch.from_numpy(slots.examination.astype(np.float64)).clamp(max=1 - 1e-6)
    clicked = torch.from_numpy(slots.clicked.astype(np.float64))
    parameters = torch.tensor([-3.0, 0.0, 2.0, 0.0], dtype=torch.double, requires_grad=True)

    def loss() -> Tensor:
        a, b, c, d = parameters
        logit = a + b * log_count + softplus(c + d * log_count) * score
        chance = (examination * torch.sigmoid(logit)).clamp(1e-9, 1 - 1e-9)
        log_loss = -(clicked * chance.log() + (1 - clicked) * (1 - chance).log()).mean()
        total: Tensor = log_loss + _PENALTY * (b**2 + d**2)
        return total

    minimise(parameters, loss)
    a, b, c, d = parameters.tolist()
    return Calibration(form, a, b, c, d, (float(frequency.min()), float(frequency.max())))
