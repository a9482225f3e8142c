"""A map of the catalogue: a sample of its items laid out in the plane, names of regions, and the position of a query.

Items whose vectors have a large inner product lie close together (t-SNE). Items that are close are similar; large
distances mean nothing more than "not close". The map is for people to explore; no search reads it.
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
from mmse.core.config import plain_values, require
from mmse.core.errors import ArtifactError
from mmse.core.run_folder import DATASET, MAP, VECTORS, require_lineage
from mmse.dataset.folder import DatasetFolder, ItemStats
from mmse.index.embedding import open_array
from mmse.schema.value_sets import first_value

XY_FILE = "places.npy"
ROWS_FILE = "rows.npy"
REGIONS_FILE = "regions.json"
MIN_T_SNE_ITEMS = 10
"""With fewer items, the two main directions are the layout: t-SNE would have no neighbourhoods to preserve."""
ISLAND_RADIUS = 0.12
"""The largest distance between two items of one island, on a map that is 2 wide."""
CATEGORY_REACH = 0.3
"""The radius used to find the densest spot of a top category; a category at depth d has this divided by d."""
EXAGGERATED_STEPS, FREE_STEPS = 100, 250
"""Steps of the layout; 150 and 350 took half as long again and looked the same on 5,000 simulated items."""


@dataclass(frozen=True)
class MapConfig:
    """The map has `items` items of the catalogue (all if there are fewer) and at most `regions` names.

    `perplexity` is about the number of neighbours that an item is kept close to; it is lowered for few items.
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
    """The name of a category on the map, at the spot where the category is densest.

    `level` is the category's depth from 1, `weight` the share of the map's items that belong to it.
    """

    name: str
    x: float
    y: float
    weight: float
    level: int


@dataclass(frozen=True)
class MapPosition:
    """The position of a query: near the items that it is most similar to.

    `share` (0 to 1) is how much of its similarity lies on this island and not on others; `spread` is the root mean
    square distance of all similar items from the position, on a map that is 2 wide.
    """

    x: float
    y: float
    share: float
    spread: float


@final
class CatalogueMap:
    """A saved map: the positions `xy` of the items in `rows`, both in order of item row, and the named `regions`."""

    def __init__(
        self, rows: Int64[np.ndarray, " n"], xy: Float32[np.ndarray, "n 2"], regions: tuple[Region, ...]
    ) -> None:
        self.rows = rows
        self.xy = xy
        self.regions = regions

    @classmethod
    def open(cls, folder: Path) -> CatalogueMap:
        """The map in `folder`; raises `ArtifactError` where it is missing or damaged."""
        artifact.verify(folder, MAP)
        try:
            rows, xy = (np.load(folder / name, allow_pickle=False) for name in (ROWS_FILE, XY_FILE))
            regions = msgspec.json.decode((folder / REGIONS_FILE).read_bytes(), type=tuple[Region, ...])
        except (OSError, ValueError, msgspec.ValidationError) as error:
            raise ArtifactError(f"Cannot read the map in {folder}: {error}.", "Run `mmse map` again.") from error
        return cls(rows, xy, regions)

    def locate(
        self, query: Float[np.ndarray, " d"], vectors: Float[np.ndarray, "n d"], *, nearest: int = 15
    ) -> MapPosition:
        """The position of `query`, from the `nearest` items of the map; `vectors` are those of the items in `rows`.

        The mean of positions on two islands would lie between them, so the mean is taken over the island with the most
        similarity. Items are weighted by a softmax over inner products, in units of a third of the difference between
        the best and the last of the nearest items.
        """
        scores = (vectors @ query).astype(np.float64)
        nearest_rows = np.argsort(-scores, kind="stable")[:nearest]
        best = scores[nearest_rows] - scores[nearest_rows[0]]
        weights = np.exp(3 * best / max(-best[-1], 1e-12))
        weights /= weights.sum()
        xy = self.xy[nearest_rows].astype(np.float64)
        is_near = np.linalg.norm(xy[:, None] - xy[None], axis=2) <= ISLAND_RADIUS
        island = is_near[np.argmax(is_near @ weights)]
        share = float(weights[island].sum())
        x, y = weights[island] @ xy[island] / share
        spread = float(np.sqrt(weights @ ((xy - (x, y)) ** 2).sum(axis=1)))
        return MapPosition(float(x), float(y), min(share, 1.0), spread)


