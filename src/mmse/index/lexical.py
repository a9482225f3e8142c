"""The lexical channel: exact words by BM25, in a Tantivy index of the same items, by the same rows and filters.

A document is one item row: its title, brand, category and attributes as stemmed words, and its filterable columns.
BM25 is Lucene's (Robertson and Zaragoza, *The Probabilistic Relevance Framework*, 2009) with Tantivy's k1 1.2 and
b 0.75, a score a field, added up with the fields' boosts.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tantivy
from jaxtyping import Bool, Float32, Int64
from tantivy import Occur, Query

from mmse.errors import ArtifactError
from mmse.filters import And, Between, Filter, Kind, Not, OneOf, comparable, path_of, paths_above
from mmse.index.base import Progress, damaged
from mmse.lexical import words
from mmse.text import MAX_CHARACTERS

FIELDS = ("title", "brand", "category", "attributes")
ABOUT = "lexical.json"
MAX_WORDS = 32
"""Different words of a query that are looked up; the rest of a longer one adds nothing to BM25 but time."""

_K1_PLUS_1 = 2.2
_HEAP_BYTES = 256_000_000
_LIVE_HEAP_BYTES = 32_000_000
_SAY_EVERY = 16_384

Boosts = Mapping[str, float]
Expansions = Sequence[tuple[str, Sequence[str]]]
"""For phrases of the query, the phrases that stand for them as well."""

Phrases = Sequence[Sequence[str]]
"""Runs of words, each with at least one."""


@dataclass(frozen=True)
class Asked:
    """A query in the index's own terms; `most` is a scale for its scores, more than an item reaches.

    It is the sum over words of what each could score in its weightiest field, and a word is rarest in a field that
    lacks it. What stands for a phrase (`Expansions`) is not in it and may reach more.

    `query` is None where the text has no word.
    """

    query: Query | None
    most: float


@dataclass(frozen=True)
class Matches:
    """Item rows with their BM25 score, best first; `complete` where no other item has any of the words."""

    rows: Int64[np.ndarray, " m"]
    scores: Float32[np.ndarray, " m"]
    complete: bool


@final
class LexicalIndex:
    """The index as it stood when it was opened or last refreshed."""

    def __init__(self, index: tantivy.Index, kinds: Mapping[str, Kind], language: str) -> None:
        self.kinds, self.language = dict(kinds), language
        self._index = index
        self._analyzer = _analyzer(language)
        index.register_tokenizer("words", self._analyzer)
        index.reload()
        self._searcher = index.searcher()

    def __len__(self) -> int:
        return int(self._searcher.num_docs)

    @classmethod
    def create(cls, folder: Path, kinds: Mapping[str, Kind], language: str) -> LexicalIndex:
        """An empty index in `folder`, which exists, over the filterable columns `kinds`.

        `language` is one of `LANGUAGES`, for the stemmer (`none`: no stemming).
        """
        about = {"kinds": {name: kind.value for name, kind in kinds.items()}, "language": language}
        (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", "utf-8")
        return cls(tantivy.Index(_schema(kinds), str(folder)), kinds, language)

    @classmethod
    def open(cls, folder: Path) -> LexicalIndex:
        """The index in `folder`; raises `ArtifactError` where it is missing or damaged."""
        try:
            about = json.loads((folder / ABOUT).read_text("utf-8"))
            kinds = {name: Kind(kind) for name, kind in about["kinds"].items()}
            return cls(tantivy.Index.open(str(folder)), kinds, about["language"])
        except FileNotFoundError as error:
            raise ArtifactError(f"{folder} holds no lexical index.", "Build it: mmse index --help.") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise damaged(folder / ABOUT, error) from error

    def refreshed(self) -> LexicalIndex:
        """The same index with all that was committed since."""
        return LexicalIndex(self._index, self.kinds, self.language)

    def writer(self, *, live: bool = False) -> LexicalWriter:
        """The one writer there may be at a time; a `live` one takes little memory."""
        heap = _LIVE_HEAP_BYTES if live else _HEAP_BYTES
        return LexicalWriter(self._index.writer(heap, 1), self.kinds)

    def stems(self, text: str) -> list[str]:
        """The words of `text` as the index holds them, in order."""
        return self._analyzer.analyze(_readable(text))

    def ask(self, text: str, boosts: Boosts, expansions: Expansions = ()) -> Asked:
        """`text` as a query: any of its words, in any field with a boost above 0.

        A phrase that an expansion names may be met by any of its alternatives instead, whichever scores best.
        """
        counts = Counter(self.stems(text))
        replaced, queries = set[str](), []
        for phrase, alternatives in expansions:
            stems = self.stems(phrase)
            if stems and set(stems) <= counts.keys():
                replaced |= set(stems)
                either = [self.stems(alternative) for alternative in alternatives]
                queries.append(self._either([stems, *filter(None, either)], boosts))
        kept = dict(counts.most_common(MAX_WORDS)) if len(counts) > MAX_WORDS else counts
        queries += [self._word(word, float(n), boosts) for word, n in kept.items() if word not in replaced]
        if not queries:
            return Asked(None, 0.0)
        most = sum(n * self._weight(word, boosts) for word, n in kept.items())
        return Asked(Query.boolean_query([(Occur.Should, query) for query in queries]), most)

    def search(self, asked: Asked, k: int, only: Filter | None = None) -> Matches:
        """The `k` best items of those that `only` lets through."""
        if asked.query is None or len(self) == 0:
            return Matches(np.empty(0, np.int64), np.empty(0, np.float32), True)
        query = asked.query if only is None else _both(asked.query, self.filter_query(only))
        return self._found(query, k)

    def scores(self, asked: Asked, rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
        """The score of each of `rows` (distinct), 0 for those without any of the words."""
        scores = np.zeros(len(rows), np.float32)
        if asked.query is None or len(rows) == 0:
            return scores
        these = [(Occur.Should, Query.term_query(self._index.schema, "row", row, "basic")) for row in rows.tolist()]
        found = self._found(_both(asked.query, Query.boolean_query(these)), len(rows))
        order = np.argsort(rows)
        scores[order[np.searchsorted(rows, found.rows, sorter=order)]] = found.scores
        return scores

    def holds(self, phrases: Phrases, rows: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Which of `rows` (distinct) hold every one of `phrases` in title or brand."""
        these = Query.const_score_query(self._phrases(phrases), 1.0)
        return self.scores(Asked(these, 1.0), rows) > 0

    def holding(self, phrases: Phrases, asked: Asked, k: int, only: Filter | None = None) -> Matches:
        """The `k` best items for `asked` among those that hold every one of `phrases` in title or brand."""
        assert asked.query is not None
        return self.search(Asked(_both(asked.query, self._phrases(phrases)), asked.most), k, only)

    def filter_query(self, said: Filter) -> Query:
        """`said` as a query that matches the items it lets through."""
        if isinstance(said, OneOf):
            field = _field(self.kinds, said.column)
            terms = [_term(value) for value in said.values]
            return Query.term_set_query(self._index.schema, field, terms) if terms else Query.empty_query()
        if isinstance(said, Between):
            return self._between(said)
        if isinstance(said, Not):
            return Query.boolean_query([(Occur.Must, Query.all_query()), (Occur.MustNot, self.filter_query(said.part))])
        if not said.parts:
            return Query.all_query() if isinstance(said, And) else Query.empty_query()
        occur = Occur.Must if isinstance(said, And) else Occur.Should
        return Query.boolean_query([(occur, self.filter_query(part)) for part in said.parts])

    def _between(self, said: Between) -> Query:
        low = -math.inf if said.low is None else said.low
        high = math.inf if said.high is None else said.high
        number = tantivy.FieldType.Float
        return Query.range_query(self._index.schema, _field(self.kinds, said.column), number, low, high)

    def _found(self, query: Query, k: int) -> Matches:
        hits = self._searcher.search(query, k, count=False).hits
        rows = self._searcher.fast_field_values("row", [address for _, address in hits])
        scores = np.fromiter((score for score, _ in hits), np.float32, len(hits))
        return Matches(np.array(rows, np.int64).reshape(len(hits)), scores, len(hits) < k)

    def _word(self, word: str, times: float, boosts: Boosts) -> Query:
        schema = self._index.schema
        parts = [
            (Occur.Should, Query.boost_query(Query.term_query(schema, field, word, "freq"), times * boost))
            for field, boost in boosts.items()
            if boost > 0
        ]
        return Query.boolean_query(parts)

    def _either(self, phrases: Sequence[Sequence[str]], boosts: Boosts) -> Query:
        """The best of `phrases`, each as all of its words."""
        whole = [
            Query.boolean_query([(Occur.Must, self._word(word, 1.0, boosts)) for word in phrase]) for phrase in phrases
        ]
        return Query.disjunction_max_query(whole)

    def _phrases(self, phrases: Phrases) -> Query:
        return Query.boolean_query([(Occur.Must, self._in_title_or_brand(phrase)) for phrase in phrases])

    def _in_title_or_brand(self, phrase: Sequence[str]) -> Query:
        schema, stems = self._index.schema, self.stems(" ".join(phrase))
        if len(stems) == 1:
            either = [Query.term_query(schema, field, stems[0], "basic") for field in ("title", "brand")]
        else:
            either = [Query.phrase_query(schema, field, [*stems]) for field in ("title", "brand")]
        return Query.boolean_query([(Occur.Should, one) for one in either])

    def _weight(self, word: str, boosts: Boosts) -> float:
        n = len(self)
        return max(
            boost * _K1_PLUS_1 * math.log1p((n - df + 0.5) / (df + 0.5))
            for field, boost in boosts.items()
            for df in (min(n, self._searcher.doc_freq(field, word)),)
        )


