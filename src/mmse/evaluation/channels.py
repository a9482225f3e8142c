"""The run under evaluation: its hybrid ranking as it is served, and each of its channels alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, Int64

from mmse.core.errors import ArtifactError
from mmse.core.progress import Progress
from mmse.core.run_folder import INDEX, MODEL, RANKING, VECTORS, RunFolder
from mmse.dataset.folder import TEST, DatasetFolder
from mmse.index import IndexConfig, build
from mmse.model.inputs import look_up_traits
from mmse.retrieval.channel_rankings import CalibratedHits
from mmse.retrieval.query_context import NO_ROWS
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Channel

CUTS = (10, 50, 100, 500, 1000)
DEPTH = max(CUTS)
HITS = 100
"""The number of hits of a request whose probabilities are evaluated."""
AGREEMENT_REQUESTS = 1_000
"""The number of requests on which the index is compared with exact search."""

_PROGRESS_EVERY = 64


@dataclass(frozen=True)
class QueryBatch:
    """Queries, their shoppers, and the item rows that each shopper clicked or ordered before (-1 for none)."""

    queries: list[str]
    users: list[str | None]
    history: Int32[np.ndarray, "n length"]

    def __len__(self) -> int:
        return len(self.queries)


@dataclass(frozen=True)
class ChannelResults:
    """What the query path returns for each query: rankings by name, `hybrid` first, and hits with probabilities."""

    rankings: dict[str, Int64[np.ndarray, "n depth"]]
    hits: list[CalibratedHits]


@dataclass(frozen=True)
class Subject:
    """The run that an evaluation is about: its retriever without edits, and its recipe's name."""

    run: RunFolder
    retriever: Retriever
    name: str

    @classmethod
    def open(cls, path: Path) -> Subject:
        """The run in the folder `path`.

        Raises `ArtifactError` if its folders do not fit together, or its vectors, or what it remembers, already know
        the test window.
        """
        run, retriever = RunFolder(path), Retriever.open(path, edits=False)
        as_of = run.manifest(VECTORS).config["as_of"]
        if as_of != "test" and DatasetFolder(run.dataset).row_files(TEST):
            raise ArtifactError(
                f"{run.vectors} was embedded as of '{as_of}': it knows the test window's orders.",
                "Run `mmse embed --as-of test` again before evaluating.",
            )
        if retriever.ranking.fusion.remembers and run.manifest(RANKING).config["as_of"] != as_of:
            raise ArtifactError(
                f"{run.ranking} remembers another part of the log than {run.vectors} knows (as of '{as_of}').",
                "Run `mmse rank` again before evaluating.",
            )
        return cls(run, retriever, str(run.manifest(MODEL).config["recipe"]))

    @property
    def names(self) -> dict[Channel, str]:
        """The name of each channel in a report; `hybrid`, which is served, has the recipe's own name."""
        single: tuple[Channel, ...] = ("vector", "lexical", "rrf")
        names: dict[Channel, str] = {channel: f"{self.name} ({channel})" for channel in single}
        return {"hybrid": self.name, **names}

    def vectors(self, batch: QueryBatch) -> Float32[np.ndarray, "n width"]:
        """The fused vectors of the queries, each with the history that its shopper had then."""
        ids = look_up_traits(self.retriever.shopper_columns, batch.history)
        return self.retriever.encoder.embed_queries_compiled(self.retriever.spell(batch.queries), batch.users, ids)

    def rank(
        self,
        queries: Sequence[str],
        vectors: Float32[np.ndarray, "n width"],
        progress: Progress,
        extra_rows: Sequence[Int64[np.ndarray, " _"]] | None = None,
    ) -> ChannelResults:
        """The first 1,000 rows by every channel, in one pass, and the probabilities of the best hits.

        `extra_rows` are further item rows of each query whose probabilities are computed too.
        """
        n = len(queries)
        rankings = {channel: np.full((n, DEPTH), -1, np.int64) for channel in self.names}
        hits = []
        spelt_queries = self.retriever.spell(queries)
        for index, channel_rankings in enumerate(self.retriever.search_channels(spelt_queries, vectors, DEPTH)):
            for channel, ranking in rankings.items():
                rows = channel_rankings.rows(channel)
                ranking[index, : len(rows)] = rows
            hits.append(channel_rankings.calibrate(HITS, NO_ROWS if extra_rows is None else extra_rows[index]))
            if index % _PROGRESS_EVERY == 0:
                progress(f"rank with {self.name}", index, n)
        progress(f"rank with {self.name}", n, n)
        return ChannelResults({self.names[channel]: ranking for channel, ranking in rankings.items()}, hits)

    def agreement(
        self, vectors: Float32[np.ndarray, "n width"], results: ChannelResults
    ) -> list[dict[str, str | int | float]]:
        """The share of the exact ranking by vectors that the index finds; empty if the index is exact itself."""
        kind = self.run.manifest(INDEX).config["kind"]
        if kind == "exact":
            return []
        base = self.retriever.indexed_snapshot.base.vectors
        index = build(IndexConfig(kind="exact"), base, np.arange(len(base), dtype=np.int64))
        exact = index.search(vectors[:AGREEMENT_REQUESTS], DEPTH).ids
        approximate = results.rankings[self.names["vector"]][:AGREEMENT_REQUESTS]
        record: dict[str, str | int | float] = {"index": f"{self.names['vector']}, {kind}"}
        for k in (10, 100, 1000):
            n_common = [np.isin(a[:k][a[:k] >= 0], b[:k]).sum() for a, b in zip(exact, approximate, strict=True)]
            record[f"of the exact top {k}"] = round(float(np.sum(n_common) / max(1, (exact[:, :k] >= 0).sum())), 4)
        return [record]
