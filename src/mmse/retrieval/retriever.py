"""The query path: a query and its shopper in, hits out. Evaluation, the command line and HTTP all use it."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, Int64

from mmse.catalogue.base import open_run_base
from mmse.catalogue.generation import base_snapshot
from mmse.catalogue.live_catalogue import LiveCatalogue
from mmse.catalogue.snapshot import Snapshot
from mmse.core.errors import MmseError, UsageError
from mmse.core.run_folder import SEARCH, RunFolder
from mmse.dataset.history import History
from mmse.dataset.serving_data import open_histories, read_popular_queries
from mmse.index.base import Matches
from mmse.index.embedding import SHOPPER, open_array
from mmse.index.facets import count_values
from mmse.index.helper_thread import HelperThread
from mmse.index.lexical import LexicalIndex
from mmse.index.speller import Speller
from mmse.index.step import SPELLING
from mmse.model.encoder import Encoder
from mmse.model.inputs import look_up_traits
from mmse.model.query_cache import Lookups, QueryCache, QueryKey
from mmse.ranking.calibration import NO_PROBABILITIES
from mmse.ranking.candidates import FIRST_BLOCK
from mmse.ranking.rulebook import Rulebook
from mmse.ranking.rules import RuleEffects, Rules
from mmse.ranking.step import Ranking
from mmse.retrieval.channel_rankings import CalibratedHits, ChannelRankings
from mmse.retrieval.explain import build_hits, notes_of
from mmse.retrieval.interpretation import QueryInterpreter
from mmse.retrieval.query_context import QueryContext, search_vectors
from mmse.retrieval.rank import RankedBlock, page, rank
from mmse.schema.filters import Filter, Kind
from mmse.schema.search import Answer, Channel, Hit, Search
from mmse.text.normalise import normalise

_LATEST = np.iinfo(np.int64).max
_MATCH_CACHE_SIZE = 4_000
"""For so many different queries `search_channels` keeps the lexical matches."""
VECTOR_BATCH = 16
"""How many queries one Faiss search has: from 20 on it rounds differently than for a single query."""
ReportSpan = Callable[[str, float], None]
"""Called with the name of a span of work and the seconds that it took."""


@dataclass(frozen=True)
class Retriever:
    """A model, a catalogue that may change while it is searched, and what was learned to rank its candidates.

    `shopper_columns` are the features of the indexed items that a shopper's history is encoded by.
    """

    encoder: Encoder
    catalogue: LiveCatalogue | None
    indexed_snapshot: Snapshot
    ranking: Ranking
    rulebook: Rulebook | None
    interpreter: QueryInterpreter
    shopper_columns: Int32[np.ndarray, "items shopper"]
    history: History
    query_cache: QueryCache = field(default_factory=lambda: QueryCache(0))
    helper_thread: HelperThread = field(default_factory=HelperThread)

    @classmethod
    def open(cls, run: str | Path, *, edits: bool = True, writable: bool = False, cached_queries: int = 0) -> Retriever:
        """The retriever of a run folder (`model/ vectors/ index/ ranking/ serving/`), with its edits and rules.

        Without `edits` it has the catalogue as it was indexed, and no rules. The vectors of the last `cached_queries`
        different queries are cached. Raises `ArtifactError` where a folder is missing or damaged, or was not made from
        the others.
        """
        folders = RunFolder(Path(run))
        folders.verify(SEARCH)
        with folders.name_damage(SEARCH):
            return cls._open(folders, edits=edits, writable=writable, cached_queries=cached_queries)

    @classmethod
    def _open(cls, folders: RunFolder, *, edits: bool, writable: bool, cached_queries: int) -> Retriever:
        encoder = Encoder.open(folders.model)
        catalogue = LiveCatalogue.open(folders.path, writable=writable, encoder=encoder) if edits else None
        if catalogue:
            indexed_snapshot = catalogue.snapshot()
        else:
            lexical = LexicalIndex.open(folders.index / "lexical")
            indexed_snapshot = base_snapshot(open_run_base(folders.path), lexical, version=0)
        ranking = Ranking.open(folders.ranking)
        popular_queries = read_popular_queries(folders.serving)
        words = indexed_snapshot.lexical
        speller = Speller.open(folders.index / SPELLING, popular_queries, words.stems, words.is_content)
        return cls(
            encoder=encoder,
            catalogue=catalogue,
            indexed_snapshot=indexed_snapshot,
            ranking=ranking,
            rulebook=Rulebook.open(folders.rules, indexed_snapshot.kinds) if edits else None,
            interpreter=QueryInterpreter(speller, ranking.query_counts, encoder.reads_any_word),
            shopper_columns=open_array(folders.vectors, SHOPPER),
            history=open_histories(folders.serving),
            query_cache=QueryCache(cached_queries),
        )

    @property
    def kinds(self) -> dict[str, Kind]:
        """The columns that can be filtered by, each with its kind."""
        return self.indexed_snapshot.kinds

    def snapshot(self) -> Snapshot:
        """The current state of the catalogue."""
        return self.catalogue.snapshot() if self.catalogue else self.indexed_snapshot

    def state(self) -> Hashable:
        """While it is the same, so is the answer to a search: edits, published rules and their dates change it."""
        rulebook = self.rulebook
        rules, version = (rulebook.current(), rulebook.status().version) if rulebook else (Rules(), None)
        return self.catalogue.state() if self.catalogue else None, version, rules.period(datetime.now(UTC))

    def query_vectors(
        self, queries: Sequence[str], users: Sequence[str | None] | None = None, history: tuple[str, ...] = ()
    ) -> Float32[np.ndarray, "n width"]:
        """The fused vectors of `queries`, each for its shopper with the whole history that the log has of them.

        `history`, ids of items that were clicked or ordered, replaces the history of each query's shopper.
        """
        shoppers = list(users) if users is not None else [None] * len(queries)
        keys = [(query, user, history) for query, user in zip(queries, shoppers, strict=True)]
        return self._encode(self.snapshot(), keys)

    @property
    def lookups(self) -> Lookups:
        """How often the vector of a query was in the cache, and how often it was not."""
        return self.query_cache.lookups

    def search(self, query: str, k: int = 10, user_id: str | None = None) -> list[Hit]:
        """The `k` best items for `query`, best first: the hits of `answer`."""
        return self.answer(Search(query, k, user_id)).hits

    def answer(self, search: Search) -> Answer:
        """The hits of `search`, best first: `k` of them, or all where fewer exist and are likely enough.

        Raises `UsageError` for a cap or a facet of a column that the catalogue does not have.
        """
        answer = self.answers([search])[0]
        if isinstance(answer, MmseError):
            raise answer
        return answer

    def answers(self, searches: Sequence[Search], report_span: ReportSpan | None = None) -> list[Answer | MmseError]:
        """The answer to each of `searches`, the same as for each alone, all from one state of the catalogue.

        For an invalid search, its error is in the place of its answer. `report_span` is called with the seconds of each
        span: `encode`, `vector`, `words`, `rank`, `hits`. May be called from many threads.
        """
        timer = _SpanTimer(report_span)
        errors = {index: error for index, search in enumerate(searches) if (error := self._search_error(search))}
        valid_searches = [search for index, search in enumerate(searches) if index not in errors]
        contexts = self._contexts(valid_searches)
        timer.end("encode")
        by_words = [c for c, search in zip(contexts, valid_searches, strict=True) if search.channel != "vector"]
        by_vectors = [c for c, search in zip(contexts, valid_searches, strict=True) if search.channel != "lexical"]
        # The lexical channel runs in its own thread while this one searches the vectors.
        wait_for_matches = self.helper_thread.start(lambda: _time(_find_matches, by_words))
        vector_s = _time(_find_neighbours, by_vectors)
        words_s = wait_for_matches()
        timer.report("vector", vector_s)
        timer.report("words", words_s)
        pairs = list(zip(contexts, valid_searches, strict=True))
        rankings = [rank(context, search) for context, search in pairs]
        timer.end("rank")
        answers = iter([self._answer(*pair, blocks) for pair, blocks in zip(pairs, rankings, strict=True)])
        timer.end("hits")
        return [errors[index] if index in errors else next(answers) for index in range(len(searches))]

    def search_channels(
        self,
        queries: Sequence[str],
        vectors: Float32[np.ndarray, "n width"],
        k: int,
        filters: Sequence[Filter | None] | None = None,
    ) -> Iterator[ChannelRankings]:
        """The first `k` hits of each query by each channel and by both, ranked as `answers` ranks them, without rules.

        `queries` are in the form of `spell`, and `vectors` are theirs; `filters` has one filter for each query.
        """
        snapshot = self.snapshot()
        match_cache: dict[tuple[str, Filter | None], dict[int, Matches]] = {}
        for index, (query, vector) in enumerate(zip(queries, vectors, strict=True)):
            filter = filters[index] if filters is not None else None
            if len(match_cache) >= _MATCH_CACHE_SIZE:
                match_cache.clear()
            matches = match_cache.setdefault((query, filter), {})
            context = QueryContext(snapshot, self.ranking, RuleEffects(query), vector, filter, matches)
            yield ChannelRankings(k, context)

    def rankings(
        self,
        queries: Sequence[str],
        vectors: Float32[np.ndarray, "n width"],
        k: int,
        channels: Sequence[Channel],
        filters: Sequence[Filter | None] | None = None,
    ) -> dict[Channel, Int64[np.ndarray, "n k"]]:
        """The `k` best item rows of each query by each of `channels`, padded with -1.

        The other arguments are those of `search_channels`.
        """
        rankings = {channel: np.full((len(queries), k), -1, np.int64) for channel in channels}
        for index, channel_rankings in enumerate(self.search_channels(queries, vectors, k, filters)):
            for channel in channels:
                rows = channel_rankings.rows(channel)
                rankings[channel][index, : len(rows)] = rows
        return rankings

    def calibrate(
        self, queries: Sequence[str], vectors: Float32[np.ndarray, "n width"], k: int
    ) -> Iterator[CalibratedHits]:
        """The best hits of each query, `k` of them and at most 100, with their probabilities by each calibration."""
        return (channel_rankings.calibrate(k) for channel_rankings in self.search_channels(queries, vectors, k))

    def _search_error(self, search: Search) -> UsageError | None:
        """The error of a column that cannot be capped, counted or sorted by, or of a cut where nothing is likely."""
        if search.cuts and not self.ranking.calibration.is_learned:
            return UsageError(NO_PROBABILITIES, "Search without min_probability and target_precision.")
        for verb, columns in (("cap", search.caps), ("count", search.facets)):
            for column in columns:
                if column not in self.kinds:
                    names = ", ".join(self.kinds) or "none"
                    return UsageError(f"There is no column '{column}' to {verb}.", f"Columns that can be: {names}.")
        numbers = [column for column, kind in self.kinds.items() if kind is Kind.NUMBER]
        if search.sort and search.sort.removeprefix("-") not in numbers:
            names = ", ".join(numbers) or "none"
            return UsageError(
                f"There is no column '{search.sort.removeprefix('-')}' of numbers to sort by.",
                f"Columns that can be: {names}; a minus before the name orders from high to low.",
            )
        return None

    def context(self, search: Search) -> QueryContext:
        """What `search` is searched for, in the current state of the catalogue: its words, its vector, its filter."""
        return self._contexts([search])[0]

    def _contexts(self, searches: Sequence[Search]) -> list[QueryContext]:
        """The context of each search, with the effects of the rules, all for the current state of the catalogue."""
        if not searches:
            return []
        rules = self.rulebook.current() if self.rulebook else Rules()
        moment, snapshot = datetime.now(UTC), self.snapshot()
        effects = [
            self.interpreter.interpret(search.query, rules, moment, snapshot.lexical, correct=search.correct)
            for search in searches
        ]
        keys = [(e.text, search.user_id, search.history) for search, e in zip(searches, effects, strict=True)]
        vectors = self._encode(snapshot, keys)
        return [
            QueryContext(snapshot, self.ranking, e, vector, search.filter)
            for search, e, vector in zip(searches, effects, vectors, strict=True)
        ]

    def spell(self, queries: Sequence[str]) -> list[str]:
        """Each of `queries` as it is searched for without rules: corrected, and in the form that the log knows."""
        rules, moment, lexical = Rules(), datetime.now(UTC), self.snapshot().lexical
        return [self.interpreter.interpret(query, rules, moment, lexical).text for query in queries]

    def _encode(self, snapshot: Snapshot, keys: Sequence[QueryKey]) -> Float32[np.ndarray, "n width"]:
        """The vectors of `keys`, from the cache where it has them."""
        keys = [(normalise(query), user, history) for query, user, history in keys]
        cached_vectors = [self.query_cache.get(key) for key in keys]
        new_keys = [key for key, vector in zip(keys, cached_vectors, strict=True) if vector is None]
        texts, users = [query for query, _, _ in new_keys], [user for _, user, _ in new_keys]
        new_vectors = self.encoder.embed_queries_compiled(texts, users, self._history_ids(snapshot, new_keys))
        for key, vector in zip(new_keys, new_vectors, strict=True):
            self.query_cache.put(key, vector)
        vectors, new_vector_iterator = np.empty((len(keys), self.encoder.width), np.float32), iter(new_vectors)
        for index, cached_vector in enumerate(cached_vectors):
            vectors[index] = next(new_vector_iterator) if cached_vector is None else cached_vector
        return vectors

    def _history_ids(self, snapshot: Snapshot, keys: Sequence[QueryKey]) -> Int32[np.ndarray, "n ids"]:
        """The feature ids of each shopper's history: the history of the key, or else that of the log."""
        if not any(user is not None or history for _, user, history in keys):
            return np.zeros((len(keys), 0), np.int32)
        users = [None if history else user for _, user, history in keys]
        item_rows = self.history.look_up(users, np.full(len(keys), _LATEST)).item_rows
        for index, (_, _, history) in enumerate(keys):
            if history:
                rows = snapshot.rows_with_deleted(history)
                rows = rows[(rows >= 0) & (rows < len(self.shopper_columns))][-self.history.length :]
                item_rows[index, : len(rows)] = rows
        return look_up_traits(self.shopper_columns, item_rows)

    def _answer(self, context: QueryContext, search: Search, blocks: Sequence[RankedBlock]) -> Answer:
        effects, snapshot, parts = context.effects, context.snapshot, page(blocks, search)
        hits = [hit for part in parts for hit in build_hits(context, part, self.encoder, explain=search.explain)]
        first = blocks[0]
        groups = None if search.all_variants else snapshot.item_groups(first.found_rows)
        facets = {
            column: replace(
                count_values(self.kinds[column], snapshot.values(column, first.found_rows), groups),
                exact=first.is_exhaustive,
            )
            for column in search.facets
        }
        no_good_match = len(first) == 0
        return Answer(
            query=effects.query,
            hits=hits,
            no_good_match=no_good_match,
            redirect_url=effects.redirect_url,
            rules=effects.rules,
            version=snapshot.version,
            facets=facets,
            notes=notes_of(context),
            corrected_from=effects.corrected_from,
        )


