"""Whether what is served falls short of one of its channels, on made-up differences."""

from __future__ import annotations

from mmse.evaluation.rows import Difference
from mmse.evaluation.shortfall import describe, find_shortfall

CHANNELS = ("ours (vector)", "ours (lexical)")


def difference(versus: str, value: float, half: float, slice_: str = "all", k: int = 10) -> Difference:
    significant = abs(value) > half
    return Difference("ours", versus, "ordered", slice_, "recall", k, value, value - half, value + half, significant)


def test_the_better_channel_is_what_counts() -> None:
    shortfall = find_shortfall(
        [difference(CHANNELS[0], 0.2, 0.01), difference(CHANNELS[1], -0.05, 0.01), difference("dssm", -0.9, 0.01)],
        "ours",
        CHANNELS,
    )
    assert (shortfall.n_compared, shortfall.n_above, shortfall.n_level) == (1, 0, 0)
    assert [d.versus for d in shortfall.losses] == [CHANNELS[1]]
    assert describe(shortfall, "ours").startswith(
        "ours falls short of the better channel on 1 (recall@10 of ordered: -0.050"
    )


def test_within_the_interval_is_level() -> None:
    shortfall = find_shortfall(
        [difference(CHANNELS[0], -0.01, 0.02), difference(CHANNELS[1], 0.3, 0.02, "new query")], "ours", CHANNELS
    )
    assert (shortfall.n_compared, shortfall.n_above, shortfall.n_level, shortfall.losses) == (2, 1, 1, [])
    assert "nowhere below either of its channels" in describe(shortfall, "ours")


def test_nothing_to_compare() -> None:
    assert describe(find_shortfall([], "ours", CHANNELS), "ours") == ""
