"""What the shop's front makes of answers."""

from __future__ import annotations

import msgspec

from mmse.lab.simulated_test import front
from mmse.schema import http as api

scores = front._scores


def hits(*scored: tuple[api.Team | None, float]) -> list[api.FoundItem]:
    return [
        api.FoundItem(place + 1, f"i{place}", "t", score, None, (), {}, team=msgspec.UNSET if team is None else team)
        for place, (team, score) in enumerate(scored)
    ]


def test_of_two_lists_in_one_the_places_count_and_not_whose_scores_fall_slowly() -> None:
    flat_is_b = scores(hits(("a", 9.0), ("b", 0.9), ("a", 2.0), ("b", 0.89)))
    flat_is_a = scores(hits(("b", 9.0), ("a", 0.9), ("b", 2.0), ("a", 0.89)))
    assert flat_is_a == flat_is_b == [1.0, 0.75, 0.5, 0.25]
    assert scores(hits((None, 3.0), (None, 1.0))) == [3.0, 1.0]