def draw_map(dataset: Path, vectors: Path, target: Path, config: MapConfig) -> Manifest:
    """Lays out the items of `dataset` by their `vectors` into the folder `target`.

    Raises `ArtifactError` where `vectors` were not made from `dataset`. The same inputs give the same bytes.
    """
    manifests = {DATASET: artifact.verify(dataset, DATASET), VECTORS: artifact.verify(vectors, VECTORS)}
    require_lineage(manifests, target.parent)
    stats = ItemStats.open(dataset)
    rows = sample_rows(stats.at(stats.snapshots.end)[:, 1:].sum(axis=1), config)
    xy = lay_out(np.asarray(open_array(vectors)[rows], np.float32), config)
    table = pq.read_table(DatasetFolder(dataset).items)
    categories = table["category"].take(rows).to_pylist() if "category" in table.column_names else [None] * len(rows)
    regions = name_regions([first_value(cell) for cell in categories], xy, config.regions)
    inputs = {kind: manifest.fingerprint for kind, manifest in manifests.items()}
    with artifact.write_folder(target, kind=MAP, config=plain_values(config), inputs=inputs) as draft:
        np.save(draft.folder / XY_FILE, xy, allow_pickle=False)
        np.save(draft.folder / ROWS_FILE, rows, allow_pickle=False)
        text = json.dumps([plain_values(region) for region in regions], indent=2, ensure_ascii=False)
        (draft.folder / REGIONS_FILE).write_text(text + "\n", "utf-8")
        draft.counts |= {"items": len(rows), "regions": len(regions)}
    return artifact.read_manifest(target, MAP)


