"""The ladder of stages: how far an item got for one request, from random to ordered."""

from __future__ import annotations

from enum import IntEnum


class Stage(IntEnum):
    """The furthest stage that an item reached for one request.

    `RANDOM`: neither shown nor, as far as the log tells, retrieved. `RETRIEVED`: found by the engine and not shown.
    From `UNCLICKED` on: shown. A log without carts lacks `CARTED`, a log without retrieved items lacks `RETRIEVED`.
    """

    RANDOM = 0
    RETRIEVED = 1
    UNCLICKED = 2
    CLICKED = 3
    CARTED = 4
    ORDERED = 5


STAGE_LEVELS = (0.0, 0.5, 1.0, 2.0, 2.5, 3.0)
"""The level of each stage, for margins: from clicked to ordered it is 1 whether or not a log has carts."""

STAGE_GAINS = {Stage.CLICKED: 1.0, Stage.CARTED: 2.0, Stage.ORDERED: 3.0}
"""The gain of a retrieved item in nDCG and MRR."""
