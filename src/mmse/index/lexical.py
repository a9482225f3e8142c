"""The lexical channel: exact words by BM25, in a Tantivy index of the same items, with the same rows and filters.

A document is one item row: its title, brand, category and attributes as stemmed words, and its filterable columns.
BM25 is Lucene's (Robertson and Zaragoza, *The Probabilistic Relevance Framework*, 2009) with Tantivy's k1 1.2 and
b 0.75; the scores of the fields are added with the fields' boosts as weights.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import tantivy
from jaxtyping import Bool, Float32, Float64, Int64
from tantivy import Occur, Query

from mmse.core.errors import ArtifactError
from mmse.core.json_files import parse_json
from mmse.core.scratch import LinkFolder
from mmse.index import forward_index
from mmse.index.base import NO_MATCHES, Matches, damage_error
from mmse.index.documents import (
    CODE_FIELD,
    ForwardWriter,
    LexicalWriter,
    field_name,
    format_term,
    prepare_text,
    stem_item_word,
)
from mmse.index.forward_index import K1, ForwardDraft, WeightedWord, hash_word
from mmse.index.languages import make_analyzer, make_stop_filter
from mmse.index.row_scores import FIELDS, RowWords, rarity
from mmse.schema.filters import And, Between, Filter, Kind, Not, OneOf
from mmse.text.codes import MAX_CODE, code_key, codes, unpadded_form

__all__ = ["FIELDS", "Boosts", "Expansions", "LexicalIndex", "LexicalQuery", "Matches", "Phrases"]

METADATA = "lexical.json"
_LOCK_FILE = ".tantivy-meta.lock"
"""The library makes this file before it reads."""
PHRASE_FIELDS = ("title", "brand")
MAX_WORDS = 32
"""How many distinct words of a query are looked up; more of them only take time."""

Boosts = Mapping[str, float]
Expansions = Sequence[tuple[str, Sequence[str]]]
"""Phrases of the query, each with the phrases that may replace it."""

Phrases = Sequence[Sequence[str]]
"""Runs of words, each with at least one."""
MIN_ID = 3
MAX_QUERY = 60
"""Characters of a query that may be a code."""


class CodeMatch(NamedTuple):
    """Rows with a code, sorted; `is_prefix` if their codes only begin with it."""

    rows: Int64[np.ndarray, " m"]
    is_prefix: bool


@dataclass(frozen=True)
class LexicalQuery:
    """A query in the index's own terms; `max_score` is a scale for its scores, more than an item reaches.

    `max_score` is the sum, over words, of the highest score in any field; a word is rarest in a field that lacks it.
    Alternatives of a phrase (`Expansions`) are not included and may score higher.

    `tantivy_query` is None where the text has no word. `words` are the terms that the score is the sum of, None where
    the score is not a plain sum.
    """

    tantivy_query: Query | None
    max_score: float
    words: tuple[WeightedWord, ...] | None = None


@dataclass(frozen=True)
class _QueryWord:
    """A word of a query: its terms in all fields, its weights in the fields, and its part of `max_score`."""

    terms: list[tuple[Occur, Query]]
    weights: list[WeightedWord]
    max_score: float


@final
class LexicalIndex:
    """The index in the state in which it was opened; `refresh` gives the newest state."""

    def __init__(
        self,
        index: tantivy.Index,
        folder: Path,
        kinds: Mapping[str, Kind],
        language: str,
        row_words: RowWords | None = None,
        links: LinkFolder | None = None,
    ) -> None:
        """`row_words` has the current words of some rows; `links` is where the library reads, if not in `folder`."""
        self._links = links
        self.kinds, self.language = dict(kinds), language
        self._index, self._folder = index, folder
        self._analyzer, self._stop_filter = make_analyzer(language), make_stop_filter(language)
        index.register_tokenizer("words", self._analyzer)
        index.reload()
        self._searcher = index.searcher()
        self._row_words = None if row_words is None else row_words.read_statistics(index.schema, self._searcher)

    def __len__(self) -> int:
        return int(self._searcher.num_docs)

    @classmethod
    def create(cls, folder: Path, kinds: Mapping[str, Kind], language: str) -> LexicalIndex:
        """An empty index in `folder`, which exists, over the filterable columns `kinds`.

        `language` names one or several of `LANGUAGES`, separated by commas, for the stemmer (`none`: no stemming).
        """
        metadata = {"kinds": {name: kind.value for name, kind in kinds.items()}, "language": language}
        (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", "utf-8")
        return cls(tantivy.Index(_make_schema(kinds), str(folder)), folder, kinds, language)

    @classmethod
    def open(cls, folder: Path) -> LexicalIndex:
        """The index in `folder`, which need not be writable; raises `ArtifactError` where it is missing or damaged."""
        try:
            metadata = parse_json((folder / METADATA).read_text("utf-8"))
            kinds = {name: Kind(kind) for name, kind in metadata["kinds"].items()}
            links = None if _takes_locks(folder) else LinkFolder(folder)
            index = tantivy.Index.open(str(links.path if links else folder))
            return cls(index, folder, kinds, metadata["language"], RowWords.open(folder), links)
        except FileNotFoundError as error:
            raise ArtifactError(f"{folder} holds no lexical index.", "Build it: mmse index --help.") from error
        except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
            raise damage_error(folder / METADATA, error) from error

    def refresh(self) -> LexicalIndex:
        """The same index with everything committed since it was opened."""
        return LexicalIndex(self._index, self._folder, self.kinds, self.language, self._row_words, self._links)

    @property
    def scores_rows_fast(self) -> bool:
        """Whether the score of any single row is cheap."""
        return self._row_words is not None

    @property
    def mean_lengths(self) -> Float64[np.ndarray, " fields"] | None:
        """The mean length of each of `FIELDS`, as BM25 has it; None where the score of a row is not cheap."""
        return None if self._row_words is None else self._row_words.mean_lengths

    def writer(self, *, live: bool = False) -> LexicalWriter:
        """A writer, of which there may be one at a time; a `live` one takes little memory.

        This removes the forward index from the folder, since it becomes out of date. A writer that is not live writes a
        new one. An index that has the former one open continues to use it, except for rows that change.
        """
        forward_index.remove_files(self._folder)
        forward = None
        if not live and (len(self) == 0 or (self._row_words is not None and self._row_words.is_complete)):
            draft = ForwardDraft(self._row_words.forward if self._row_words else None, len(FIELDS))
            forward = ForwardWriter(draft, self._folder, self._analyzer)
        return LexicalWriter(self._index, self.kinds, live=live, row_words=self._row_words, forward=forward)

    def stems(self, text: str) -> list[str]:
        """The stems of the words of `text`, in order."""
        return self._analyzer.analyze(prepare_text(text))

    def item_stems(self, word: str) -> frozenset[str]:
        """The stems of a word of an item, kept for the next time. Those of a query are not: it is nobody's to keep."""
        return stem_item_word(self.language, word)

    def has_word(self, word: str) -> bool:
        """Whether an item has `word`, in any form."""
        return any(self._searcher.doc_freq(field, stem) for stem in self.stems(word) for field in FIELDS)

    def content_words(self, text: str) -> list[str]:
        """The words of `text`, which is normalised, that say something: not `for`, `the` and the like."""
        return list(self._stop_filter.analyze(text))

    def is_content(self, word: str) -> bool:
        """Whether `word` says something."""
        return bool(self.content_words(word))

    def parse(self, text: str, boosts: Boosts, expansions: Expansions = ()) -> LexicalQuery:
        """`text` as a query: any of its words, in any field with a boost above 0.

        A phrase that an expansion names may be replaced by any of its alternatives; the best score counts.
        """
        counts = Counter(self.stems(text))
        expanded_stems, queries = set[str](), []
        for phrase, alternatives in expansions:
            stems = self.stems(phrase)
            if stems and set(stems) <= counts.keys():
                expanded_stems |= set(stems)
                stems_of_alternatives = [self.stems(alternative) for alternative in alternatives]
                queries.append(self._any_phrase_query([stems, *filter(None, stems_of_alternatives)], boosts))
        stem_counts = dict(counts.most_common(MAX_WORDS)) if len(counts) > MAX_WORDS else counts
        if not queries and not stem_counts:
            return LexicalQuery(None, 0.0)
        query_words = [self._make_word(word, float(n), boosts) for word, n in stem_counts.items()]
        plain_words = [word for stem, word in zip(stem_counts, query_words, strict=True) if stem not in expanded_stems]
        # One flat list of terms, since for that Tantivy skips rows that cannot be among the best.
        terms = [(Occur.Should, query) for query in queries] + [term for word in plain_words for term in word.terms]
        max_score = sum(word.max_score for word in query_words)
        is_sum = not queries and self._row_words is not None
        words = tuple(weight for word in plain_words for weight in word.weights) if is_sum else None
        return LexicalQuery(Query.boolean_query(terms), max_score, words)

    def search(self, query: LexicalQuery, k: int, filter: Filter | None = None) -> Matches:
        """The `k` best items that pass `filter`."""
        tantivy_query = query.tantivy_query
        if tantivy_query is None or len(self) == 0:
            return NO_MATCHES
        if filter is not None:
            tantivy_query = _restrict(tantivy_query, self.make_filter_query(filter))
        return self._run_query(tantivy_query, k)

    def score_rows(self, query: LexicalQuery, rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
        """The score of each of `rows` (distinct), 0 for those without any of the words."""
        scores = np.zeros(len(rows), np.float32)
        if query.tantivy_query is None or len(rows) == 0:
            return scores
        has_words = self._covers(rows) if query.words is not None else np.zeros(len(rows), bool)
        if has_words.any():
            assert self._row_words is not None
            assert query.words is not None
            scores[has_words] = self._row_words.forward.score(
                query.words, rows[has_words], self._row_words.mean_lengths
            )
        if not has_words.all():
            scores[~has_words] = self._score_by_search(query.tantivy_query, rows[~has_words])
        return scores

    def find_codes(self, query: str, k: int, filter: Filter | None = None) -> CodeMatch | None:
        """At most `k` rows with the code that `query` is, or else with a code that begins so.

        A number finds codes with zeros before it, too. None where `query` is no code: several words are one only where
        an item has it.
        """
        key, is_code = code_key(query), len(query.split()) == 1 and code_key(query) in codes(query)
        if not any(map(str.isdigit, key)) or len(key) > MAX_CODE or len(query) > MAX_QUERY:
            return None
        exact_keys = [key] if len(key) >= MIN_ID else []
        exact_keys += [unpadded_form(key)] if key.isdigit() else []
        patterns = [(Query.term_query(self._index.schema, CODE_FIELD, exact, "basic"), False) for exact in exact_keys]
        if is_code:
            patterns.insert(1, (Query.regex_query(self._index.schema, CODE_FIELD, f"{key}.*"), True))
        for pattern, is_prefix in patterns:
            condition = pattern if filter is None else _restrict(pattern, self.make_filter_query(filter))
            rows = np.sort(self._run_query(condition, k).rows)
            if len(rows):
                return CodeMatch(rows, is_prefix)
        return CodeMatch(NO_MATCHES.rows, False) if is_code else None

    def match_phrases(self, phrases: Phrases, rows: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Which of `rows` (distinct) contain every one of `phrases` in title or brand."""
        holds, has_words = np.zeros(len(rows), bool), self._covers(rows)
        if has_words.any():
            assert self._row_words is not None
            stems = [self.stems(" ".join(phrase)) for phrase in phrases]
            runs = [[[hash_word(field, stem) for stem in run] for field in PHRASE_FIELDS] for run in stems]
            holds[has_words] = self._row_words.forward.contain_phrases(runs, rows[has_words])
        if len(rows) and not has_words.all():
            phrase_query = Query.const_score_query(self._all_phrases_query(phrases), 1.0)
            holds[~has_words] = self._score_by_search(phrase_query, rows[~has_words]) > 0
        return holds

    def search_phrases(self, phrases: Phrases, query: LexicalQuery, k: int, filter: Filter | None = None) -> Matches:
        """The `k` best items for `query` among those that contain every one of `phrases` in title or brand."""
        assert query.tantivy_query is not None
        return self.search(
            LexicalQuery(_restrict(query.tantivy_query, self._all_phrases_query(phrases)), query.max_score), k, filter
        )

    def make_filter_query(self, condition: Filter) -> Query:
        """A query that matches the items that pass `condition`."""
        if isinstance(condition, OneOf):
            field = field_name(self.kinds, condition.column)
            terms = [format_term(value) for value in condition.values]
            return Query.term_set_query(self._index.schema, field, terms) if terms else Query.empty_query()
        if isinstance(condition, Between):
            return self._range_query(condition)
        if isinstance(condition, Not):
            return Query.boolean_query(
                [(Occur.Must, Query.all_query()), (Occur.MustNot, self.make_filter_query(condition.part))]
            )
        if not condition.parts:
            return Query.all_query() if isinstance(condition, And) else Query.empty_query()
        occur = Occur.Must if isinstance(condition, And) else Occur.Should
        return Query.boolean_query([(occur, self.make_filter_query(part)) for part in condition.parts])

    def _range_query(self, condition: Between) -> Query:
        low = -math.inf if condition.low is None else condition.low
        high = math.inf if condition.high is None else condition.high
        number = tantivy.FieldType.Float
        return Query.range_query(self._index.schema, field_name(self.kinds, condition.column), number, low, high)

    def _run_query(self, query: Query, k: int) -> Matches:
        hits = self._searcher.search(query, k, count=False).hits
        rows = self._searcher.fast_field_values("row", [address for _, address in hits])
        scores = np.fromiter((score for score, _ in hits), np.float32, len(hits))
        return Matches(np.array(rows, np.int64).reshape(len(hits)), scores, len(hits) < k)

    def _score_by_search(self, query: Query, rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
        """The score of each of `rows` (distinct), by a search among them."""
        row_terms = [(Occur.Should, Query.term_query(self._index.schema, "row", row, "basic")) for row in rows.tolist()]
        matches = self._run_query(_restrict(query, Query.boolean_query(row_terms)), len(rows))
        scores, order = np.zeros(len(rows), np.float32), np.argsort(rows)
        scores[order[np.searchsorted(rows, matches.rows, sorter=order)]] = matches.scores
        return scores

    def _covers(self, rows: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """The rows whose words are in the forward index."""
        return np.zeros(len(rows), bool) if self._row_words is None else self._row_words.covers(rows)

    def _make_word(self, word: str, times: float, boosts: Boosts) -> _QueryWord:
        n, terms, weights, max_score = len(self), [], [], 0.0
        for field, boost in boosts.items():
            frequency = self._searcher.doc_freq(field, word)
            n_without = max(n - frequency, 0)
            surprise = math.log1p((n_without + 0.5) / (n - n_without + 0.5))  # BM25's weight of the word
            max_score = max(max_score, times * boost * (K1 + 1) * surprise)
            if boost > 0:
                term = Query.term_query(self._index.schema, field, word, "freq")
                terms.append((Occur.Should, Query.boost_query(term, times * boost)))
                if self._row_words is not None:
                    weight = times * boost * (K1 + 1) * rarity(self._row_words.documents, frequency)
                    weights.append(WeightedWord(hash_word(field, word), FIELDS.index(field), weight))
        return _QueryWord(terms, weights, max_score)

    def _any_phrase_query(self, phrases: Sequence[Sequence[str]], boosts: Boosts) -> Query:
        """A query that scores the best of `phrases`; an item must have all words of a phrase."""

        def phrase_query(phrase: Sequence[str]) -> Query:
            words = [Query.boolean_query(self._make_word(word, 1.0, boosts).terms) for word in phrase]
            return Query.boolean_query([(Occur.Must, word) for word in words])

        return Query.disjunction_max_query([phrase_query(phrase) for phrase in phrases])

    def _all_phrases_query(self, phrases: Phrases) -> Query:
        return Query.boolean_query([(Occur.Must, self._phrase_query(phrase)) for phrase in phrases])

    def _phrase_query(self, phrase: Sequence[str]) -> Query:
        schema, stems = self._index.schema, self.stems(" ".join(phrase))
        if len(stems) == 1:
            queries = [Query.term_query(schema, field, stems[0], "basic") for field in PHRASE_FIELDS]
        else:
            queries = [Query.phrase_query(schema, field, [*stems]) for field in PHRASE_FIELDS]
        return Query.boolean_query([(Occur.Should, query) for query in queries])


def _restrict(query: Query, condition: Query) -> Query:
    return Query.boolean_query([(Occur.Must, Query.const_score_query(condition, 0.0)), (Occur.Must, query)])


def _make_schema(kinds: Mapping[str, Kind]) -> tantivy.Schema:
    schema = tantivy.SchemaBuilder()
    schema.add_integer_field("row", indexed=True, fast=True)
    for field in FIELDS:
        schema.add_text_field(field, tokenizer_name="words", index_option="position")
    schema.add_text_field(CODE_FIELD, tokenizer_name="raw", index_option="basic")
    for column, kind in kinds.items():
        if kind is Kind.NUMBER:
            schema.add_float_field(field_name(kinds, column), indexed=True, fast=True)
        else:
            schema.add_text_field(field_name(kinds, column), tokenizer_name="raw", index_option="basic")
    return schema.build()


def _takes_locks(folder: Path) -> bool:
    """Whether the library can make its lock file in `folder`: on a read-only or a full disk it cannot."""
    try:
        os.close(os.open(folder / _LOCK_FILE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    except OSError:
        return False
    return True
