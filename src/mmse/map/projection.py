"""A map of the catalogue: a sample of its items laid out in the plane, with names, and where a query lies on it.

Items whose vectors have a large inner product lie close (t-SNE). Distances across the map mean nothing: what is near
is alike, what is far is merely not near. The map is for wandering; no search reads it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import final

import faiss
import msgspec
import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float, Float32, Float64, Int64
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.config import plain, require
from mmse.core.errors import ArtifactError
from mmse.dataset.folder import ItemStats
from mmse.index.embedding import open_array

KIND = "map"
PLACES = "places.npy"
ROWS = "rows.npy"
REGIONS = "regions.json"
FEW = 10
"""Below this many items the two main directions are the layout: t-SNE has no neighbourhoods to keep."""
NEAR = 0.12
"""How far apart two items of one island lie at most, where the map is 2 wide."""
BROAD = 0.3
"""How far a top category is taken to reach when its densest spot is sought; half as far one level down, and so on."""
EXAGGERATED, FREE = 100, 250
"""Steps of the layout; 150 and 350 took half as long again and looked the same on 5,000 simulated items."""


@dataclass(frozen=True)
class MapConfig:
    """How the map is drawn: `items` of the catalogue (all if there are fewer), and at most `regions` names on it.

    `perplexity` is about how many neighbours an item is kept close to; few items lower it.
    """

    items: int = 5_000
    perplexity: float = 20.0
    regions: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.items >= 1, "items", self.items, "at least 1")
        require(2 <= self.perplexity <= 500, "perplexity", self.perplexity, "2 to 500")
        require(self.regions >= 0, "regions", self.regions, "0 or more")
        require(self.seed >= 0, "seed", self.seed, "0 or more")


@dataclass(frozen=True)
class Region:
    """A name to write on the map, where the category that bears it is densest.

    `level` is the category's depth from 1, `weight` the share of the drawn items that belong to it.
    """

    name: str
    x: float
    y: float
    weight: float
    level: int


@dataclass(frozen=True)
class Place:
    """Where a query lies: among the nearest of the items it is most similar to.

    `share` (0 to 1) is how much of its similarity lies there, and not on other islands; `spread` is how far all that
    it is similar to lies from the place (root mean square, where the map is 2 wide).
    """

    x: float
    y: float
    share: float
    spread: float


@final
class Atlas:
    """A map that is read: `places` of the items in `rows`, both in order of item row, and the names of `regions`."""

    def __init__(
        self, rows: Int64[np.ndarray, " n"], places: Float32[np.ndarray, "n 2"], regions: tuple[Region, ...]
    ) -> None:
        self.rows = rows
        self.places = places
        self.regions = regions

    @classmethod
    def open(cls, folder: Path) -> Atlas:
        """The map in `folder`; raises `ArtifactError` where it is missing or damaged."""
        artifact.verify(folder, KIND)
        try:
            rows, places = (np.load(folder / name, allow_pickle=False) for name in (ROWS, PLACES))
            regions = msgspec.json.decode((folder / REGIONS).read_bytes(), type=tuple[Region, ...])
        except (OSError, ValueError, msgspec.ValidationError) as error:
            raise ArtifactError(f"Cannot read the map in {folder}: {error}.", "Run `mmse map` again.") from error
        return cls(rows, places, regions)

    def place(self, query: Float[np.ndarray, " d"], vectors: Float[np.ndarray, "n d"], *, nearest: int = 15) -> Place:
        """Where `query` lies among its `nearest` drawn items; `vectors` are the fused vectors of the items in `rows`.

        The mean of places on two islands would lie in the sea between them, so the place is a mean over one island
        alone: that where most of the similarity is. Each item counts by a softmax over inner products, in units of a
        third of what lies between the best and the last of them.
        """
        scores = (vectors @ query).astype(np.float64)
        found = np.argsort(-scores, kind="stable")[:nearest]
        best = scores[found] - scores[found[0]]
        weights = np.exp(3 * best / max(-best[-1], 1e-12))
        weights /= weights.sum()
        places = self.places[found].astype(np.float64)
        near = np.linalg.norm(places[:, None] - places[None], axis=2) <= NEAR
        island = near[np.argmax(near @ weights)]
        share = float(weights[island].sum())
        x, y = weights[island] @ places[island] / share
        spread = float(np.sqrt(weights @ ((places - (x, y)) ** 2).sum(axis=1)))
        return Place(float(x), float(y), min(share, 1.0), spread)


def draw_map(dataset: Path, vectors: Path, out: Path, config: MapConfig) -> Manifest:
    """Lays out the items of `dataset` by their `vectors` into the folder `out`.

    Raises `ArtifactError` where `vectors` were not made from `dataset`. The same inputs give the same bytes.
    """
    mined, embedded = artifact.verify(dataset, "dataset"), artifact.verify(vectors, "vectors")
    if embedded.inputs["dataset"] != mined.fingerprint:
        raise ArtifactError(f"{vectors} was made from another dataset than {dataset}.", "Run `mmse embed` again.")
    stats = ItemStats.open(dataset)
    rows = sample(stats.at(stats.snapshots.end)[:, 1:].sum(axis=1), config)
    places = layout(np.asarray(open_array(vectors)[rows], np.float32), config)
    table = pq.read_table(dataset / "items.parquet")
    categories = table["category"].take(rows).to_pylist() if "category" in table.column_names else [None] * len(rows)
    regions = name_regions(categories, places, config.regions)
    inputs = {"dataset": mined.fingerprint, "vectors": embedded.fingerprint}
    with artifact.writing(out, kind=KIND, config=plain(config), inputs=inputs) as draft:
        np.save(draft.folder / PLACES, places, allow_pickle=False)
        np.save(draft.folder / ROWS, rows, allow_pickle=False)
        said = json.dumps([plain(region) for region in regions], indent=2, ensure_ascii=False)
        (draft.folder / REGIONS).write_text(said + "\n", "utf-8")
        draft.counts |= {"items": len(rows), "regions": len(regions)}
    return artifact.read_manifest(out, KIND)


def sample(popularity: Int64[np.ndarray, " items"], config: MapConfig) -> Int64[np.ndarray, " n"]:
    """The rows to draw, ascending: up to half of them at random by how often they were clicked, the rest at random.

    Drawn by the size of log popularity plus Gumbel noise: sampling without replacement, by popularity.
    """
    if len(popularity) <= config.items:
        return np.arange(len(popularity), dtype=np.int64)
    rng = np.random.default_rng(config.seed)
    known = np.flatnonzero(popularity)
    keys = np.log(popularity[known]) + rng.gumbel(size=len(known))
    popular = known[np.argsort(-keys, kind="stable")[: config.items // 2]]
    others = np.setdiff1d(np.arange(len(popularity)), popular)
    rest = rng.choice(others, config.items - len(popular), replace=False)
    return np.sort(np.concatenate([popular, rest])).astype(np.int64)


def layout(vectors: Float32[np.ndarray, "n d"], config: MapConfig) -> Float32[np.ndarray, "n 2"]:
    """A place in [-1, 1]² for each vector, in one unit on both axes; the metric is the cosine.

    The views of an item are each of length 1, so but for the small number of what sells it is the inner product.
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(length, 1e-12)
    with threadpool_limits(limits=1):  # sums in another order, as more threads make them, would lead to another map
        start = _main_directions(unit)
        places = start if len(unit) < FEW else _t_sne(unit, start, config)
    low, high = places.min(axis=0), places.max(axis=0)
    reach = (high - low).max() / 2
    centred = places - (low + high) / 2
    scaled: Float32[np.ndarray, "n 2"] = np.clip(centred / reach if reach > 0 else centred, -1, 1).astype(np.float32)
    return scaled


