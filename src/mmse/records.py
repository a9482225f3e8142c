"""The ladder of stages and the columns of the tables: the words every floor shares."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Stage(IntEnum):
    """The furthest an item got for one request (METHOD: ordered > clicked > unclicked > random)."""

    RANDOM = 0
    UNCLICKED = 1
    CLICKED = 2
    ORDERED = 3


STAGE_GAINS = {Stage.CLICKED: 1.0, Stage.ORDERED: 3.0}
"""What a found item is worth in nDCG and MRR."""


@dataclass(frozen=True)
class Hit:
    """One item found for one query.

    `score` is the fused inner product; `parts` holds each view's share of it (they add up to `score`);
    `matched` are the query's words that stand in the item's text.
    """

    rank: int
    item_id: str
    title: str
    score: float
    parts: dict[str, float]
    matched: tuple[str, ...]
    item: dict[str, object]

    @property
    def reason(self) -> str:
        """Why it was found, in words: what it shares with the query, and the view that says most for it."""
        view, share = max(self.parts.items(), key=lambda part: part[1])
        learned = {"text": "similar text", "identity": "what this query leads to", "shopper": "this shopper's taste"}
        speaking = sum(max(part, 0.0) for part in self.parts.values())
        most = f"{learned.get(view, view)} {share / speaking:.0%}" if speaking > 0 else "nothing close"
        return f"has {', '.join(self.matched)}; {most}" if self.matched else f"no word in common; {most}"