class _SpanTimer:
    """Reports how long each span took; a span starts where the former one ends."""

    def __init__(self, report_span: ReportSpan | None) -> None:
        self._report_span, self._start = report_span, time.perf_counter()

    def end(self, span: str) -> None:
        """Reports the seconds since the former span."""
        self.report(span, time.perf_counter() - self._start)

    def report(self, span: str, seconds: float) -> None:
        """Reports a span that was measured elsewhere; the next span starts now."""
        if self._report_span is not None:
            self._report_span(span, seconds)
        self._start = time.perf_counter()


def _time(work: Callable[[Sequence[QueryContext]], None], contexts: Sequence[QueryContext]) -> float:
    """The seconds that `work` takes."""
    start = time.perf_counter()
    work(contexts)
    return time.perf_counter() - start


def _find_matches(contexts: Sequence[QueryContext]) -> None:
    """Searches the lexical channel for the first block of each."""
    for context in contexts:
        context.find_matches(FIRST_BLOCK)


def _find_neighbours(contexts: Sequence[QueryContext]) -> None:
    """Searches the vector channel for the first block of each; those without a filter go to the index together."""
    unfiltered = [context for context in contexts if context.filter is None]
    for start in range(0, len(unfiltered), VECTOR_BATCH):
        batch = unfiltered[start : start + VECTOR_BATCH]
        vectors = np.stack([context.vector for context in batch])
        for context, neighbours in zip(batch, search_vectors(batch[0].snapshot, vectors, FIRST_BLOCK), strict=True):
            context.neighbours[FIRST_BLOCK] = neighbours
    for context in contexts:
        context.find_neighbours(FIRST_BLOCK)
