"""The ladder of stages and the columns of the tables: the words every floor shares."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Stage(IntEnum):
    """The furthest an item got for one request; a log without carts or without what was retrieved lacks those stages.

    `RANDOM` was neither shown nor, as far as the log tells, retrieved. `RETRIEVED` was found by the engine and not
    shown. Whatever is at `UNCLICKED` or above was shown.
    """

    RANDOM = 0
    RETRIEVED = 1
    UNCLICKED = 2
    CLICKED = 3
    CARTED = 4
    ORDERED = 5


STAGE_LEVELS = (0.0, 0.5, 1.0, 2.0, 2.5, 3.0)
"""How far up each stage is, for margins: from clicked to ordered it is 1 whether or not a log has carts."""

STAGE_GAINS = {Stage.CLICKED: 1.0, Stage.CARTED: 2.0, Stage.ORDERED: 3.0}
"""What a found item is worth in nDCG and MRR."""


@dataclass(frozen=True)
class Hit:
    """One item found for one query.

    `score` is the fused score; `parts` holds the share of each view and of the query's words in it (they add up to
    `score`). `probability` is that a shopper who looks at the item clicks it, `None` where the channel that was asked
    for is not calibrated. `matched` are the query's words that stand in the item's text, `moved_by` what rules, caps
    and guards did to its place, in words. A hit that was not to be explained has neither `parts` nor `matched`.
    """

    rank: int
    item_id: str
    title: str
    score: float
    probability: float | None
    parts: dict[str, float]
    matched: tuple[str, ...]
    moved_by: tuple[str, ...]
    item: dict[str, object]

    @classmethod
    def made(cls, **fields: object) -> Hit:
        """A hit of all its `fields`, four times as fast as its constructor, which sets them one by one."""
        assert len(fields) == len(cls.__dataclass_fields__)
        hit = object.__new__(cls)
        hit.__dict__.update(fields)
        return hit

    @property
    def reason(self) -> str:
        """Why it was found, in words: what it shares with the query, what says most for it, and what moved it.

        Of a hit that was not to be explained, what moved it alone.
        """
        if not self.parts:
            return "; ".join(self.moved_by)
        part, share = max(self.parts.items(), key=lambda one: one[1])
        speaking = sum(max(one, 0.0) for one in self.parts.values())
        most = f"{_SAID_OF.get(part, part)} {share / speaking:.0%}" if speaking > 0 else "nothing close"
        words = f"has {', '.join(self.matched)}" if self.matched else "no word in common"
        return "; ".join((words, most, *self.moved_by))


_SAID_OF = {
    "text": "similar text",
    "identity": "what this query leads to",
    "shopper": "this shopper's taste",
    "conversion": "sells well",
    "words": "same words",
}