def sample_rows(popularity: Int64[np.ndarray, " items"], config: MapConfig) -> Int64[np.ndarray, " n"]:
    """The rows of the map, ascending: up to half of them sampled by how often they were clicked, the others uniformly.

    Taking the largest values of log popularity plus Gumbel noise is sampling by popularity without replacement.
    """
    if len(popularity) <= config.items:
        return np.arange(len(popularity), dtype=np.int64)
    rng = np.random.default_rng(config.seed)
    clicked_rows = np.flatnonzero(popularity)
    keys = np.log(popularity[clicked_rows]) + rng.gumbel(size=len(clicked_rows))
    popular = clicked_rows[np.argsort(-keys, kind="stable")[: config.items // 2]]
    candidates = np.setdiff1d(np.arange(len(popularity)), popular)
    random_rows = rng.choice(candidates, config.items - len(popular), replace=False)
    return np.sort(np.concatenate([popular, random_rows])).astype(np.int64)


def lay_out(vectors: Float32[np.ndarray, "n d"], config: MapConfig) -> Float32[np.ndarray, "n 2"]:
    """A position in [-1, 1]² for each vector, with the same unit on both axes; the metric is the cosine.

    All views of an item have length 1, so apart from the small conversion view this is the inner product.
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(length, 1e-12)
    with threadpool_limits(limits=1):  # more threads would sum in another order and give another map
        start = _main_directions(unit)
        positions = start if len(unit) < MIN_T_SNE_ITEMS else _t_sne(unit, start, config)
    low, high = positions.min(axis=0), positions.max(axis=0)
    reach = (high - low).max() / 2
    centred_xy = positions - (low + high) / 2
    xy: Float32[np.ndarray, "n 2"] = np.clip(centred_xy / reach if reach > 0 else centred_xy, -1, 1).astype(np.float32)
    return xy


def _t_sne(
    unit: Float32[np.ndarray, "n d"], start: Float64[np.ndarray, "n 2"], config: MapConfig
) -> Float64[np.ndarray, "n 2"]:
    """The t-SNE layout; it starts from the main directions and a little noise, which separates equal vectors."""
    from openTSNE import TSNE  # type: ignore[import-untyped]  # takes seconds to import
    from openTSNE.affinity import PerplexityBasedNN  # type: ignore[import-untyped]
    from openTSNE.nearest_neighbors import PrecomputedNeighbors  # type: ignore[import-untyped]

    perplexity = min(config.perplexity, (len(unit) - 1) / 3)
    neighbours, distances = _find_neighbours(unit, int(3 * perplexity))
    affinities = PerplexityBasedNN(knn_index=PrecomputedNeighbors(neighbours, distances), perplexity=perplexity)
    rng = np.random.default_rng(config.seed)
    noisy_start = start / max(start[:, 0].std(), 1e-12) * 1e-4 + rng.normal(scale=1e-5, size=start.shape)
    embedding = TSNE(
        n_iter=FREE_STEPS,
        early_exaggeration_iter=EXAGGERATED_STEPS,
        negative_gradient_method="bh",
        theta=0.8,
        random_state=config.seed,
    ).fit(affinities=affinities, initialization=noisy_start)
    xy: Float64[np.ndarray, "n 2"] = np.array(embedding, np.float64)
    return xy


def _find_neighbours(
    unit: Float32[np.ndarray, "n d"], k: int
) -> tuple[Int64[np.ndarray, "n k"], Float64[np.ndarray, "n k"]]:
    """The exact `k` nearest neighbours of each row, without the row itself, and their distances."""
    index = faiss.IndexFlatL2(unit.shape[1])
    index.add(unit)
    _, rows = index.search(unit, k + 1)
    is_own = rows == np.arange(len(unit))[:, None]
    is_own[~is_own.any(axis=1), -1] = True  # among many equal vectors a row may miss itself: then drop the last one
    neighbours = rows[~is_own].reshape(-1, k)
    distances = np.empty(neighbours.shape, np.float64)
    for row, others in enumerate(neighbours):  # a product of matrices, as Faiss may use, does not find equal ones equal
        distances[row] = np.linalg.norm(unit[others] - unit[row], axis=1)
    return neighbours, distances


def _main_directions(unit: Float32[np.ndarray, "n d"]) -> Float64[np.ndarray, "n 2"]:
    """The two main components of the vectors; the sign of each is that of its largest weight."""
    centred_vectors = unit.astype(np.float64) - unit.mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred_vectors.T @ centred_vectors)
    two = np.zeros((unit.shape[1], 2))
    two[:, : min(2, unit.shape[1])] = directions[:, :-3:-1]
    largest = two[np.abs(two).argmax(axis=0), (0, 1)]
    components: Float64[np.ndarray, "n 2"] = centred_vectors @ (two * np.where(largest < 0, -1.0, 1.0))
    return components


def name_regions(categories: list[str | None], xy: Float32[np.ndarray, "n 2"], limit: int) -> tuple[Region, ...]:
    """At most `limit` names: up to half of them for the largest top categories, then the largest other categories.

    Each name is placed where the category's items are densest. A category with all items of its parent is left out.
    """
    members: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for position, category in enumerate(categories):
        path = tuple(filter(None, (part.strip() for part in (category or "").split(">"))))
        for depth in range(1, len(path) + 1):
            members[path[:depth]].append(position)
    paths = [path for path in members if len(path) == 1 or len(members[path]) < len(members[path[:-1]])]
    paths.sort(key=lambda path: (-len(members[path]), path))
    tops = [path for path in paths if len(path) == 1][: (limit + 1) // 2]
    selection = (tops + [path for path in paths if path not in tops])[:limit]
    return tuple(_place_region(path, xy[members[path]], len(xy)) for path in selection)


def _place_region(path: tuple[str, ...], xy: Float32[np.ndarray, "m 2"], n_items: int) -> Region:
    tree = cKDTree(xy)
    reach = CATEGORY_REACH / len(path)
    counts = tree.query_ball_point(xy, reach, return_length=True)
    centre = xy[tree.query_ball_point(xy[np.argmax(counts)], reach)].mean(axis=0, dtype=np.float64)
    x, y = (round(float(value), 4) for value in centre)
    return Region(path[-1], x, y, round(len(xy) / n_items, 4), len(path))
