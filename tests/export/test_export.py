"""Feeds for other engines: what they hold, and what a search over them gives, as far as that can be had here."""

from __future__ import annotations

import inspect
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from mmse.cli.main import app
from mmse.core.errors import UsageError
from mmse.dataset.serving_data import read_probe_queries
from mmse.export import lucene, qdrant
from mmse.export.feed import FeedConfig, TargetEngine, export_run, make_body, write_files
from mmse.export.items import filter_fields, filter_value, format_vector
from mmse.export.query import RemoteQuery
from mmse.index.row_scores import FIELDS
from mmse.ranking.candidates import word_shares
from mmse.retrieval.retriever import Retriever
from mmse.schema.filters import Kind, parse_filter
from mmse.schema.search import Search

K = 10
FILTERS: list[Any] = [
    {"price": {"to": 60}},
    {"not": {"available": True}},
    {"or": [{"price": {"from": 100}}, {"available": [False]}]},
    {"and": []},
    {"or": []},
]


@pytest.fixture(scope="module")
def retriever(small_run: Path) -> Retriever:
    return Retriever.open(small_run)


@pytest.fixture(scope="module")
def queries(small_run: Path) -> list[str]:
    return [*read_probe_queries(small_run / "serving", 12), "no such word", "of"]


@pytest.fixture(scope="module")
def feeds(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feed for each engine, in files of at most 50 KB."""
    folder = tmp_path_factory.mktemp("feeds")
    for engine in ("opensearch", "elasticsearch", "qdrant"):
        manifest = export_run(small_run, folder / engine, FeedConfig(engine, 0.05))
        assert manifest.counts["items"] == 400
        assert manifest.counts["files"] > 5
    return folder


def best(retriever: Retriever, search: Search) -> dict[str, float]:
    """The first hits by the hybrid's formula without memory, of all items, and their scores."""
    context = retriever.context(search)
    snapshot, lexical_query = context.snapshot, context.lexical_query
    rows = np.arange(snapshot.n_rows)
    if context.filter is not None:
        rows = rows[snapshot.match_filter(context.filter, rows)]
    shares = word_shares(snapshot.lexical.score_rows(lexical_query, rows), lexical_query)
    scores = snapshot.vectors(rows) @ context.vector + context.weight * shares
    first = np.argsort(-scores, kind="stable")[: search.k]
    ids = snapshot.values("item_id", rows[first])
    return dict(zip(ids, scores[first].tolist(), strict=True))


def read_bulk(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((folder / "bulk").iterdir()):
        assert path.stat().st_size < 60_000
        lines = path.read_text("utf-8").splitlines()
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            values = json.loads(document)
            assert json.loads(action) == {"index": {"_id": values["item_id"]}}
            yield values


def test_qdrant_finds_what_the_hybrid_finds(feeds: Path, retriever: Retriever, queries: Sequence[str]) -> None:
    qdrant_client = pytest.importorskip("qdrant_client")
    from qdrant_client import models

    folder = feeds / "qdrant"
    client = qdrant_client.QdrantClient(":memory:")
    collection = models.CreateCollection.model_validate_json((folder / "collection.json").read_bytes())
    client.create_collection("shop", vectors_config=collection.vectors, sparse_vectors_config=collection.sparse_vectors)
    for index in json.loads((folder / "payload_indexes.json").read_bytes()):
        models.CreateFieldIndex.model_validate(index)
    for path in sorted((folder / "points").iterdir()):
        assert path.stat().st_size < 60_000
        client.upsert("shop", models.PointsList.model_validate_json(path.read_bytes()).points)
    searches = [Search(query, K) for query in queries]
    searches += [Search(queries[0], K, filter=parse_filter(value, retriever.kinds)) for value in FILTERS]
    for search in searches:
        request = models.QueryRequest.model_validate(make_body(retriever, "qdrant", search))
        hits = client.query_points(
            "shop",
            prefetch=request.prefetch,
            query=request.query,
            using=request.using,
            query_filter=request.filter,
            limit=request.limit,
        ).points
        expected = best(retriever, search)
        scores = {hit.payload["item_id"]: hit.score for hit in hits}
        np.testing.assert_allclose(list(scores.values()), list(expected.values()), atol=2e-5, err_msg=search.query)
        assert len(scores.keys() & expected.keys()) >= len(expected) - 1  # of two with one score either may be the last


@pytest.mark.parametrize("engine", ["opensearch", "elasticsearch"])
def test_documents_fit_the_mapping(feeds: Path, engine: str) -> None:
    mapping = json.loads((feeds / engine / "index.json").read_bytes())["mappings"]
    documents = list(read_bulk(feeds / engine))
    assert len({document["item_id"] for document in documents}) == 400
    size = mapping["properties"]["vector"]["dims" if engine == "elasticsearch" else "dimension"]
    kinds = {"keyword": list, "double": float, "boolean": bool}
    for document in documents:
        assert document.keys() <= mapping["properties"].keys()
        assert len(document["vector"]) == size
        assert document["words"].keys() <= mapping["properties"]["words"]["properties"].keys()
        for name, value in document["filter"].items():
            assert isinstance(value, kinds[mapping["properties"]["filter"]["properties"][name]["type"]])


def test_elasticsearchs_client_knows_every_query_and_parameter(retriever: Retriever, queries: Sequence[str]) -> None:
    dsl = pytest.importorskip("elasticsearch.dsl")
    body = make_body(
        retriever, "elasticsearch", Search(queries[0], K, filter=parse_filter(FILTERS[2], retriever.kinds))
    )
    assert dsl.Search.from_dict(body).to_dict() == body
    parts = list(query_parts(body["query"])) + list(query_parts(body["rescore"]["query"]["rescore_query"]))
    assert {name for name, _ in parts} == {"bool", "knn", "multi_match", "range", "terms", "script_score", "match_all"}
    for name, parameters in parts:
        known = inspect.signature(dsl.query.Query.get_dsl_class(name).__init__).parameters
        assert name in ("range", "terms") or parameters.keys() <= known.keys(), name


def test_opensearchs_client_knows_every_query_but_its_own_knn(retriever: Retriever, queries: Sequence[str]) -> None:
    client = pytest.importorskip("opensearchpy")
    body = make_body(retriever, "opensearch", Search(queries[0], K, filter=parse_filter(FILTERS[2], retriever.kinds)))
    near = body["query"]["bool"]["should"].pop(0)  # the client has no class for it
    assert list(near["knn"]) == ["vector"]
    assert near["knn"]["vector"].keys() == {"vector", "k", "filter"}
    assert client.Search.from_dict(body).to_dict() == body


def query_parts(query: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every query inside `query`: its name and its parameters."""
    for name, parameters in query.items():
        yield name, parameters
        for key in ("should", "filter", "must_not", "query"):
            inner = parameters.get(key, [])
            for part in inner if isinstance(inner, list) else [inner]:
                if isinstance(part, dict):
                    yield from query_parts(part)


@pytest.mark.parametrize("engine", ["opensearch", "elasticsearch"])
def test_the_search_scores_as_the_hybrid_by_lucenes_formula(
    feeds: Path, retriever: Retriever, queries: Sequence[str], engine: TargetEngine
) -> None:
    documents = list(read_bulk(feeds / engine))
    statistics = Lucene(documents)
    n_equal = 0
    for query in queries:
        body = make_body(retriever, engine, Search(query, K))
        exact, *words = body["rescore"]["query"]["rescore_query"]["bool"]["should"]
        params = exact["script_score"]["script"]["params"]
        vector = np.array(params["vector" if engine == "elasticsearch" else "query_value"])
        scores = {
            document["item_id"]: float(vector @ document["vector"])
            + sum(statistics.score(document, part["multi_match"]) for part in words)
            for document in documents
        }
        hits = sorted(scores, key=lambda item_id: -scores[item_id])[:K]
        n_equal += len(best(retriever, Search(query, K)).keys() & set(hits))
    assert n_equal >= 0.95 * K * len(queries)


class Lucene:
    """BM25 as Lucene has it: documents without a field do not count for it, and there is no constant factor."""

    def __init__(self, documents: Sequence[Mapping[str, Any]]) -> None:
        self.texts = {
            field: {d["item_id"]: d["words"][field].split() for d in documents if field in d["words"]}
            for field in FIELDS
        }
        self.lengths = {f: np.mean([len(text) for text in texts.values()]) for f, texts in self.texts.items() if texts}
        self.frequencies = {f: Counter(w for text in t.values() for w in set(text)) for f, t in self.texts.items()}

    def score(self, document: Mapping[str, Any], match: Mapping[str, Any]) -> float:
        score = 0.0
        for name in match["fields"]:
            field, boost = name.removeprefix("words.").split("^")
            text = self.texts[field].get(document["item_id"], [])
            for stem in match["query"].split():
                if count := text.count(stem):
                    frequency, n = self.frequencies[field][stem], len(self.texts[field])
                    rarity = math.log1p((n - frequency + 0.5) / (frequency + 0.5))
                    norm = 1.2 * (0.25 + 0.75 * len(text) / self.lengths[field])
                    score += match["boost"] * float(boost) * rarity * count / (count + norm)
        return score


def test_filters_say_the_same_for_lucene() -> None:
    kinds = {"brand": Kind.NAME, "a.b": Kind.PATH, "price": Kind.NUMBER, "new": Kind.FLAG}
    fields = filter_fields(kinds)
    assert fields == {"brand": "brand", "a.b": "column_1", "price": "price", "new": "new"}
    value = {"brand": ["Bosch", "makita"], "a.b": "X > y", "price": {"from": 1, "to": 2}, "not": {"new": True}}
    assert lucene.write_filter(parse_filter(value, kinds), fields) == {
        "bool": {
            "filter": [
                {"terms": {"filter.brand": ["bosch", "makita"]}},
                {"terms": {"filter.column_1": ["x > y"]}},
                {"range": {"filter.price": {"gte": 1.0, "lte": 2.0}}},
                {"bool": {"must_not": [{"terms": {"filter.new": [True]}}]}},
            ]
        }
    }
    assert filter_value(["Tools > Saws", "tools"], Kind.PATH) == ["tools", "tools > saws"]
    assert filter_value(math.nan, Kind.NUMBER) is None
    assert filter_value(" ", Kind.NAME) is None


def test_vectors_keep_every_bit() -> None:
    vector = np.random.default_rng(0).normal(size=200).astype(np.float32) * np.float32(1e-3)
    np.testing.assert_array_equal(np.array(msgspec.json.decode(format_vector(vector)), np.float32), vector)


def test_files_have_all_entries_and_their_size(tmp_path: Path) -> None:
    entries = [b"x" * 400_000, b"y" * 500_000, b"z" * 300_000, b"w" * 2_000_000, b"v"]
    assert write_files(entries, tmp_path / "parts", 1.0, frame=(b"[", b",", b"]"), suffix=".json") == 4
    files = sorted((tmp_path / "parts").iterdir())
    assert (
        b"".join(path.read_bytes() for path in files)
        == b"[" + entries[0] + b"," + entries[1] + b"][" + entries[2] + b"][" + entries[3] + b"][v]"
    )


def test_what_another_engine_cannot_do_is_refused(retriever: Retriever, queries: Sequence[str]) -> None:
    with pytest.raises(UsageError, match="Leave out offset"):
        make_body(retriever, "qdrant", Search(queries[0], sort="price"))
    query = RemoteQuery.of(retriever, Search("of ! ,"))
    assert qdrant.make_query(query, K, {}).get("using", "items") == "items"


def test_the_commands_write_a_feed_and_a_query(small_run: Path, tmp_path: Path, queries: Sequence[str]) -> None:
    result = CliRunner().invoke(app, ["export", "feed", "qdrant", str(small_run), "--out", str(tmp_path / "feed")])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "feed").iterdir()) == [
        "collection.json",
        "manifest.json",
        "payload_indexes.json",
        "points",
        "query.json",
    ]
    arguments = ["export", "query", "elasticsearch", str(small_run), queries[0], "--filter", "price=..20", "-k", "3"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["size"] == 3
    result = CliRunner().invoke(app, ["export", "feed", "solr", str(small_run)])
    assert isinstance(result.exception, UsageError)
