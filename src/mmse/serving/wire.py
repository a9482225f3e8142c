"""Turns the request bodies of the HTTP API into searches, and answers into response bodies."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from mmse.core.errors import UsageError
from mmse.schema.filters import Filter, Kind, parse_filter
from mmse.schema.http import Explanation, FacetBin, FacetCounts, FacetValue, SearchAnswer, SearchHit, SearchRequest
from mmse.schema.search import Facet, Hit, Search
from mmse.serving.experiment_arms import ArmAnswer, Placement


def build_search(request: SearchRequest, kinds: Mapping[str, Kind]) -> Search:
    """The search that `request` asks for, on columns of these kinds; raises `UsageError` where it does not fit them."""
    return Search(
        query=request.query,
        k=request.k,
        user_id=request.user_id,
        history=tuple(request.history or ()),
        filter=parse_filter(request.filter, kinds) if request.filter else None,
        channel=request.channel,
        min_probability=request.min_probability,
        target_precision=request.target_precision,
        caps=request.caps,
        boosts=tuple((_parse_boost(boost.filter, kinds), boost.factor) for boost in request.boosts),
        facets=tuple(request.facets),
        explain=request.explain,
        offset=request.offset,
        sort=request.sort,
        correct=request.correct,
        all_variants=request.all_variants,
    )


def build_answer(arm_answer: ArmAnswer, *, kinds: Mapping[str, Kind], version: str) -> SearchAnswer:
    """An answer as the body of a response; what is of one request, such as its id, is still empty."""
    answer = arm_answer.answer
    hits = [_build_hit(hit) for hit in answer.hits]
    if arm_answer.placements:
        hits = [_add_placement(hit, placement) for hit, placement in zip(hits, arm_answer.placements, strict=True)]
    return SearchAnswer(
        request_id="",
        version=version,
        arm=None,
        catalogue=answer.version,
        query=answer.query,
        hits=hits,
        no_good_match=answer.no_good_match,
        redirect_url=answer.redirect_url,
        rules=answer.rules,
        facets=[_build_facet(column, facet, kinds[column]) for column, facet in answer.facets.items()],
        took_ms=0.0,
        notes=answer.notes,
        corrected_from=answer.corrected_from,
    )


def _parse_boost(condition: Mapping[str, object], kinds: Mapping[str, Kind]) -> Filter:
    if not condition:
        raise UsageError("A boost has an empty filter.", "Name the column and value of what is to be boosted.")
    return parse_filter(condition, kinds)


def _build_hit(hit: Hit) -> SearchHit:
    explanation = Explanation(parts=hit.parts, matched=hit.matched, reason=hit.reason) if hit.parts else None
    return SearchHit(
        rank=hit.rank,
        item_id=hit.item_id,
        title=hit.title,
        score=hit.score,
        probability=hit.probability,
        moved_by=hit.moved_by,
        item=hit.item,
        variants=hit.variants,
        explanation=explanation,
    )


def _add_placement(hit: SearchHit, placement: Placement) -> SearchHit:
    source = placement.source
    if source is None:
        propensity = msgspec.UNSET if placement.propensity is None else placement.propensity
        return msgspec.structs.replace(hit, explored=placement.explored, propensity=propensity)
    return msgspec.structs.replace(hit, team=source.team, rank_a=source.rank_a, rank_b=source.rank_b)


def _build_facet(column: str, facet: Facet, kind: Kind) -> FacetCounts:
    values = [FacetValue(value=value, count=count) for value, count in facet.counts.items()]
    return FacetCounts(column=column, kind=kind.value, values=values, bins=_build_bins(facet), exact=facet.exact)


def _build_bins(facet: Facet) -> list[FacetBin]:
    if facet.low is None or facet.high is None:
        return []
    edges = np.linspace(facet.low, facet.high, len(facet.bins) + 1).tolist()
    return [FacetBin(low=low, high=high, count=n) for low, high, n in zip(edges, edges[1:], facet.bins, strict=False)]
