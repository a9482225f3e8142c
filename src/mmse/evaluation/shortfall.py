"""Whether what is served falls short of one of its own channels: a fusion should cost nobody anything."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from mmse.evaluation.rows import ALL, Difference, Measure, measure_of


@dataclass(frozen=True)
class Shortfall:
    """Of `compared` measures on slices, those where ours is below the better channel by more than the interval.

    `level` and `above` count the rest. Each of `below` is the paired difference of ours to that channel.
    """

    compared: int = 0
    above: int = 0
    level: int = 0
    below: list[Difference] = field(default_factory=list)


def shortfall(differences: Sequence[Difference], ours: str, channels: Collection[str]) -> Shortfall:
    """Ours held against the better of `channels` on every slice and measure that both have."""
    best: dict[tuple[str, Measure], Difference] = {}  # to the better channel: the one that ours is furthest below
    for d in differences:
        if d.system == ours and d.versus in channels:
            key = (d.slice, measure_of(d))
            if key not in best or d.value < best[key].value:
                best[key] = d
    held = list(best.values())
    below = [d for d in held if d.significant and d.value < 0]
    above = sum(d.significant and d.value > 0 for d in held)
    return Shortfall(len(held), above, len(held) - above - len(below), below)


def in_words(found: Shortfall, ours: str) -> str:
    """What was found, in one or two sentences."""
    if not found.compared:
        return ""
    counted = f"on {found.above} of {found.compared} it is ahead of the better one, on {found.level} level with it"
    if not found.below:
        return f"{ours} is nowhere below either of its channels by more than the interval: {counted}."
    where = ", ".join(_where(d) for d in found.below[:4])
    more = f" and {len(found.below) - 4} more" if len(found.below) > 4 else ""
    return f"{ours} falls short of the better channel on {len(found.below)} ({where}{more}); {counted}."


def _where(d: Difference) -> str:
    on = "" if d.slice == ALL else f", {d.slice}"
    return f"{d.metric}@{d.k} of {d.target.replace('_', ' ')}{on}: {d.value:+.3f} to {d.versus}"