def _t_sne(
    unit: Float32[np.ndarray, "n d"], start: Float64[np.ndarray, "n 2"], config: MapConfig
) -> Float64[np.ndarray, "n 2"]:
    """The t-SNE layout, from the main directions and a trace of noise, which tells equal vectors apart."""
    from openTSNE import TSNE  # type: ignore[import-untyped]  # takes seconds to import
    from openTSNE.affinity import PerplexityBasedNN  # type: ignore[import-untyped]
    from openTSNE.nearest_neighbors import PrecomputedNeighbors  # type: ignore[import-untyped]

    perplexity = min(config.perplexity, (len(unit) - 1) / 3)
    near, distances = _neighbours(unit, int(3 * perplexity))
    affinities = PerplexityBasedNN(knn_index=PrecomputedNeighbors(near, distances), perplexity=perplexity)
    rng = np.random.default_rng(config.seed)
    first = start / max(start[:, 0].std(), 1e-12) * 1e-4 + rng.normal(scale=1e-5, size=start.shape)
    drawn = TSNE(
        n_iter=FREE,
        early_exaggeration_iter=EXAGGERATED,
        negative_gradient_method="bh",
        theta=0.8,
        random_state=config.seed,
    ).fit(affinities=affinities, initialization=first)
    places: Float64[np.ndarray, "n 2"] = np.array(drawn, np.float64)
    return places


