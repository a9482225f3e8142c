"""The options of `mmse search` as a search, and its answer as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from mmse.core.errors import UsageError
from mmse.schema.filters import Filter, Kind, parse_terms
from mmse.schema.search import Answer, Channel, Search


def search_of(
    kinds: Mapping[str, Kind],
    query: str,
    k: int,
    user_id: str | None,
    *,
    filters: Sequence[str],
    caps: Sequence[str],
    boosts: Sequence[str],
    channel: str,
    min_probability: float,
    target_precision: float | None,
    offset: int,
    sort: str | None,
    correct: bool,
    all_variants: bool,
) -> Search:
    """The search that the options ask for; raises `UsageError` naming the option that is wrong."""
    if channel not in get_args(Channel):
        raise UsageError(f"There is no channel '{channel}'.", f"Choose one of {', '.join(get_args(Channel))}.")
    return Search(
        query=query,
        k=k,
        user_id=user_id,
        filter=parse_terms(filters, kinds),
        channel=cast(Channel, channel),
        min_probability=min_probability,
        target_precision=target_precision,
        caps=dict(_cap(option, kinds) for option in caps),
        boosts=tuple(_boost(option, kinds) for option in boosts),
        offset=offset,
        sort=sort,
        correct=correct,
        all_variants=all_variants,
    )


def plain_answer(answer: Answer) -> dict[str, Any]:
    """`answer` as values that JSON can hold."""
    payload = dataclasses.asdict(answer) | {"searched_for": answer.query}
    payload["hits"] = [dataclasses.asdict(hit) | {"reason": hit.reason} for hit in answer.hits]
    for plain_hit in payload["hits"]:
        del plain_hit["phrases"]
    del payload["query"]
    return payload


def _cap(option: str, kinds: Mapping[str, Kind]) -> tuple[str, int]:
    column, _, limit = option.partition("=")
    if column not in kinds or not limit.isdecimal():
        raise UsageError(
            f"--cap {option!r} is not column=number.", f"Such as brand=2; columns: {', '.join(kinds) or 'none'}."
        )
    return column, int(limit)


def _boost(option: str, kinds: Mapping[str, Kind]) -> tuple[Filter, float]:
    factor, _, terms = option.partition(":")
    try:
        by = float(factor)
    except ValueError:
        raise UsageError(f"--boost {option!r} does not begin with a factor.", "Such as 1.5:brand=Bosch.") from None
    condition = parse_terms([terms], kinds)
    assert condition is not None
    return condition, by
