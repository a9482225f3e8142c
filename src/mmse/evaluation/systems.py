"""The systems that an evaluation compares: each ranks the whole catalogue for the same questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float32, Int, Int32

from mmse import artifact
from mmse.embed import open_array
from mmse.errors import ArtifactError
from mmse.index import IndexConfig, build, open_index
from mmse.lexical import Bm25
from mmse.mining.groups import ItemStats
from mmse.model.encoder import Encoder
from mmse.model.features import ItemFeatures, shopper_ids, statistics

_BLOCK = 1_024


@dataclass(frozen=True)
class Questions:
    """What is asked: queries, by whom, and the item rows that each shopper had taken before (-1 for none)."""

    queries: list[str]
    users: list[str | None]
    history: Int32[np.ndarray, "n length"]

    def __len__(self) -> int:
        return len(self.queries)


Ranker = Callable[[Questions, int], Int[np.ndarray, "n depth"]]
"""Ranks the catalogue: item rows, best first, padded with -1."""


@dataclass(frozen=True)
class System:
    """A named way to rank; `ours` marks the model of the run, `approximate` the same through its index."""

    name: str
    rank: Ranker
    ours: bool = False
    approximate: bool = False


def systems_of(run: Path) -> list[System]:
    """Our model exact and through its index, then every model under `baselines/`, BM25 and popularity.

    Raises `ArtifactError` where the run's folders do not belong together, or where its vectors know the test window.
    """
    groups, vectors = run / "groups", artifact.verify(run / "vectors", "vectors")
    mined, model = artifact.read_manifest(groups, "groups"), artifact.verify(run / "model", "model")
    if vectors.inputs["model"] != model.fingerprint:
        raise ArtifactError(
            f"{run / 'vectors'} was made by another model than {run / 'model'}.", "Run `mmse embed` again."
        )
    if vectors.inputs["groups"] != mined.fingerprint:
        raise ArtifactError(
            f"{run / 'vectors'} was made from other groups than {groups}.", "Run `mmse train` and `mmse embed` again."
        )
    if vectors.config["as_of"] != "test" and any((groups / "test").glob("*.parquet")):
        raise ArtifactError(
            f"{run / 'vectors'} was embedded as of '{vectors.config['as_of']}': it knows the test window's orders.",
            "Run `mmse embed --as-of test` again before evaluating.",
        )
    items = pq.read_table(groups / "items.parquet")
    stats = ItemStats.open(groups)
    encoder, name = Encoder.open(run / "model"), str(model.config["recipe"])
    features = encoder.encode_items(items)
    ours = [System(name, _by_vectors(encoder, features, open_array(run / "vectors")), ours=True)]
    if (run / "index").is_dir():
        ours += _through_index(run, vectors.fingerprint, name, encoder, features)
    others = []
    for folder in sorted((run / "baselines").glob("*/manifest.json")):
        if artifact.verify(folder.parent, "model").inputs["groups"] != mined.fingerprint:
            raise ArtifactError(
                f"{folder.parent} was trained on other groups than {groups}.",
                f"Run `mmse run` again, or delete {folder.parent} where it is no longer wanted.",
            )
        other = Encoder.open(folder.parent)
        described = other.encode_items(items)
        embedded = other.items(described, statistics(stats.at(stats.snapshots.test)))
        others.append(System(folder.parent.name, _by_vectors(other, described, embedded)))
    lexical = System("bm25", _by_words(Bm25.build(encoder.space.item_texts(items))))
    return [*ours, *others, lexical, System("popularity", _by_popularity(stats))]


def _through_index(run: Path, vectors: str, name: str, encoder: Encoder, features: ItemFeatures) -> list[System]:
    """Our model through the run's index; none where that is exact, as the ranking by its vectors is the same."""
    index = artifact.verify(run / "index", "index")
    if index.inputs["vectors"] != vectors:
        raise ArtifactError(
            f"{run / 'index'} was made from other vectors than {run / 'vectors'}.", "Run `mmse index` again."
        )
    if index.config["kind"] == "exact":
        return []
    return [System(f"{name} ({index.config['kind']})", _by_index(encoder, features, run / "index"), approximate=True)]


def _by_vectors(encoder: Encoder, features: ItemFeatures, vectors: Float32[np.ndarray, "items width"]) -> Ranker:
    index = build(IndexConfig(kind="exact"), vectors, np.arange(len(vectors), dtype=np.int64))
    return lambda asked, depth: index.search(_embedded(encoder, features, asked), depth).ids


def _by_index(encoder: Encoder, features: ItemFeatures, folder: Path) -> Ranker:
    index = open_index(folder)
    return lambda asked, depth: index.search(_embedded(encoder, features, asked), depth).ids


def _by_words(bm25: Bm25) -> Ranker:
    return lambda asked, depth: bm25.search(asked.queries, depth).rows


def _by_popularity(stats: ItemStats) -> Ranker:
    shown, clicked, ordered = stats.at(stats.snapshots.test).T
    best = np.lexsort((np.arange(len(shown)), -shown, -clicked, -ordered))
    return lambda asked, depth: np.broadcast_to(best[:depth], (len(asked), min(depth, len(best))))


def _embedded(encoder: Encoder, features: ItemFeatures, asked: Questions) -> Float32[np.ndarray, "n width"]:
    return encoder.queries(asked.queries, asked.users, shopper_ids(features.shopper, asked.history))
