"""The query path: a query and its shopper in, hits out. Evaluation, the command line and HTTP all use this one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, Int32, Int64

from mmse.catalogue.base import open_run
from mmse.catalogue.generation import bare
from mmse.catalogue.live_catalogue import Catalogue
from mmse.catalogue.snapshot import Snapshot
from mmse.core import artifact
from mmse.core.errors import ArtifactError, MmseError, UsageError
from mmse.dataset.history import History
from mmse.index.embedding import SHOPPER, open_array
from mmse.index.facets import facet
from mmse.index.helper_thread import Beside
from mmse.index.lexical import LexicalIndex, Matches
from mmse.model.encoder import Encoder
from mmse.model.features import shopper_ids
from mmse.model.query_cache import Lookups, QueryKey, Remembered
from mmse.ranking.candidates import depth
from mmse.ranking.rerank import Placed
from mmse.ranking.rulebook import Rulebook
from mmse.ranking.rules import Rules
from mmse.ranking.step import Ranking
from mmse.retrieval.explain import Found, hits_of
from mmse.retrieval.query_context import Calibrated, Considered, Near, Question, nearest
from mmse.retrieval.rank import Asked, placed_of
from mmse.schema.filters import Filter, Kind
from mmse.schema.search import Answer, Channel, Search
from mmse.schema.stages import Hit
from mmse.text.tokenizer import normalise

_LATEST = np.iinfo(np.int64).max
_REMEMBERED = 4_000
"""Different queries of `considered` whose words are looked up once."""
TOGETHER = 16
"""Queries that Faiss is asked at once: from 20 on it rounds otherwise than for one alone."""
_T = TypeVar("_T")
Watch = Callable[[str, float], None]
"""Is told a stage and how many seconds it took."""
_MADE_FROM = (
    ("vectors", "dataset", "from another dataset", "`mmse train`, `mmse embed`, `mmse index` and `mmse rank`"),
    ("vectors", "model", "by another model", "`mmse embed`, `mmse index` and `mmse rank`"),
    ("index", "model", "by another model", "`mmse embed`, `mmse index` and `mmse rank`"),
    ("index", "vectors", "from other vectors", "`mmse index` and `mmse rank`"),
    ("ranking", "dataset", "from another dataset", "`mmse rank`"),
    ("ranking", "model", "with another model", "`mmse rank`"),
)
"""What was made from what in a run folder, how that is said, and what puts it right."""


@dataclass(frozen=True)
class Retriever:
    """A model, a catalogue that may change while it is searched, and what turns its channels into one list."""

    encoder: Encoder
    catalogue: Catalogue | None
    indexed: Snapshot
    ranking: Ranking
    rulebook: Rulebook | None
    shopper: Int32[np.ndarray, "items shopper"]
    history: History
    remembered: Remembered = field(default_factory=lambda: Remembered(0))
    beside: Beside = field(default_factory=Beside)

    @classmethod
    def open(cls, run: Path, *, edits: bool = True, writable: bool = False, cached_queries: int = 0) -> Retriever:
        """The retriever of a run folder (`dataset/ model/ vectors/ index/ ranking/`), with its edits and rules.

        Without `edits` it shows the catalogue as it was indexed, and no rules. The vectors of the last
        `cached_queries` different queries are remembered. Raises `ArtifactError` where a folder is
        missing or damaged, or was not made from the others.
        """
        made = {kind: artifact.verify(run / kind, kind) for kind in ("dataset", "model", "vectors", "index", "ranking")}
        for kind, name, by, again in _MADE_FROM:
            then, now = made[kind].inputs.get(name), made[name].fingerprint
            if then != now:
                raise ArtifactError(
                    f"{run / kind} was made {by} (fingerprint {then}) than {run / name} (fingerprint {now}): "
                    "their scores would mean nothing.",
                    f"Run {again} again.",
                )
        encoder = Encoder.open(run / "model")
        catalogue = Catalogue.open(run, writable=writable, encoder=encoder) if edits else None
        indexed = (
            catalogue.snapshot() if catalogue else bare(open_run(run), LexicalIndex.open(run / "index" / "lexical"), 0)
        )
        return cls(
            encoder=encoder,
            catalogue=catalogue,
            indexed=indexed,
            ranking=Ranking.open(run / "ranking"),
            rulebook=Rulebook.open(run / "rules", indexed.kinds) if edits else None,
            shopper=open_array(run / "vectors", SHOPPER),
            history=History.open(run / "dataset"),
            remembered=Remembered(cached_queries),
        )

    @property
    def kinds(self) -> dict[str, Kind]:
        """The columns that can be filtered by."""
        return self.indexed.kinds

    def snapshot(self) -> Snapshot:
        """The items as they are now."""
        return self.catalogue.snapshot() if self.catalogue else self.indexed

    def query_vectors(
        self, queries: Sequence[str], users: Sequence[str | None] | None = None, history: tuple[str, ...] = ()
    ) -> Float32[np.ndarray, "n width"]:
        """The fused vectors of `queries`, each by its shopper with all the history that the log has of them.

        Where `history` is given, the ids of items that were clicked or ordered, it stands for that of every query.
        """
        shoppers = list(users) if users is not None else [None] * len(queries)
        keys = [QueryKey(query, user, history) for query, user in zip(queries, shoppers, strict=True)]
        return self._encoded(self.snapshot(), keys)

    @property
    def lookups(self) -> Lookups:
        """How often the vector of a query was remembered, and how often it was not."""
        return self.remembered.lookups

    def search(self, query: str, k: int = 10, user_id: str | None = None) -> list[Hit]:
        """The `k` best items for `query`, best first: the hits of `answer`."""
        return self.answer(Search(query, k, user_id)).hits

    def answer(self, search: Search) -> Answer:
        """The hits of `search`, best first: `k` of them wherever so many exist and are likely enough.

        Raises `UsageError` for a cap or a facet of a column that the catalogue does not have.
        """
        answer = self.answers([search])[0]
        if isinstance(answer, MmseError):
            raise answer
        return answer

    def answers(self, searches: Sequence[Search], watch: Watch | None = None) -> list[Answer | MmseError]:
        """The answer of each of `searches`, the same that each has alone, all from one state of the catalogue.

        In place of the answer of a search that is wrong in itself stands the error that `answer` would raise. `watch`
        is told how long each stage took: `encode`, `vector`, `words`, `rank`, `hits`. May be called from many threads.
        """
        lap = _Laps(watch)
        wrong = {place: error for place, search in enumerate(searches) if (error := self._wrong(search))}
        good = [search for place, search in enumerate(searches) if place not in wrong]
        asked = self._asked(good)
        lap("encode")
        words = self.beside.start(lambda: _timed(_matches, asked))  # in its own thread, while this one searches vectors
        near, vector_s = _timed(_nearest, asked)
        matches, words_s = words()
        lap.told("vector", vector_s)
        lap.told("words", words_s)
        ranked = [placed_of(*one) for one in zip(asked, near, matches, strict=True)]
        lap("rank")
        answers = iter([self._answer(one, *made) for one, made in zip(asked, ranked, strict=True)])
        lap("hits")
        return [wrong[place] if place in wrong else next(answers) for place in range(len(searches))]

    def considered(
        self,
        queries: Sequence[str],
        vectors: Float32[np.ndarray, "n width"],
        k: int,
        filters: Sequence[Filter | None] | None = None,
    ) -> Iterator[Considered]:
        """For each query what the channels find for `k` hits, to be ranked by either and by both.

        `vectors` are those of the queries; `filters` hold for one query each.
        """
        now = self.snapshot()
        worded: dict[tuple[str, Filter | None], Matches] = {}
        for place, (query, vector) in enumerate(zip(queries, vectors, strict=True)):
            only = filters[place] if filters is not None else None
            asked = Question(now, self.ranking, query, vector, only)
            if (query, only) not in worded:
                if len(worded) >= _REMEMBERED:
                    worded.clear()
                worded[query, only] = asked.matches(k)
            near, matches = asked.near(k), worded[query, only]
            yield Considered(asked, near[0], matches.rows, asked.gathered(near, matches, k))

    def rankings(
        self,
        queries: Sequence[str],
        vectors: Float32[np.ndarray, "n width"],
        k: int,
        channels: Sequence[Channel],
        filters: Sequence[Filter | None] | None = None,
    ) -> dict[Channel, Int64[np.ndarray, "n k"]]:
        """The `k` best item rows of each query by each of `channels`, padded with -1; arguments as of `considered`."""
        ranked = {channel: np.full((len(queries), k), -1, np.int64) for channel in channels}
        for place, one in enumerate(self.considered(queries, vectors, k, filters)):
            for channel in channels:
                rows = one.rows(channel)[:k]
                ranked[channel][place, : len(rows)] = rows
        return ranked

    def calibrated(
        self, queries: Sequence[str], vectors: Float32[np.ndarray, "n width"], k: int
    ) -> Iterator[Calibrated]:
        """For each query its `k` best hits and their probabilities by each form of calibration."""
        return (one.calibrated(k) for one in self.considered(queries, vectors, k))

    def _wrong(self, search: Search) -> UsageError | None:
        for what, columns in (("cap", search.caps), ("count", search.facets)):
            for column in columns:
                if column not in self.kinds:
                    able = ", ".join(self.kinds) or "none"
                    return UsageError(f"There is no column '{column}' to {what}.", f"Columns that can be: {able}.")
        return None

    def _asked(self, searches: Sequence[Search]) -> list[Asked]:
        """The searches as the rules have them, each a question to the items as they are now."""
        if not searches:
            return []
        rules, moment, now = self.rulebook.current() if self.rulebook else Rules(), datetime.now(UTC), self.snapshot()
        applied = [rules.for_query(search.query, moment) for search in searches]
        keys = [QueryKey(a.query, s.user_id, s.history) for s, a in zip(searches, applied, strict=True)]
        return [
            Asked(s, a, Question(now, self.ranking, a.query, vector, s.filter, a.expansions))
            for s, a, vector in zip(searches, applied, self._encoded(now, keys), strict=True)
        ]

    def _encoded(self, now: Snapshot, keys: Sequence[QueryKey]) -> Float32[np.ndarray, "n width"]:
        keys = [QueryKey(normalise(query), user, history) for query, user, history in keys]
        found = [self.remembered.find(key) for key in keys]
        lacking = [key for key, vector in zip(keys, found, strict=True) if vector is None]
        texts, users = [key.query for key in lacking], [key.user_id for key in lacking]
        made = self.encoder.served(texts, users, self._past(now, lacking))
        for key, vector in zip(lacking, made, strict=True):
            self.remembered.keep(key, vector)
        vectors, those = np.empty((len(keys), self.encoder.width), np.float32), iter(made)
        for place, vector in enumerate(found):
            vectors[place] = next(those) if vector is None else vector
        return vectors

    def _past(self, now: Snapshot, keys: Sequence[QueryKey]) -> Int32[np.ndarray, "n ids"]:
        """What speaks for each shopper's taste: the history that is given, else the one that the log has."""
        if not any(key.user_id is not None or key.history for key in keys):
            return np.zeros((len(keys), 0), np.int32)
        users = [None if key.history else key.user_id for key in keys]
        past = self.history.before(users, np.full(len(keys), _LATEST)).item_rows
        for place, key in enumerate(keys):
            if key.history:
                rows = now.slots(key.history)
                rows = rows[(rows >= 0) & (rows < len(self.shopper))][-self.history.length :]
                past[place, : len(rows)] = rows
        return shopper_ids(self.shopper, past)

    def _answer(self, asked: Asked, found: Found, placed: Sequence[Placed]) -> Answer:
        search, applied, now = asked.search, asked.applied, asked.question.now
        shown = placed[: search.k]
        hits = hits_of(found, shown, self.encoder.widths, self.encoder.space, explain=search.explain)
        rows = np.array([one.row for one in placed], np.int64) if search.cuts else found.candidates.rows
        facets = {column: facet(self.kinds[column], now.values(column, rows)) for column in search.facets}
        return Answer(applied.query, hits, not hits, applied.redirect_url, applied.rules, now.version, facets)


