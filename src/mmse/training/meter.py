"""How far a run is: by steps and by time, with the loss of the last steps and the speed."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from mmse.training.checkpoint import Progress


@dataclass(frozen=True)
class Step:
    """What a step has to say of itself. `recall` is set after each epoch's validation.

    `steps` is how many there will be; where a budget of seconds may end the run before, an estimate.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    retrieval: float
    ranking: float
    requests_per_s: float
    seconds_left: float
    recall: float | None = None


class Meter:
    """The time a run has used, what an earlier process of it used included, and the speed since this one began.

    A run has `steps` steps at most, and `budget_seconds` of training time where that is not None.
    """

    def __init__(self, steps: int, budget_seconds: float | None, progress: Progress) -> None:
        self._steps, self._budget = steps, math.inf if budget_seconds is None else budget_seconds
        self._first, self._earlier, self._start = progress.step, progress.seconds, time.perf_counter()
        self._requests, self._losses = 0, deque[float](maxlen=50)
        self.last = Step(0, progress.step, steps, math.nan, math.nan, math.nan, 0.0, math.inf)

    @property
    def seconds(self) -> float:
        """The training time used so far; what happened while it was `paused` is none."""
        return self._earlier + time.perf_counter() - self._start

    def share(self, progress: Progress) -> float:
        """How much of the run is over, 0 to 1: the share of its steps, or of its time where that is further."""
        return min(1.0, max(progress.step / self._steps, progress.seconds / self._budget))

    def spent(self, progress: Progress) -> bool:
        """Whether the budget of seconds is used up."""
        return progress.seconds >= self._budget

    def step(self, progress: Progress, requests: int, loss: float, retrieval: float, ranking: float) -> Step:
        """Takes note of a step over so many requests, which `progress` counts already."""
        self._requests += requests
        self._losses.append(loss)
        elapsed = progress.seconds - self._earlier
        left = elapsed / (progress.step - self._first) * (self._steps - progress.step)
        steps = max(progress.step, round(progress.step / self.share(progress)))
        self.last = Step(
            progress.epoch + 1,
            progress.step,
            steps,
            float(np.mean(self._losses)),
            retrieval,
            ranking,
            self._requests / elapsed,
            max(0.0, min(left, self._budget - progress.seconds)),
        )
        return self.last

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside is not training and does not count as its time."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start
