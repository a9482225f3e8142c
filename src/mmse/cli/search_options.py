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
    only: Sequence[str],
    caps: Sequence[str],
    boosts: Sequence[str],
    channel: str,
    min_probability: float,
    target_precision: float | None,
) -> Search:
    """The search that the options ask for; raises `UsageError` naming the option that is wrong."""
    if channel not in get_args(Channel):
        raise UsageError(f"There is no channel '{channel}'.", f"Choose one of {', '.join(get_args(Channel))}.")
    return Search(
        query=query,
        k=k,
        user_id=user_id,
        filter=parse_terms(only, kinds),
        channel=cast(Channel, channel),
        min_probability=min_probability,
        target_precision=target_precision,
        caps=dict(_cap(said, kinds) for said in caps),
        boosts=tuple(_boost(said, kinds) for said in boosts),
    )


def plain_answer(answer: Answer) -> dict[str, Any]:
    """`answer` as values that JSON can hold."""
    said = dataclasses.asdict(answer) | {"searched_for": answer.query}
    said["hits"] = [dataclasses.asdict(hit) | {"reason": hit.reason} for hit in answer.hits]
    del said["query"]
    return said


def _cap(said: str, kinds: Mapping[str, Kind]) -> tuple[str, int]:
    column, _, most = said.partition("=")
    if column not in kinds or not most.isdecimal():
        raise UsageError(
            f"--cap {said!r} is not column=number.", f"Such as brand=2; columns: {', '.join(kinds) or 'none'}."
        )
    return column, int(most)


def _boost(said: str, kinds: Mapping[str, Kind]) -> tuple[Filter, float]:
    factor, _, where = said.partition(":")
    try:
        by = float(factor)
    except ValueError:
        raise UsageError(f"--boost {said!r} does not begin with a factor.", "Such as 1.5:brand=Bosch.") from None
    found = parse_terms([where], kinds)
    assert found is not None
    return found, by
