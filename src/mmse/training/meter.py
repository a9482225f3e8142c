"""How far a training run is, by steps and by time, with its speed and recent loss."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from mmse.training.checkpoint import TrainingProgress


@dataclass(frozen=True)
class TrainingStep:
    """What is reported of a step. `recall` is set after each epoch's validation.

    `steps` is the number of steps of the run; an estimate where a budget of seconds may end it earlier.
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
    """The training time of a run, with that of a process it resumes, and the speed of this process.

    A run has at most `steps` steps, and at most `budget_seconds` of training time where that is not None.
    """

    def __init__(self, steps: int, budget_seconds: float | None, progress: TrainingProgress) -> None:
        self._steps, self._budget = steps, math.inf if budget_seconds is None else budget_seconds
        self._start_step, self._former_seconds, self._start = progress.step, progress.seconds, time.perf_counter()
        self._requests, self._losses = 0, deque[float](maxlen=50)
        self.latest = TrainingStep(0, progress.step, steps, math.nan, math.nan, math.nan, 0.0, math.inf)

    @property
    def seconds(self) -> float:
        """The training time so far, without the time in `pause`."""
        return self._former_seconds + time.perf_counter() - self._start

    def share(self, progress: TrainingProgress) -> float:
        """How much of the run is over, 0 to 1: the larger of its share of steps and its share of time."""
        return min(1.0, max(progress.step / self._steps, progress.seconds / self._budget))

    def is_over(self, progress: TrainingProgress) -> bool:
        """Whether the budget of seconds is used up."""
        return progress.seconds >= self._budget

    def record_step(
        self, progress: TrainingProgress, requests: int, loss: float, retrieval: float, ranking: float
    ) -> TrainingStep:
        """Records a step over `requests` requests, which `progress` already counts, and returns its report."""
        self._requests += requests
        self._losses.append(loss)
        seconds = progress.seconds - self._former_seconds
        remaining_s = seconds / (progress.step - self._start_step) * (self._steps - progress.step)
        steps = max(progress.step, round(progress.step / self.share(progress)))
        self.latest = TrainingStep(
            progress.epoch + 1,
            progress.step,
            steps,
            float(np.mean(self._losses)),
            retrieval,
            ranking,
            self._requests / seconds,
            max(0.0, min(remaining_s, self._budget - progress.seconds)),
        )
        return self.latest

    @contextmanager
    def pause(self) -> Iterator[None]:
        """The time inside does not count as training time."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start
