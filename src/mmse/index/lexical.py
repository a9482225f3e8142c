"""The lexical channel: exact words by BM25, in a Tantivy index of the same items, by the same rows and filters.

A document is one item row: its title, brand, category and attributes as stemmed words, and its filterable columns.
BM25 is Lucene's (Robertson and Zaragoza, *The Probabilistic Relevance Framework*, 2009) with Tantivy's k1 1.2 and
b 0.75, a score a field, added up with the fields' boosts.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import tantivy
from jaxtyping import Bool, Float32, Int64
from tantivy import Occur, Query

from mmse.core.errors import ArtifactError
from mmse.index import forward_index as forward
from mmse.index.base import damaged
from mmse.index.documents import LexicalWriter, Words, field_of, readable, term_of
from mmse.index.forward_index import K1, ForwardDraft, Weighed, hashed
from mmse.index.row_scores import FIELDS, Rows, rarity
from mmse.schema.filters import And, Between, Filter, Kind, Not, OneOf

__all__ = ["FIELDS", "Asked", "Boosts", "Expansions", "LexicalIndex", "Matches", "Phrases"]

ABOUT = "lexical.json"
NAMED_IN = ("title", "brand")
MAX_WORDS = 32
"""Different words of a query that are looked up; the rest of a longer one adds nothing to BM25 but time."""

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

    `query` is None where the text has no word; `words` is what it adds up, None where it is more than a sum.
    """

    query: Query | None
    most: float
    words: tuple[Weighed, ...] | None = None


@dataclass(frozen=True)
class Matches:
    """Item rows with their BM25 score, best first; `complete` where no other item has any of the words."""

    rows: Int64[np.ndarray, " m"]
    scores: Float32[np.ndarray, " m"]
    complete: bool


@dataclass(frozen=True)
class _Word:
    """A word of a query as terms of all fields, the same as weights of fields, and what it adds to the scale."""

    terms: list[tuple[Occur, Query]]
    weighed: list[Weighed]
    most: float


