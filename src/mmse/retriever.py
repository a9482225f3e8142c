"""The query path: a query and its shopper in, hits out. Evaluation, the command line and HTTP all use this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float32, Int32

from mmse import artifact
from mmse.embed import SHOPPER, open_array
from mmse.errors import ArtifactError, UsageError
from mmse.index import Index, open_index
from mmse.lexical import words
from mmse.mining.history import History
from mmse.model.encoder import Encoder
from mmse.model.features import shopper_ids
from mmse.model.fusion import view_scores
from mmse.records import Hit

_LATEST = np.iinfo(np.int64).max
_MADE_FROM = (
    ("vectors", "groups", "from other groups", "`mmse train`, `mmse embed` and `mmse index`"),
    ("vectors", "model", "by another model", "`mmse embed` and `mmse index`"),
    ("index", "model", "by another model", "`mmse embed` and `mmse index`"),
    ("index", "vectors", "from other vectors", "`mmse index`"),
)
"""What was made from what in a run folder, how that is said, and what puts it right."""


@dataclass(frozen=True)
class Retriever:
    """A model, an index of its vectors and the items behind them."""

    encoder: Encoder
    index: Index
    items: pa.Table
    vectors: Float32[np.ndarray, "items width"]
    shopper: Int32[np.ndarray, "items shopper"]
    history: History

    @classmethod
    def open(cls, run: Path) -> Retriever:
        """The retriever of a run folder (`groups/ model/ vectors/ index/`).

        Raises `ArtifactError` where a folder is missing or damaged, or was not made from the others.
        """
        made = {kind: artifact.verify(run / kind, kind) for kind in ("groups", "model", "vectors", "index")}
        for kind, name, by, again in _MADE_FROM:
            then, now = made[kind].inputs.get(name), made[name].fingerprint
            if then != now:
                raise ArtifactError(
                    f"{run / kind} was made {by} (fingerprint {then}) than {run / name} (fingerprint {now}): "
                    "their scores would mean nothing.",
                    f"Run {again} again.",
                )
        return cls(
            encoder=Encoder.open(run / "model"),
            index=open_index(run / "index"),
            items=pq.read_table(run / "groups" / "items.parquet"),
            vectors=open_array(run / "vectors"),
            shopper=open_array(run / "vectors", SHOPPER),
            history=History.open(run / "groups"),
        )

    def query_vectors(
        self, queries: Sequence[str], users: Sequence[str | None] | None = None
    ) -> Float32[np.ndarray, "n width"]:
        """The fused vectors of `queries`, each by its shopper with all the history that the log has of them."""
        shoppers = list(users) if users is not None else [None] * len(queries)
        history = self.history.before(shoppers, np.full(len(shoppers), _LATEST)).item_rows
        return self.encoder.queries(queries, shoppers, shopper_ids(self.shopper, history))

    def search(self, query: str, k: int = 10, user_id: str | None = None) -> list[Hit]:
        """The `k` best items for `query`, best first; fewer only where the catalogue has fewer.

        Raises `UsageError` for a query without a word or a `k` below 1.
        """
        if not query.strip():
            raise UsageError("The query is empty.", "Give at least one word.")
        if k < 1:
            raise UsageError(f"k is {k}, expected at least 1.", "Ask for one hit or more.")
        vector = self.query_vectors([query], [user_id])
        rows = self.index.search(vector, k).ids[0]
        rows = rows[rows >= 0]
        rows = rows[np.argsort(-(self.vectors[rows] @ vector[0]), kind="stable")]  # the index's codes are rounded
        asked = set(words(query))
        return [self._hit(rank + 1, int(row), vector[0], asked) for rank, row in enumerate(rows)]

    def _hit(self, rank: int, row: int, query: Float32[np.ndarray, " width"], asked: set[str]) -> Hit:
        item = {name: value for name, value in self.items.slice(row, 1).to_pylist()[0].items() if value is not None}
        pair = torch.from_numpy(np.stack([query, self.vectors[row]])).unsqueeze(1)
        shares = view_scores(pair[0], pair[1], len(self.encoder.views))[0]
        text = self.encoder.space.item_texts(self.items.slice(row, 1))[0]
        return Hit(
            rank=rank,
            item_id=item["item_id"],
            title=item["title"],
            score=float(shares.sum()),
            parts=dict(zip(self.encoder.views, shares.tolist(), strict=True)),
            matched=tuple(w for w in dict.fromkeys(words(text)) if w in asked),
            item=item,
        )
