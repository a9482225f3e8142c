"""Feed and query for Qdrant: points with a dense vector and a sparse one that holds BM25, a query that adds the two.

The sparse vector of an item has, for each stem of each field, what BM25 makes of how often it occurs in a field of that
length; that of a query has what each word weighs. Their product is the score of our own lexical index.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from mmse.export.items import ItemRecord, filter_fields, format_vector
from mmse.export.query import RemoteQuery
from mmse.index.forward_index import K1, B, hash_word, round_length
from mmse.index.row_scores import FIELDS
from mmse.ranking.candidates import MIN_DEPTH
from mmse.schema.filters import And, Between, Filter, Kind, Not, OneOf, Or

DENSE, SPARSE = "items", "words"
_TYPES = {Kind.NAME: "keyword", Kind.PATH: "keyword", Kind.NUMBER: "float", Kind.FLAG: "bool"}
_IDS = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")
_INDEX_BITS = 2**32 - 1


def make_collection(width: int) -> dict[str, Any]:
    """The body of `PUT /collections/NAME` for vectors of `width` numbers."""
    return {"vectors": {DENSE: {"size": width, "distance": "Dot"}}, "sparse_vectors": {SPARSE: {}}}


def payload_indexes(kinds: Mapping[str, Kind]) -> list[dict[str, str]]:
    """The bodies of `PUT /collections/NAME/index`, one for each column to filter by."""
    fields = filter_fields(kinds)
    return [{"field_name": f"filter.{fields[name]}", "field_schema": _TYPES[kind]} for name, kind in kinds.items()]


def point_id(item_id: str) -> str:
    """The id of an item's point: the same in every feed."""
    return str(uuid.uuid5(_IDS, item_id))


def points(items: Iterable[ItemRecord], mean_lengths: Sequence[float]) -> Iterator[bytes]:
    """Each item as a point in JSON; `mean_lengths` are those of the fields of words."""
    for item in items:
        indices, values = weigh_words(item.words, mean_lengths)
        point = {
            "id": point_id(item.item_id),
            "vector": {DENSE: msgspec.Raw(format_vector(item.vector)), SPARSE: {"indices": indices, "values": values}},
            "payload": {"item_id": item.item_id, "item": item.columns, "filter": item.filters},
        }
        yield msgspec.json.encode(point)


def weigh_words(words: Mapping[str, Sequence[str]], mean_lengths: Sequence[float]) -> tuple[list[int], list[float]]:
    """The sparse vector of an item: BM25's part of each of its words."""
    weights: dict[int, float] = {}
    for field, mean_length in zip(FIELDS, mean_lengths, strict=True):
        stems = words[field]
        norm = K1 * (1 - B + B * round_length(len(stems)) / mean_length) if stems else 0.0
        for stem, count in Counter(stems).items():
            weights[sparse_index(hash_word(field, stem))] = round(count / (count + norm), 7)
    return list(weights), list(weights.values())


def sparse_index(word: int) -> int:
    """The index of a word of a field: 32 bits of its hash, which a few pairs of a million words share."""
    return word & _INDEX_BITS


def make_query(query: RemoteQuery, k: int, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """The body of `POST /collections/NAME/points/query`: the best of either channel, with the sum of both scores."""
    filter = {} if query.filter is None else {"filter": write_filter(query.filter, filter_fields(kinds))}
    neighbour_query = {"query": query.vector.tolist(), "using": DENSE}
    if not query.word_weights:
        return {**neighbour_query, **filter, "limit": k, "with_payload": True}
    weights = {sparse_index(word): weight for word, weight in query.word_weights.items()}
    words = {"query": {"indices": list(weights), "values": list(weights.values())}, "using": SPARSE}
    candidates = [{**channel, **filter, "limit": MIN_DEPTH} for channel in (neighbour_query, words)]
    scores = [{**channel, "prefetch": candidates, "limit": 2 * MIN_DEPTH} for channel in (neighbour_query, words)]
    formula = {"formula": {"sum": ["$score[0]", "$score[1]"]}, "defaults": {"$score[0]": 0.0, "$score[1]": 0.0}}
    return {"prefetch": scores, "query": formula, "limit": k, "with_payload": True}


def write_filter(filter: Filter, fields: Mapping[str, str]) -> dict[str, Any]:
    """`filter` as Qdrant's filter, which the same items pass."""
    if isinstance(filter, And):
        return {"must": [write_filter(part, fields) for part in filter.parts]}
    if isinstance(filter, Or):
        return {"should": [write_filter(part, fields) for part in filter.parts]} if filter.parts else _nothing()
    if isinstance(filter, Not):
        return {"must_not": [write_filter(filter.part, fields)]}
    key = f"filter.{fields[filter.column]}"
    if isinstance(filter, Between):
        ends = {"gte": filter.low, "lte": filter.high}
        present_ends = {name: end for name, end in ends.items() if end is not None}
        is_any = {"must_not": [{"is_empty": {"key": key}}]}
        return {"must": [{"key": key, "range": present_ends}]} if present_ends else is_any
    return _match_any(key, filter)


def _match_any(key: str, filter: OneOf) -> dict[str, Any]:
    if not filter.values:
        return _nothing()
    if all(isinstance(value, bool) for value in filter.values):
        return {"should": [{"key": key, "match": {"value": value}} for value in filter.values]}
    return {"must": [{"key": key, "match": {"any": list(filter.values)}}]}


def _nothing() -> dict[str, Any]:
    return {"must": [{"has_id": []}]}
