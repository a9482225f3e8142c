"""Feed and query for OpenSearch and Elasticsearch: a mapping, bodies for `_bulk`, a search that fuses both channels.

Words come as stems between blanks, so that the engine compares what our own index compares. Vectors have one number
more, 1 in an item and a large one in a query: then no inner product is below 0, where both engines bend their scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec
import numpy as np
from jaxtyping import Float32

from mmse.export.items import ItemRecord, filter_fields, format_vector
from mmse.export.query import RemoteQuery
from mmse.index.forward_index import K1, B
from mmse.index.row_scores import FIELDS
from mmse.ranking.candidates import MIN_DEPTH
from mmse.schema.filters import And, Between, Filter, Kind, Not, OneOf, Or

Engine = Literal["opensearch", "elasticsearch"]

SHIFT = 8.0
"""What is added to each inner product. Views have unit length and weights that add up to 1, and the views of one number
are small: an item that would still be below 0 is far below every hit."""
WINDOW = 2 * MIN_DEPTH
"""So many candidates of a shard get the whole score: the best of either channel."""
_TYPES = {Kind.NAME: "keyword", Kind.PATH: "keyword", Kind.NUMBER: "double", Kind.FLAG: "boolean"}


def make_index(engine: Engine, width: int, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """The body of `PUT /INDEX`: settings and mapping for vectors of `width` numbers and the columns of `kinds`."""
    if engine == "elasticsearch":
        index_options = {"type": "hnsw", "m": 16, "ef_construction": 200}
        vector = {"type": "dense_vector", "dims": width + 1, "index": True, "similarity": "max_inner_product"}
        vector |= {"index_options": index_options}
        own_settings: dict[str, Any] = {}
    else:
        parameters = {"m": 16, "ef_construction": 200}
        method = {"name": "hnsw", "engine": "faiss", "space_type": "innerproduct", "parameters": parameters}
        vector = {"type": "knn_vector", "dimension": width + 1, "method": method}
        own_settings = {"knn": True}
    words = {field: {"type": "text", "analyzer": "whitespace", "similarity": "mmse"} for field in FIELDS}
    fields = filter_fields(kinds)
    properties = {
        "item_id": {"type": "keyword"},
        "item": {"type": "object", "enabled": False},
        "words": {"properties": words},
        "filter": {"properties": {fields[column]: {"type": _TYPES[kind]} for column, kind in kinds.items()}},
        "vector": vector,
    }
    similarity = {"mmse": {"type": "BM25", "k1": K1, "b": B}}
    return {
        "settings": {"index": {"number_of_shards": 1, "similarity": similarity, **own_settings}},
        "mappings": {"dynamic": "strict", "properties": properties},
    }


def bulk_lines(items: Iterable[ItemRecord]) -> Iterator[bytes]:
    """The two lines of `_bulk` for each item; the index is that of the URL, and an item that is there is replaced."""
    for item in items:
        document = {
            "item_id": item.item_id,
            "item": item.columns,
            "words": {field: " ".join(stems) for field, stems in item.words.items() if stems},
            "filter": item.filters,
            "vector": msgspec.Raw(format_vector(np.append(item.vector, np.float32(1)))),
        }
        yield msgspec.json.encode({"index": {"_id": item.item_id}}) + b"\n" + msgspec.json.encode(document) + b"\n"


def make_search(engine: Engine, query: RemoteQuery, k: int, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """The body of `POST /INDEX/_search`: candidates of both channels, then the sum of both scores of each."""
    vector = shift_query(query.vector).tolist()
    words = match_words(query)
    filters = [] if query.filter is None else [write_filter(query.filter, filter_fields(kinds))]
    if engine == "elasticsearch":
        neighbour_query: dict[str, Any] = {
            "field": "vector",
            "query_vector": vector,
            "k": MIN_DEPTH,
            "num_candidates": WINDOW,
        }
        neighbour_query |= {"filter": filters} if filters else {}
        script: dict[str, Any] = {"source": "dotProduct(params.vector, 'vector')", "params": {"vector": vector}}
    else:
        neighbour_query = {"vector": {"vector": vector, "k": MIN_DEPTH, **({"filter": filters[0]} if filters else {})}}
        parameters = {"field": "vector", "query_value": vector, "space_type": "innerproduct"}
        script = {"lang": "knn", "source": "knn_score", "params": parameters}
    exact = {"script_score": {"query": {"match_all": {}}, "script": script}}
    rescore = {"query_weight": 0.0, "rescore_query_weight": 1.0, "rescore_query": {"bool": {"should": [exact, *words]}}}
    return {
        "size": k,
        "_source": ["item_id", "item"],
        "query": {"bool": {"should": [{"knn": neighbour_query}, *words], "minimum_should_match": 1, "filter": filters}},
        "rescore": {"window_size": WINDOW, "query": rescore},
    }


def match_words(query: RemoteQuery) -> list[dict[str, Any]]:
    """The words as one query, of which the score is the share that words have in the fused score; none without words.

    Lucene leaves out the constant factor of BM25.
    """
    if not query.stems or not query.boosts:
        return []
    fields = [f"words.{field}^{boost:.6g}" for field, boost in query.boosts.items()]
    text, boost = " ".join(query.stems), (K1 + 1) * query.boost
    return [{"multi_match": {"query": text, "type": "most_fields", "fields": fields, "boost": boost}}]


def shift_query(vector: Float32[np.ndarray, " width"]) -> Float32[np.ndarray, " width_plus_1"]:
    """The vector of a query with the number that keeps its inner products with items above 0."""
    return np.append(vector, np.float32(SHIFT))


def write_filter(filter: Filter, fields: Mapping[str, str]) -> dict[str, Any]:
    """`filter` as a query that matches the same items."""
    if isinstance(filter, OneOf):
        return {"terms": {f"filter.{fields[filter.column]}": list(filter.values)}}
    if isinstance(filter, Between):
        ends = {"gte": filter.low, "lte": filter.high}
        present_ends = {name: end for name, end in ends.items() if end is not None}
        name = f"filter.{fields[filter.column]}"
        return {"range": {name: present_ends}} if present_ends else {"exists": {"field": name}}
    if isinstance(filter, Not):
        return {"bool": {"must_not": [write_filter(filter.part, fields)]}}
    if not filter.parts:
        return {"match_all": {}} if isinstance(filter, And) else {"match_none": {}}
    parts = [write_filter(part, fields) for part in filter.parts]
    if isinstance(filter, Or):
        return {"bool": {"should": parts, "minimum_should_match": 1}}
    return {"bool": {"filter": parts}}