@final
class LexicalIndex:
    """The index as it stood when it was opened or last refreshed."""

    def __init__(
        self, index: tantivy.Index, folder: Path, kinds: Mapping[str, Kind], language: str, rows: Rows | None = None
    ) -> None:
        """`rows` has the words of some rows as they are now."""
        self.kinds, self.language = dict(kinds), language
        self._index, self._folder = index, folder
        self._analyzer = _analyzer(language)
        index.register_tokenizer("words", self._analyzer)
        index.reload()
        self._searcher = index.searcher()
        self._rows = None if rows is None else rows.counted(index.schema, self._searcher)

    def __len__(self) -> int:
        return int(self._searcher.num_docs)

    @classmethod
    def create(cls, folder: Path, kinds: Mapping[str, Kind], language: str) -> LexicalIndex:
        """An empty index in `folder`, which exists, over the filterable columns `kinds`.

        `language` is one of `LANGUAGES`, for the stemmer (`none`: no stemming).
        """
        about = {"kinds": {name: kind.value for name, kind in kinds.items()}, "language": language}
        (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", "utf-8")
        return cls(tantivy.Index(_schema(kinds), str(folder)), folder, kinds, language)

    @classmethod
    def open(cls, folder: Path) -> LexicalIndex:
        """The index in `folder`; raises `ArtifactError` where it is missing or damaged."""
        try:
            about = json.loads((folder / ABOUT).read_text("utf-8"))
            kinds = {name: Kind(kind) for name, kind in about["kinds"].items()}
            return cls(tantivy.Index.open(str(folder)), folder, kinds, about["language"], Rows.open(folder))
        except FileNotFoundError as error:
            raise ArtifactError(f"{folder} holds no lexical index.", "Build it: mmse index --help.") from error
        except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
            raise damaged(folder / ABOUT, error) from error

    def refreshed(self) -> LexicalIndex:
        """The same index with all that was committed since."""
        return LexicalIndex(self._index, self._folder, self.kinds, self.language, self._rows)

    @property
    def scores_rows(self) -> bool:
        """Whether the score of a row, wherever it lies, costs little."""
        return self._rows is not None

    def writer(self, *, live: bool = False) -> LexicalWriter:
        """The one writer there may be at a time; a `live` one takes little memory.

        The words row by row leave the folder, since they are out of date from here on. A writer that is not live puts
        new ones in their place; an index that has them open goes on without the rows that change.
        """
        forward.remove(self._folder)
        words = None
        if not live and (len(self) == 0 or (self._rows is not None and self._rows.whole)):
            draft = ForwardDraft(self._rows.forward if self._rows else None, len(FIELDS))
            words = Words(draft, self._folder, self._analyzer)
        return LexicalWriter(self._index, self.kinds, live=live, rows=self._rows, words=words)

    def stems(self, text: str) -> list[str]:
        """The words of `text` as the index holds them, in order."""
        return self._analyzer.analyze(readable(text))

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
        if not queries and not kept:
            return Asked(None, 0.0)
        alone = [self._word(word, float(n), boosts) for word, n in kept.items()]
        added = [part for word, part in zip(kept, alone, strict=True) if word not in replaced]
        # One level of words, which Tantivy searches without looking at rows that cannot be among the best.
        flat = [(Occur.Should, query) for query in queries] + [term for part in added for term in part.terms]
        most = sum(part.most for part in alone)
        summed = not queries and self._rows is not None
        words = tuple(weighed for part in added for weighed in part.weighed) if summed else None
        return Asked(Query.boolean_query(flat), most, words)

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
        held = self._held(rows) if asked.words is not None else np.zeros(len(rows), bool)
        if held.any():
            assert self._rows is not None
            assert asked.words is not None
            scores[held] = self._rows.forward.scores(asked.words, rows[held], self._rows.mean_lengths)
        if not held.all():
            scores[~held] = self._searched(asked.query, rows[~held])
        return scores

    def holds(self, phrases: Phrases, rows: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Which of `rows` (distinct) hold every one of `phrases` in title or brand."""
        holds, held = np.zeros(len(rows), bool), self._held(rows)
        if held.any():
            assert self._rows is not None
            stems = [self.stems(" ".join(phrase)) for phrase in phrases]
            runs = [[[hashed(field, stem) for stem in run] for field in NAMED_IN] for run in stems]
            holds[held] = self._rows.forward.holds(runs, rows[held])
        if len(rows) and not held.all():
            these = Query.const_score_query(self._phrases(phrases), 1.0)
            holds[~held] = self._searched(these, rows[~held]) > 0
        return holds

    def holding(self, phrases: Phrases, asked: Asked, k: int, only: Filter | None = None) -> Matches:
        """The `k` best items for `asked` among those that hold every one of `phrases` in title or brand."""
        assert asked.query is not None
        return self.search(Asked(_both(asked.query, self._phrases(phrases)), asked.most), k, only)

    def filter_query(self, said: Filter) -> Query:
        """`said` as a query that matches the items it lets through."""
        if isinstance(said, OneOf):
            field = field_of(self.kinds, said.column)
            terms = [term_of(value) for value in said.values]
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
        return Query.range_query(self._index.schema, field_of(self.kinds, said.column), number, low, high)

    def _found(self, query: Query, k: int) -> Matches:
        hits = self._searcher.search(query, k, count=False).hits
        rows = self._searcher.fast_field_values("row", [address for _, address in hits])
        scores = np.fromiter((score for score, _ in hits), np.float32, len(hits))
        return Matches(np.array(rows, np.int64).reshape(len(hits)), scores, len(hits) < k)

    def _searched(self, query: Query, rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
        """What `query` scores each of `rows` (distinct) with, by a search among them."""
        these = [(Occur.Should, Query.term_query(self._index.schema, "row", row, "basic")) for row in rows.tolist()]
        found = self._found(_both(query, Query.boolean_query(these)), len(rows))
        scores, order = np.zeros(len(rows), np.float32), np.argsort(rows)
        scores[order[np.searchsorted(rows, found.rows, sorter=order)]] = found.scores
        return scores

    def _held(self, rows: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Of which rows the words are held row by row."""
        return np.zeros(len(rows), bool) if self._rows is None else self._rows.held(rows)

    def _word(self, word: str, times: float, boosts: Boosts) -> _Word:
        n, terms, weighed, most = len(self), [], [], 0.0
        for field, boost in boosts.items():
            frequency = self._searcher.doc_freq(field, word)
            most = max(most, times * boost * (K1 + 1) * _surprise(n, min(n, frequency)))
            if boost > 0:
                term = Query.term_query(self._index.schema, field, word, "freq")
                terms.append((Occur.Should, Query.boost_query(term, times * boost)))
                if self._rows is not None:
                    weight = times * boost * (K1 + 1) * rarity(self._rows.documents, frequency)
                    weighed.append(Weighed(hashed(field, word), FIELDS.index(field), weight))
        return _Word(terms, weighed, most)

    def _either(self, phrases: Sequence[Sequence[str]], boosts: Boosts) -> Query:
        """The best of `phrases`, each as all of its words."""

        def whole(phrase: Sequence[str]) -> Query:
            words = [Query.boolean_query(self._word(word, 1.0, boosts).terms) for word in phrase]
            return Query.boolean_query([(Occur.Must, word) for word in words])

        return Query.disjunction_max_query([whole(phrase) for phrase in phrases])

    def _phrases(self, phrases: Phrases) -> Query:
        return Query.boolean_query([(Occur.Must, self._in_title_or_brand(phrase)) for phrase in phrases])

    def _in_title_or_brand(self, phrase: Sequence[str]) -> Query:
        schema, stems = self._index.schema, self.stems(" ".join(phrase))
        if len(stems) == 1:
            either = [Query.term_query(schema, field, stems[0], "basic") for field in NAMED_IN]
        else:
            either = [Query.phrase_query(schema, field, [*stems]) for field in NAMED_IN]
        return Query.boolean_query([(Occur.Should, one) for one in either])


def _surprise(n: int, frequency: int) -> float:
    """BM25's weight of a word that so many of `n` items hold."""
    return math.log1p((n - frequency + 0.5) / (frequency + 0.5))


def _both(query: Query, only: Query) -> Query:
    return Query.boolean_query([(Occur.Must, Query.const_score_query(only, 0.0)), (Occur.Must, query)])


def _schema(kinds: Mapping[str, Kind]) -> tantivy.Schema:
    schema = tantivy.SchemaBuilder()
    schema.add_integer_field("row", indexed=True, fast=True)
    for field in FIELDS:
        schema.add_text_field(field, tokenizer_name="words", index_option="position")
    for column, kind in kinds.items():
        if kind is Kind.NUMBER:
            schema.add_float_field(field_of(kinds, column), indexed=True, fast=True)
        else:
            schema.add_text_field(field_of(kinds, column), tokenizer_name="raw", index_option="basic")
    return schema.build()


def _analyzer(language: str) -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace())
    if language != "none":
        builder = builder.filter(tantivy.Filter.stemmer(language))
    return builder.build()
