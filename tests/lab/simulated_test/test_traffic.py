"""The scores of hits on simulated pages."""

from __future__ import annotations

import msgspec

from mmse.lab.simulated_test import traffic
from mmse.schema import http

scores = traffic._scores


def hits(*pairs: tuple[http.Team | None, float]) -> list[http.SearchHit]:
    return [
        http.SearchHit(i + 1, f"i{i}", "t", score, None, (), {}, team=msgspec.UNSET if team is None else team)
        for i, (team, score) in enumerate(pairs)
    ]


def test_interleaved_hits_are_scored_by_rank_and_not_by_how_slowly_scores_fall() -> None:
    flat_is_b = scores(hits(("a", 9.0), ("b", 0.9), ("a", 2.0), ("b", 0.89)))
    flat_is_a = scores(hits(("b", 9.0), ("a", 0.9), ("b", 2.0), ("a", 0.89)))
    assert flat_is_a == flat_is_b == [1.0, 0.75, 0.5, 0.25]
    assert scores(hits((None, 3.0), (None, 1.0))) == [3.0, 1.0]
