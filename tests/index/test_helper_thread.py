"""One more thread: free, it does the work; taken, who asks does it."""

from __future__ import annotations

import threading

import pytest

from mmse.index.helper_thread import Beside


def test_work_goes_on_in_another_thread_one_at_a_time() -> None:
    beside, here, go = Beside(), threading.get_ident(), threading.Event()

    def waits() -> int:
        assert go.wait(10)
        return threading.get_ident()

    first = beside.start(waits)
    second = beside.start(threading.get_ident)
    assert second() == here, "the thread is taken"
    go.set()
    assert first() != here
    assert beside.start(threading.get_ident)() != here, "it is free again"


def test_what_the_work_raises_comes_to_who_waits() -> None:
    beside = Beside()

    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        beside.start(fails)()
    assert beside.start(lambda: 3)() == 3
