"""The query path: a query and its shopper in, hits out. Evaluation, the command line and HTTP all use this one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int, Int32, Int64
from scipy.special import expit

from mmse import artifact
from mmse.embed import SHOPPER, open_array
from mmse.errors import ArtifactError
from mmse.filters import Filter, Kind, comparable
from mmse.index.lexical import Asked, Expansions, LexicalIndex
from mmse.lexical import words
from mmse.live.base import open_run
from mmse.live.catalogue import Catalogue
from mmse.live.generation import bare
from mmse.live.snapshot import Snapshot
from mmse.mining.history import History
from mmse.model.encoder import Encoder
from mmse.model.features import shopper_ids
from mmse.model.fusion import view_scores
from mmse.ranking.arrange import Placed, Scored, arrange
from mmse.ranking.calibration import Form, moments_of
from mmse.ranking.candidates import KNOWN_MATCHES, Candidates, depth, gather
from mmse.ranking.fusion import reciprocal_ranks
from mmse.ranking.rulebook import Rulebook
from mmse.ranking.rules import Applied, Rules
from mmse.ranking.stage import Ranking
from mmse.records import Hit
from mmse.search import Answer, Channel, Search

_LATEST = np.iinfo(np.int64).max
_LED = "names what the query names"
_MADE_FROM = (
    ("vectors", "groups", "from other groups", "`mmse train`, `mmse embed`, `mmse index` and `mmse rank`"),
    ("vectors", "model", "by another model", "`mmse embed`, `mmse index` and `mmse rank`"),
    ("index", "model", "by another model", "`mmse embed`, `mmse index` and `mmse rank`"),
    ("index", "vectors", "from other vectors", "`mmse index` and `mmse rank`"),
    ("ranking", "groups", "from other groups", "`mmse rank`"),
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

    @classmethod
    def open(cls, run: Path, *, edits: bool = True, writable: bool = False) -> Retriever:
        """The retriever of a run folder (`groups/ model/ vectors/ index/ ranking/`), with its edits and rules.

        Without `edits` it shows the catalogue as it was indexed, and no rules. Raises `ArtifactError` where a folder is
        missing or damaged, or was not made from the others.
        """
        made = {kind: artifact.verify(run / kind, kind) for kind in ("groups", "model", "vectors", "index", "ranking")}
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
            history=History.open(run / "groups"),
        )

    @property
    def kinds(self) -> dict[str, Kind]:
        """The columns that can be filtered by."""
        return self.indexed.kinds

    def snapshot(self) -> Snapshot:
        """The items as they are now."""
        return self.catalogue.snapshot() if self.catalogue else self.indexed

    def query_vectors(
        self, queries: Sequence[str], users: Sequence[str | None] | None = None
    ) -> Float32[np.ndarray, "n width"]:
        """The fused vectors of `queries`, each by its shopper with all the history that the log has of them."""
        shoppers = list(users) if users is not None else [None] * len(queries)
        history = self.history.before(shoppers, np.full(len(shoppers), _LATEST)).item_rows
        return self.encoder.queries(queries, shoppers, shopper_ids(self.shopper, history))

    def search(self, query: str, k: int = 10, user_id: str | None = None) -> list[Hit]:
        """The `k` best items for `query`, best first: the hits of `answer`."""
        return self.answer(Search(query, k, user_id)).hits

    def answer(self, search: Search) -> Answer:
        """The hits of `search`, best first: `k` of them wherever so many exist and are likely enough."""
        rules = self.rulebook.current() if self.rulebook else Rules()
        applied = rules.for_query(search.query, datetime.now(UTC))
        now = self.snapshot()
        vector = self.query_vectors([applied.query], [search.user_id])[0]
        asked = _Asked(now, applied.query, vector, search.filter, self.ranking.boosts, applied.expansions)
        found, lead = self._guarded(asked, self._found(asked, search.k, search.channel), search.channel)
        pinned = _pinned(now, applied, search.filter)
        found = asked.with_rows(found, pinned)
        lead = np.pad(lead, (0, len(found) - len(lead)))
        scores = self._scores(found, asked.query, search.channel)
        odds = self._log_odds(scores, asked.query) if search.channel == "hybrid" else scores
        placed = arrange(
            _scored(now, found, odds), applied, len(found) if search.cuts else search.k,
            boosts=search.boosts, caps=search.caps, lead=lead,
        )  # fmt: skip
        chances = expit(odds) if search.channel == "hybrid" else None
        if search.cuts:
            assert chances is not None
            by_row = dict(zip(found.rows.tolist(), chances.tolist(), strict=True))
            placed = likely_enough(placed, by_row, search, set(pinned.tolist()))
        hits = self._hits(asked, found, placed[: search.k], chances, set(found.rows[lead].tolist()))
        return Answer(applied.query, hits, not hits, applied.redirect_url, applied.rules, now.version)

    def rankings(
        self,
        queries: Sequence[str],
        vectors: Float32[np.ndarray, "n width"],
        k: int,
        channels: Sequence[Channel],
        filters: Sequence[Filter | None] | None = None,
    ) -> dict[Channel, Int64[np.ndarray, "n k"]]:
        """The `k` best item rows of each query by each of `channels`, padded with -1.

        `vectors` are those of the queries; `filters` hold for one query each.
        """
        now = self.snapshot()
        ranked = {channel: np.full((len(queries), k), -1, np.int64) for channel in channels}
        for place, (query, vector) in enumerate(zip(queries, vectors, strict=True)):
            only = filters[place] if filters is not None else None
            asked = _Asked(now, query, vector, only, self.ranking.boosts)
            both = self._found(asked, k, "hybrid")
            for channel in channels:
                found, lead = self._guarded(asked, both, channel)
                scores = self._scores(found, query, channel)
                order = np.lexsort((found.rows, -scores, ~lead))
                order = order[scores[order] > 0] if channel in ("lexical", "rrf") else order
                ranked[channel][place, : min(k, len(order))] = found.rows[order[:k]]
        return ranked

    def calibrated(
        self, queries: Sequence[str], vectors: Float32[np.ndarray, "n width"], k: int
    ) -> Iterator[tuple[Int64[np.ndarray, " m"], dict[Form, Float64[np.ndarray, " m"]]]]:
        """For each query the rows of its `k` best hits, and their probabilities by each form of calibration."""
        forms = self.ranking.calibrations
        now = self.snapshot()
        for query, vector in zip(queries, vectors, strict=True):
            found = self._found(_Asked(now, query, vector, None, self.ranking.boosts), k, "hybrid")
            scores = self._scores(found, query, "hybrid")
            order = np.argsort(-scores, kind="stable")[:k]
            count, moments = int(self.ranking.known.counts([query])[0]), moments_of(scores)
            chances = {form: expit(one.log_odds(scores[order], count, moments)) for form, one in forms.items()}
            yield found.rows[order], chances

    def _found(self, asked: _Asked, k: int, channel: Channel) -> Candidates:
        """The candidates of the channels, each with both scores."""
        near = asked.now.search_vectors(asked.vector[None], depth(k), asked.only)
        rows = near.ids[0][near.ids[0] >= 0]
        if channel == "vector":
            return Candidates(rows, near.scores[0][: len(rows)], np.zeros(len(rows), np.float32))
        matches = asked.now.lexical.search(asked.words, max(KNOWN_MATCHES, depth(k)), asked.only)
        if channel == "lexical":
            rows = rows[:0]
        return gather(
            (rows, near.scores[0][: len(rows)]), matches, asked.words, asked.now.lexical,
            k=k, vector_scores=asked.scores_of,
        )  # fmt: skip

    def _guarded(self, asked: _Asked, found: Candidates, channel: Channel) -> tuple[Candidates, Bool[np.ndarray, " n"]]:
        """The candidates, with those that hold the brand or model that the query names, and which should lead."""
        nothing = np.zeros(len(found), bool)
        if channel != "hybrid" or len(found) == 0:
            return found, nothing
        missed, lead = self.ranking.guard.guarded(asked.query, found, asked.words, asked.now.lexical, asked.only)
        if len(missed):
            return asked.with_rows(found, missed), np.append(nothing, np.ones(len(missed), bool))
        return found, nothing if lead is None else lead

    def _scores(self, found: Candidates, query: str, channel: Channel) -> Float64[np.ndarray, " n"]:
        scores = {
            "hybrid": lambda: found.vector + self._weight(query) * found.lexical,
            "rrf": lambda: reciprocal_ranks(found.vector) + reciprocal_ranks(found.lexical),
            "vector": lambda: found.vector,
            "lexical": lambda: found.lexical,
        }
        return np.asarray(scores[channel](), np.float64)

    def _weight(self, query: str) -> float:
        return float(self.ranking.fusion.weights(self.ranking.known.counts([query]))[0])

    def _log_odds(self, scores: Float64[np.ndarray, " n"], query: str) -> Float64[np.ndarray, " n"]:
        count = int(self.ranking.known.counts([query])[0])
        return self.ranking.calibration.log_odds(scores, count, moments_of(scores))

    def _hits(
        self,
        asked: _Asked,
        found: Candidates,
        placed: Sequence[Placed],
        chances: Float64[np.ndarray, " n"] | None,
        led: set[int],
    ) -> list[Hit]:
        if not placed:
            return []
        rows = np.array([one.row for one in placed], np.int64)
        at = {row: place for place, row in enumerate(found.rows.tolist())}
        places = np.array([at[row] for row in rows.tolist()], np.int64)
        query = torch.from_numpy(asked.vector).expand(len(rows), -1)
        shares = view_scores(query, torch.from_numpy(asked.now.vectors(rows)), len(self.encoder.views)).numpy()
        said = self._weight(asked.query) * found.lexical[places]
        table = asked.now.table(rows)
        texts = self.encoder.space.item_texts(table)
        wanted = set(words(asked.query))
        hits = []
        for place, item in enumerate(table.to_pylist()):
            parts = dict(zip(self.encoder.views, shares[place].tolist(), strict=True)) | {"words": float(said[place])}
            moved = placed[place].moved_by + ((_LED,) if placed[place].row in led else ())
            hits.append(
                Hit(
                    rank=place + 1,
                    item_id=item["item_id"],
                    title=item["title"],
                    score=sum(parts.values()),
                    probability=None if chances is None else float(chances[places[place]]),
                    parts=parts,
                    matched=tuple(w for w in dict.fromkeys(words(texts[place])) if w in wanted),
                    moved_by=moved,
                    item={name: value for name, value in item.items() if value is not None},
                )
            )
        return hits


@dataclass(frozen=True)
class _Asked:
    """One query put to one snapshot."""

    now: Snapshot
    query: str
    vector: Float32[np.ndarray, " width"]
    only: Filter | None
    boosts: Mapping[str, float]
    expansions: Expansions = ()

    @cached_property
    def words(self) -> Asked:
        """The query as the lexical index takes it."""
        return self.now.lexical.ask(self.query, self.boosts, self.expansions)

    def scores_of(self, rows: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, " m"]:
        """The inner products of the items at `rows` with the query."""
        return np.asarray(self.now.vectors(rows) @ self.vector)

    def with_rows(self, found: Candidates, rows: Int64[np.ndarray, " m"]) -> Candidates:
        """`found` and, behind them, those of `rows` that are not among them, with both scores."""
        more = rows[~np.isin(rows, found.rows)]
        if len(more) == 0:
            return found
        share = self.now.lexical.scores(self.words, more) / max(self.words.most, 1e-6)
        return Candidates(
            np.concatenate([found.rows, more]),
            np.concatenate([found.vector, self.scores_of(more)]),
            np.concatenate([found.lexical, share.astype(np.float32)]),
        )


def likely_enough(
    placed: Sequence[Placed], chances: Mapping[int, float], search: Search, pinned: set[int]
) -> list[Placed]:
    """The hits that are likely enough for `search`, in their order; the rows that a rule `pinned` stay."""
    least = search.min_probability
    if search.target_precision is not None:
        falling = np.sort([chances[one.row] for one in placed])[::-1]
        means = np.cumsum(falling) / np.arange(1, len(falling) + 1)
        precise = np.flatnonzero(means >= search.target_precision)
        least = max(least, float(falling[precise[-1]]) if len(precise) else 2.0)
    return [one for one in placed if chances[one.row] >= least or one.row in pinned]


def _pinned(now: Snapshot, applied: Applied, only: Filter | None) -> Int64[np.ndarray, " m"]:
    """The rows that rules pin, of those that exist and that the filter lets through."""
    rows = now.rows([pin.item_id for pin in applied.pins])
    rows = rows[rows >= 0]
    return rows if only is None or len(rows) == 0 else rows[now.holds(only, rows)]


def _scored(now: Snapshot, found: Candidates, odds: Float64[np.ndarray, " n"]) -> Scored:
    """The candidates as `arrange` takes them."""

    def codes(column: str) -> Int[np.ndarray, " n"]:
        values = [None if v is None else comparable(str(v)) for v in now.values(column, found.rows)]
        numbers = {value: place for place, value in enumerate(dict.fromkeys(v for v in values if v))}
        return np.array([numbers.get(value, -1) if value else -1 for value in values], np.int64)

    def row_of(item_id: str) -> int | None:
        row = int(now.rows([item_id])[0])
        return row if row >= 0 else None

    return Scored(found.rows, odds, lambda only: now.holds(only, found.rows), codes, row_of)