@final
class LexicalWriter:
    """Adds and removes items; nothing is seen before `commit`, which is all or nothing."""

    def __init__(self, writer: tantivy.IndexWriter, kinds: Mapping[str, Kind]) -> None:
        self._writer = writer
        self._kinds = dict(kinds)

    def add(
        self,
        rows: Int64[np.ndarray, " n"],
        items: pa.Table,
        attributes: Sequence[str],
        progress: Progress | None = None,
    ) -> None:
        """Takes in `items` under their `rows`; `attributes` names the columns of the field of that name."""
        for done, document in enumerate(_documents(rows, items, self._kinds, attributes)):
            self._writer.add_document(document)
            if progress is not None and done % _SAY_EVERY == 0:
                progress("words indexed", done, len(rows))

    def remove(self, rows: Int64[np.ndarray, " n"]) -> None:
        """Drops the items at `rows`, whichever are held."""
        for row in rows.tolist():
            self._writer.delete_documents_by_term("row", row)

    def commit(self) -> None:
        """Makes all that was added and removed since the last commit visible to an index that is then refreshed."""
        self._writer.commit()

    def close(self) -> None:
        """Waits for the library's own merging and gives the index free for another writer."""
        self._writer.wait_merging_threads()


def _documents(
    rows: Int64[np.ndarray, " n"], items: pa.Table, kinds: Mapping[str, Kind], attributes: Sequence[str]
) -> Iterator[tantivy.Document]:
    told = {
        "title": _texts(items, ["title"]),
        "brand": _texts(items, ["brand"]),
        "category": _texts(items, ["category"]),
        "attributes": _texts(items, attributes),
    }
    columns = {name: items[name].to_pylist() if name in items.column_names else None for name in kinds}
    for place, row in enumerate(rows.tolist()):
        document = tantivy.Document()
        document.add_integer("row", row)
        for field, texts in told.items():
            if texts[place]:
                document.add_text(field, _readable(texts[place]))
        for name, kind in kinds.items():
            values = columns[name]
            if values is not None and values[place] is not None:
                _add_value(document, _field(kinds, name), kind, values[place])
        yield document


