"""How far a run is: a clock that the test winds on stands for time."""

import math

import pytest

from mmse.training import meter
from mmse.training.checkpoint import TrainingProgress
from mmse.training.meter import Meter


class Clock:
    """Stands for the module `time`."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def perf_counter(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(meter, "time", clock)
    return clock


def stepped(progress: TrainingProgress, run: Meter) -> meter.TrainingStep:
    progress.step += 1
    progress.seconds = run.seconds
    return run.record_step(progress, 10, 1.0, 1.0, 0.0)


def test_a_run_without_a_budget_goes_by_its_steps(clock: Clock) -> None:
    progress = TrainingProgress()
    run = Meter(4, None, progress)
    clock.seconds += 2
    report = stepped(progress, run)
    assert (report.step, report.steps, report.requests_per_s, report.seconds_left) == (1, 4, 5.0, 6.0)
    assert run.share(progress) == 1 / 4
    assert not run.is_over(progress)


def test_a_budget_of_seconds_counts_where_it_is_further(clock: Clock) -> None:
    progress = TrainingProgress()
    run = Meter(4, 10.0, progress)
    clock.seconds += 1
    assert stepped(progress, run).steps == 4, "a tenth of the time, a quarter of the steps"
    assert run.share(progress) == 1 / 4
    clock.seconds += 7
    report = stepped(progress, run)
    assert run.share(progress) == 8 / 10
    assert report.steps == round(2 / 0.8)
    assert report.seconds_left == 2.0
    clock.seconds += 7
    assert stepped(progress, run).seconds_left == 0.0
    assert run.share(progress) == 1.0
    assert run.is_over(progress)


def test_pauses_are_not_counted_and_what_an_earlier_process_used_is(clock: Clock) -> None:
    progress = TrainingProgress(step=3, seconds=6.0)
    run = Meter(10, 8.0, progress)
    clock.seconds += 1
    with run.pause():
        clock.seconds += 100
    report = stepped(progress, run)
    assert progress.seconds == 7.0
    assert report.requests_per_s == 10.0, "the speed is this process's own"
    assert report.seconds_left == 1.0
    assert math.isclose(run.share(progress), 7 / 8)
