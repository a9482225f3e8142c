"""Requests into searches, and answers into what is said over HTTP."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from mmse.core.errors import UsageError
from mmse.schema.filters import Filter, Kind, parse_filter
from mmse.schema.http import Bin, Explanation, FacetCounts, FacetValue, FoundItem, SearchAnswer, SearchRequest
from mmse.schema.search import Facet, Search
from mmse.schema.stages import Hit
from mmse.serving.experiment_arms import Mark, Treated


def search_of(asked: SearchRequest, kinds: Mapping[str, Kind]) -> Search:
    """The search that `asked` is on a catalogue of these columns; raises `UsageError` for what does not fit it."""
    return Search(
        query=asked.query,
        k=asked.k,
        user_id=asked.user_id,
        history=tuple(asked.history or ()),
        filter=parse_filter(asked.filter, kinds) if asked.filter else None,
        channel=asked.channel,
        min_probability=asked.min_probability,
        target_precision=asked.target_precision,
        caps=asked.caps,
        boosts=tuple((_boosted(one.filter, kinds), one.factor) for one in asked.boosts),
        facets=tuple(asked.facets),
        explain=asked.explain,
    )


def said(
    treated: Treated,
    *,
    kinds: Mapping[str, Kind],
    request_id: str,
    version: str,
    arm: str | None,
    assignments: Mapping[str, str],
    took_s: float,
) -> SearchAnswer:
    """An answer as the body of a response."""
    answer = treated.answer
    hits = [_hit(hit) for hit in answer.hits]
    if treated.marks:
        hits = [_marked(hit, mark) for hit, mark in zip(hits, treated.marks, strict=True)]
    return SearchAnswer(
        request_id=request_id,
        version=version,
        arm=arm,
        assignments=dict(assignments),
        catalogue=answer.version,
        query=answer.query,
        hits=hits,
        no_good_match=answer.no_good_match,
        redirect_url=answer.redirect_url,
        rules=answer.rules,
        facets=[_facet(column, facet, kinds[column]) for column, facet in answer.facets.items()],
        took_ms=round(took_s * 1000, 3),
    )


def _boosted(said: Mapping[str, object], kinds: Mapping[str, Kind]) -> Filter:
    if not said:
        raise UsageError("A boost has an empty filter.", "Name the column and value of what is to be boosted.")
    return parse_filter(said, kinds)


def _hit(hit: Hit) -> FoundItem:
    explained = Explanation(parts=hit.parts, matched=hit.matched, reason=hit.reason) if hit.parts else None
    return FoundItem(
        rank=hit.rank,
        item_id=hit.item_id,
        title=hit.title,
        score=hit.score,
        probability=hit.probability,
        moved_by=hit.moved_by,
        item=hit.item,
        explanation=explained,
    )


def _marked(hit: FoundItem, mark: Mark) -> FoundItem:
    if mark.drawn is None:
        chance = msgspec.UNSET if mark.propensity is None else mark.propensity
        return msgspec.structs.replace(hit, explored=mark.explored, propensity=chance)
    drawn = mark.drawn
    return msgspec.structs.replace(hit, team=drawn.team, rank_a=drawn.rank_a, rank_b=drawn.rank_b)


def _facet(column: str, facet: Facet, kind: Kind) -> FacetCounts:
    values = [FacetValue(value=value, count=count) for value, count in facet.counts.items()]
    return FacetCounts(column=column, kind=kind.value, values=values, bins=_bins(facet))


def _bins(facet: Facet) -> list[Bin]:
    if facet.low is None or facet.high is None:
        return []
    ends = np.linspace(facet.low, facet.high, len(facet.bins) + 1).tolist()
    return [Bin(low=low, high=high, count=n) for low, high, n in zip(ends, ends[1:], facet.bins, strict=False)]