class _Laps:
    """Tells how long it was since the last stage ended."""

    def __init__(self, watch: Watch | None) -> None:
        self._watch, self._since = watch, time.perf_counter()

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.told(stage, now - self._since)

    def told(self, stage: str, seconds: float) -> None:
        """Tells of a stage that took so long beside others; the next one begins now."""
        if self._watch is not None:
            self._watch(stage, seconds)
        self._since = time.perf_counter()


def _timed(work: Callable[[Sequence[Asked]], _T], asked: Sequence[Asked]) -> tuple[_T, float]:
    since = time.perf_counter()
    made = work(asked)
    return made, time.perf_counter() - since


def _matches(asked: Sequence[Asked]) -> list[Matches | None]:
    """What the lexical channel finds for each that asks it."""
    return [None if one.search.channel == "vector" else one.question.matches(one.search.k) for one in asked]


def _nearest(asked: Sequence[Asked]) -> list[Near | None]:
    """What the vector channel finds for each: in one go for those without a filter that look equally deep."""
    found: list[Near | None] = [None] * len(asked)
    together: dict[int, list[int]] = {}
    for place, one in enumerate(asked):
        if one.search.channel == "lexical":
            continue
        if one.search.filter is None:
            together.setdefault(depth(one.search.k), []).append(place)
        else:
            found[place] = one.question.near(one.search.k)
    for places in together.values():
        for start in range(0, len(places), TOGETHER):
            some = places[start : start + TOGETHER]
            vectors = np.stack([asked[place].question.vector for place in some])
            near = nearest(asked[some[0]].question.now, vectors, asked[some[0]].search.k)
            for place, these in zip(some, near, strict=True):
                found[place] = these
    return found
