"""The query path: a query and its shopper in, hits out. Evaluation, the command line and HTTP all use this one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int, Int32, Int64
from scipy.special import expit

from mmse import artifact
from mmse.channels import Calibrated, Considered, Question
from mmse.embed import SHOPPER, open_array
from mmse.errors import ArtifactError, UsageError
from mmse.filters import Filter, Kind, comparable
from mmse.index.lexical import LexicalIndex, Matches
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
from mmse.ranking.candidates import Candidates
from mmse.ranking.rulebook import Rulebook
from mmse.ranking.rules import Applied, Rules
from mmse.ranking.stage import Ranking
from mmse.records import Hit
from mmse.search import Answer, Channel, Search

_LATEST = np.iinfo(np.int64).max
_REMEMBERED = 4_000
"""Different queries of `considered` whose words are looked up once."""
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
        """The hits of `search`, best first: `k` of them wherever so many exist and are likely enough.

        Raises `UsageError` for a cap on a column that the catalogue does not have.
        """
        for column in search.caps:
            if column not in self.kinds:
                able = ", ".join(self.kinds) or "none"
                raise UsageError(f"There is no column '{column}' to cap.", f"Columns that can be: {able}.")
        rules = self.rulebook.current() if self.rulebook else Rules()
        applied = rules.for_query(search.query, datetime.now(UTC))
        now = self.snapshot()
        vector = self.query_vectors([applied.query], [search.user_id])[0]
        asked = Question(now, self.ranking, applied.query, vector, search.filter, applied.expansions)
        found, lead = asked.guarded(asked.found(search.k, search.channel), search.channel)
        pinned = _pinned(now, applied, search.filter)
        found = asked.with_rows(found, pinned)
        lead = np.pad(lead, (0, len(found) - len(lead)))
        scores = asked.scores(found, search.channel)
        odds = asked.log_odds(scores) if search.channel == "hybrid" else scores
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

    def _hits(
        self,
        asked: Question,
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
        said = asked.weight * found.lexical[places]
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
