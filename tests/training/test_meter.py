"""How far a run is: a clock that the test winds on stands for time."""

import math

import pytest

from mmse.training import meter
from mmse.training.checkpoint import Progress
from mmse.training.meter import Meter


class Clock:
    """Stands for the module `time`."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(meter, "time", clock)
    return clock


def stepped(progress: Progress, run: Meter) -> meter.Step:
    progress.step += 1
    progress.seconds = run.seconds
    return run.step(progress, 10, 1.0, 1.0, 0.0)


def test_a_run_without_a_budget_goes_by_its_steps(clock: Clock) -> None:
    progress = Progress()
    run = Meter(4, None, progress)
    clock.now += 2
    said = stepped(progress, run)
    assert (said.step, said.steps, said.requests_per_s, said.seconds_left) == (1, 4, 5.0, 6.0)
    assert run.share(progress) == 1 / 4
    assert not run.spent(progress)


def test_a_budget_of_seconds_counts_where_it_is_further(clock: Clock) -> None:
    progress = Progress()
    run = Meter(4, 10.0, progress)
    clock.now += 1
    assert stepped(progress, run).steps == 4, "a tenth of the time, a quarter of the steps"
    assert run.share(progress) == 1 / 4
    clock.now += 7
    said = stepped(progress, run)
    assert run.share(progress) == 8 / 10
    assert said.steps == round(2 / 0.8)
    assert said.seconds_left == 2.0
    clock.now += 7
    assert stepped(progress, run).seconds_left == 0.0
    assert run.share(progress) == 1.0
    assert run.spent(progress)


def test_pauses_are_not_counted_and_what_an_earlier_process_used_is(clock: Clock) -> None:
    progress = Progress(step=3, seconds=6.0)
    run = Meter(10, 8.0, progress)
    clock.now += 1
    with run.paused():
        clock.now += 100
    said = stepped(progress, run)
    assert progress.seconds == 7.0
    assert said.requests_per_s == 10.0, "the speed is this process's own"
    assert said.seconds_left == 1.0
    assert math.isclose(run.share(progress), 7 / 8)
