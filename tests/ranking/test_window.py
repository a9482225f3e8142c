"""What the ranking takes for chosen in the validation window."""

from __future__ import annotations

import numpy as np
import pytest

from mmse.ranking.window import MIN_ORDERS, ValidationWindow
from mmse.schema.stages import Stage
from mmse.training.targets import LoggedRequests, ShownSlots


def window(n_orders: int, goal: float) -> ValidationWindow:
    """Requests that each clicked item 0, and of which the first `n_orders` ordered item 1."""
    n = MIN_ORDERS
    request = np.concatenate([np.arange(n), np.arange(n_orders)])
    stages = np.repeat([int(Stage.CLICKED), int(Stage.ORDERED)], [n, n_orders])
    logged = LoggedRequests(
        request_ids=[str(number) for number in range(n)],
        queries=["tent"] * n,
        users=[None] * n,
        history=np.full((n, 1), -1, np.int32),
        request=request,
        item_rows=(stages == Stage.ORDERED).astype(np.int32),
        stages=stages,
        explored=np.zeros(len(stages), bool),
    )
    slots = ShownSlots(
        request, logged.item_rows, logged.stages, np.ones(len(stages), np.float32), np.zeros(len(stages), bool)
    )
    vectors = np.zeros((n, 4), np.float32), np.zeros((2, 4), np.float32)
    return ValidationWindow(logged, slots, *vectors, np.zeros(n, np.int64), goal)


@pytest.mark.parametrize(
    ("n_orders", "goal", "are_clicks_chosen"),
    [(MIN_ORDERS, 1.0, False), (MIN_ORDERS, 0.5, False), (MIN_ORDERS, 0.49, True), (MIN_ORDERS - 1, 1.0, True)],
)
def test_clicks_are_chosen_where_orders_are_few_or_not_the_goal(
    n_orders: int, goal: float, are_clicks_chosen: bool
) -> None:
    positives = window(n_orders, goal).positives
    assert positives[MIN_ORDERS:].all()
    assert set(positives[:MIN_ORDERS].tolist()) == {are_clicks_chosen}
