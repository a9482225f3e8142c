"""Whether the fused ranking falls short of one of its own channels: fusion should make nothing worse."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from mmse.evaluation.rows import ALL, Difference, Measure, measure_of


class Shortfall(msgspec.Struct, frozen=True):
    """The subject against the better of its channels, on `n_compared` pairs of slice and measure.

    `losses` are those where the subject is below the better channel by more than the interval: each the paired
    difference to that channel. `n_above` and `n_level` count the other pairs.
    """

    n_compared: int = msgspec.field(default=0, name="compared")
    n_above: int = msgspec.field(default=0, name="above")
    n_level: int = msgspec.field(default=0, name="level")
    losses: list[Difference] = msgspec.field(default_factory=list, name="below")


def find_shortfall(differences: Sequence[Difference], subject: str, channels: Collection[str]) -> Shortfall:
    """Compares the subject with the better of `channels` on every slice and measure that both have."""
    worst: dict[tuple[str, Measure], Difference] = {}  # the difference to the better channel, so the smallest one
    for d in differences:
        if d.system == subject and d.versus in channels:
            key = (d.slice, measure_of(d))
            if key not in worst or d.value < worst[key].value:
                worst[key] = d
    comparisons = list(worst.values())
    losses = [d for d in comparisons if d.significant and d.value < 0]
    n_above = sum(d.significant and d.value > 0 for d in comparisons)
    return Shortfall(len(comparisons), n_above, len(comparisons) - n_above - len(losses), losses)


def describe(shortfall: Shortfall, subject: str) -> str:
    """The shortfall in one or two sentences; empty if nothing was compared."""
    if not shortfall.n_compared:
        return ""
    counts = (
        f"on {shortfall.n_above} of {shortfall.n_compared} it is ahead of the better one, "
        f"on {shortfall.n_level} level with it"
    )
    losses = shortfall.losses
    if not losses:
        return f"{subject} is nowhere below either of its channels by more than the interval: {counts}."
    examples = ", ".join(_describe_loss(d) for d in losses[:4])
    remainder = f" and {len(losses) - 4} more" if len(losses) > 4 else ""
    return f"{subject} falls short of the better channel on {len(losses)} ({examples}{remainder}); {counts}."


def _describe_loss(d: Difference) -> str:
    slice_ = "" if d.slice == ALL else f", {d.slice}"
    return f"{d.metric}@{d.k} of {d.target.replace('_', ' ')}{slice_}: {d.value:+.3f} to {d.versus}"
