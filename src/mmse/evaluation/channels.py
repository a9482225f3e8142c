"""What a run serves, as evaluation sees it: the retriever's hybrid ranking, and each channel of it alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, Int64

from mmse.core import artifact
from mmse.core.errors import ArtifactError
from mmse.evaluation.metric_values import Progress
from mmse.index import IndexConfig, build
from mmse.model.features import shopper_ids
from mmse.retrieval.query_context import NO_ROWS, Calibrated
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Channel

CUTS = (10, 50, 100, 500, 1000)
DEPTH = max(CUTS)
HITS = 100
"""So many hits of a request have their probability looked at."""
AGREED_ON = 1_000
"""Requests on which the index is held against exact search."""

_SAY_EVERY = 64


@dataclass(frozen=True)
class Questions:
    """What is asked: queries, by whom, and the item rows that each shopper had taken before (-1 for none)."""

    queries: list[str]
    users: list[str | None]
    history: Int32[np.ndarray, "n length"]

    def __len__(self) -> int:
        return len(self.queries)


@dataclass(frozen=True)
class Looked:
    """What the query path did with each question: rankings by name, `hybrid` first, and hits with probabilities."""

    rankings: dict[str, Int64[np.ndarray, "n depth"]]
    hits: list[Calibrated]


@dataclass(frozen=True)
class Served:
    """The retriever of a run, as it was indexed, and the recipe that it is named after."""

    run: Path
    retriever: Retriever
    name: str

    @classmethod
    def open(cls, run: Path) -> Served:
        """The retriever of `run`; raises `ArtifactError` where the run does not fit together or knows the answers."""
        retriever = Retriever.open(run, edits=False)
        as_of = artifact.read_manifest(run / "vectors", "vectors").config["as_of"]
        if as_of != "test" and any((run / "dataset" / "test").glob("*.parquet")):
            raise ArtifactError(
                f"{run / 'vectors'} was embedded as of '{as_of}': it knows the test window's orders.",
                "Run `mmse embed --as-of test` again before evaluating.",
            )
        return cls(run, retriever, str(artifact.read_manifest(run / "model", "model").config["recipe"]))

    @property
    def names(self) -> dict[Channel, str]:
        """What each channel is called in a report; `hybrid`, which is served, bears the recipe's own name."""
        alone: tuple[Channel, ...] = ("vector", "lexical", "rrf")
        names: dict[Channel, str] = {channel: f"{self.name} ({channel})" for channel in alone}
        return {"hybrid": self.name, **names}

    def vectors(self, asked: Questions) -> Float32[np.ndarray, "n width"]:
        """The fused vectors of the questions, each with the history that its shopper had then."""
        ids = shopper_ids(self.retriever.shopper, asked.history)
        return self.retriever.encoder.queries(asked.queries, asked.users, ids)

    def look(
        self,
        queries: Sequence[str],
        vectors: Float32[np.ndarray, "n width"],
        say: Progress,
        others: Sequence[Int64[np.ndarray, " _"]] | None = None,
    ) -> Looked:
        """The first 1,000 by every channel, in one pass, and the probabilities of the best hits and of `others`."""
        n = len(queries)
        rankings = {channel: np.full((n, DEPTH), -1, np.int64) for channel in self.names}
        hits = []
        for place, one in enumerate(self.retriever.considered(queries, vectors, DEPTH)):
            for channel, ranked in rankings.items():
                rows = one.rows(channel)[:DEPTH]
                ranked[place, : len(rows)] = rows
            hits.append(one.calibrated(HITS, NO_ROWS if others is None else others[place]))
            if place % _SAY_EVERY == 0:
                say(f"rank with {self.name}", place, n)
        say(f"rank with {self.name}", n, n)
        return Looked({self.names[channel]: ranked for channel, ranked in rankings.items()}, hits)

    def agreement(self, vectors: Float32[np.ndarray, "n width"], looked: Looked) -> list[dict[str, str | int | float]]:
        """How much of the exact ranking by vectors the index finds; nothing where the index is exact itself."""
        kind = artifact.read_manifest(self.run / "index", "index").config["kind"]
        if kind == "exact":
            return []
        base = self.retriever.indexed.base.vectors
        index = build(IndexConfig(kind="exact"), base, np.arange(len(base), dtype=np.int64))
        exact = index.search(vectors[:AGREED_ON], DEPTH).ids
        found = looked.rankings[self.names["vector"]][:AGREED_ON]
        said: dict[str, str | int | float] = {"index": f"{self.names['vector']}, {kind}"}
        for k in (10, 100, 1000):
            shared = [np.isin(a[:k][a[:k] >= 0], b[:k]).sum() for a, b in zip(exact, found, strict=True)]
            said[f"of the exact top {k}"] = round(float(np.sum(shared) / max(1, (exact[:, :k] >= 0).sum())), 4)
        return [said]