def _neighbours(
    unit: Float32[np.ndarray, "n d"], k: int
) -> tuple[Int64[np.ndarray, "n k"], Float64[np.ndarray, "n k"]]:
    """The `k` nearest others of each row, exactly, and their distances."""
    index = faiss.IndexFlatL2(unit.shape[1])
    index.add(unit)
    squared, found = index.search(unit, k + 1)
    own = found == np.arange(len(unit))[:, None]
    own[~own.any(axis=1), -1] = True  # among many equal vectors a row may miss itself: the last one goes
    return found[~own].reshape(-1, k), np.sqrt(np.maximum(squared[~own], 0)).reshape(-1, k).astype(np.float64)


def _main_directions(unit: Float32[np.ndarray, "n d"]) -> Float64[np.ndarray, "n 2"]:
    """The two main components of the vectors; the sign of each is that of its largest weight."""
    centred = unit.astype(np.float64) - unit.mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    two = np.zeros((unit.shape[1], 2))
    two[:, : min(2, unit.shape[1])] = directions[:, :-3:-1]
    largest = two[np.abs(two).argmax(axis=0), (0, 1)]
    components: Float64[np.ndarray, "n 2"] = centred @ (two * np.where(largest < 0, -1.0, 1.0))
    return components


def name_regions(categories: list[str | None], places: Float32[np.ndarray, "n 2"], most: int) -> tuple[Region, ...]:
    """At most `most` names: the largest top categories for up to half of them, then the largest of what is left.

    Each stands where its own items are densest. A category that has all items of the one above it is left out.
    """
    members: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for position, category in enumerate(categories):
        path = tuple(filter(None, (part.strip() for part in (category or "").split(">"))))
        for depth in range(1, len(path) + 1):
            members[path[:depth]].append(position)
    told = [path for path in members if len(path) == 1 or len(members[path]) < len(members[path[:-1]])]
    told.sort(key=lambda path: (-len(members[path]), path))
    tops = [path for path in told if len(path) == 1][: (most + 1) // 2]
    chosen = (tops + [path for path in told if path not in tops])[:most]
    return tuple(_region(path, places[members[path]], len(places)) for path in chosen)


def _region(path: tuple[str, ...], places: Float32[np.ndarray, "m 2"], drawn: int) -> Region:
    tree = cKDTree(places)
    reach = BROAD / len(path)
    counts = tree.query_ball_point(places, reach, return_length=True)
    centre = places[tree.query_ball_point(places[np.argmax(counts)], reach)].mean(axis=0, dtype=np.float64)
    x, y = (round(float(value), 4) for value in centre)
    return Region(path[-1], x, y, round(len(places) / drawn, 4), len(path))