def _add_value(document: tantivy.Document, field: str, kind: Kind, value: object) -> None:
    if kind is Kind.NUMBER:
        assert isinstance(value, (int, float))
        if not math.isnan(value):
            document.add_float(field, float(value))
        return
    if kind is Kind.PATH:
        for path in paths_above(path_of(str(value))):
            document.add_text(field, path)
    elif text := (_term(value) if kind is Kind.FLAG else comparable(str(value))):
        document.add_text(field, text)


def _texts(items: pa.Table, columns: Sequence[str]) -> list[str]:
    parts = [pc.fill_null(pc.cast(items[c], pa.string()), "") for c in columns if c in items.column_names]
    joined: list[str] = pc.binary_join_element_wise(*parts, " ").to_pylist() if parts else [""] * len(items)
    return joined


def _readable(text: str) -> str:
    """`text` as words that the analyzer only has to split at spaces and stem: the same words everywhere in mmse."""
    return " ".join(words(text[:MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")))


def _term(value: str | bool | object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _field(kinds: Mapping[str, Kind], column: str) -> str:
    """The index's name of a filterable column: a shop's own may hold any character."""
    return f"column{list(kinds).index(column)}"


def _both(query: Query, only: Query) -> Query:
    return Query.boolean_query([(Occur.Must, Query.const_score_query(only, 0.0)), (Occur.Must, query)])


def _schema(kinds: Mapping[str, Kind]) -> tantivy.Schema:
    schema = tantivy.SchemaBuilder()
    schema.add_integer_field("row", indexed=True, fast=True)
    for field in FIELDS:
        schema.add_text_field(field, tokenizer_name="words", index_option="position")
    for column, kind in kinds.items():
        if kind is Kind.NUMBER:
            schema.add_float_field(_field(kinds, column), indexed=True, fast=True)
        else:
            schema.add_text_field(_field(kinds, column), tokenizer_name="raw", index_option="basic")
    return schema.build()


def _analyzer(language: str) -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace())
    if language != "none":
        builder = builder.filter(tantivy.Filter.stemmer(language))
    return builder.build()
