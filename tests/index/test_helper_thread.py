"""One more thread: free, it does the work; taken, who asks does it."""

from __future__ import annotations

import threading

import pytest

from mmse.index.helper_thread import HelperThread


def test_work_goes_on_in_another_thread_one_at_a_time() -> None:
    helper, own_thread, go = HelperThread(), threading.get_ident(), threading.Event()

    def waits() -> int:
        assert go.wait(10)
        return threading.get_ident()

    wait_for_result = helper.start(waits)
    second = helper.start(threading.get_ident)
    assert second() == own_thread, "the thread is taken"
    go.set()
    assert wait_for_result() != own_thread
    assert helper.start(threading.get_ident)() != own_thread, "it is free again"


def test_what_the_work_raises_comes_to_who_waits() -> None:
    helper = HelperThread()

    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        helper.start(fails)()
    assert helper.start(lambda: 3)() == 3
