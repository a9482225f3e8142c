from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmse.core.errors import ArtifactError
from mmse.dataset.folder import ItemStats
from mmse.dataset.history import History

moments = st.one_of(st.integers(0, 6), st.integers(-(2**60), 2**60))
interactions = st.lists(st.tuples(st.sampled_from(["", "a", "b", "靴"]), moments, st.integers(0, 99)), max_size=30)


@settings(deadline=None)
@given(interactions, st.lists(st.tuples(st.sampled_from(["", "a", "靴", "?", None]), moments), max_size=8))
def test_history_is_strictly_before_and_the_latest_first(
    past: list[tuple[str, int, int]], lookups: list[tuple[str | None, int]]
) -> None:
    past = sorted(past)
    history = History(
        pa.array([user for user, _, _ in past], pa.string()),
        np.array([time for _, time, _ in past], np.int64),
        np.array([row for _, _, row in past], np.int32),
        np.array([2 + row % 2 for _, _, row in past], np.int8),
        length=3,
    )
    recent = history.look_up([user for user, _ in lookups], np.array([time for _, time in lookups], np.int64))
    for number, (user, time) in enumerate(lookups):
        slow = [row for other, moment, row in past if other == user and moment < time][::-1][:3]
        padding = [-1] * (3 - len(slow))
        assert recent.item_rows[number].tolist() == slow + padding
        assert recent.stages[number].tolist() == [2 + row % 2 for row in slow] + padding


def test_a_folder_that_holds_no_dataset_is_refused(tmp_path: Path) -> None:
    for open_folder in (History.open, ItemStats.open):
        with pytest.raises(ArtifactError, match="not a finished 'dataset' folder"):
            open_folder(tmp_path)
