"""The map: the same bytes for the same vectors, alike items close, names where they belong, places of queries."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float32, Int64

from mmse.core import artifact
from mmse.core.errors import ArtifactError, UsageError
from mmse.core.run_folder import MAP, VECTORS
from mmse.dataset.folder import DatasetFolder
from mmse.index.embedding import EmbedConfig, open_array
from mmse.map.projection import (
    ISLAND_RADIUS,
    CatalogueMap,
    MapConfig,
    Region,
    draw_map,
    lay_out,
    name_regions,
    sample_rows,
)
from mmse.pipeline import Listener, make
from mmse.shop import Shop, read_shop

GROUPS = 4


def bunches(n: int, seed: int = 0) -> tuple[Float32[np.ndarray, "n d"], Int64[np.ndarray, " n"]]:
    """Unit vectors in bunches that lie far apart, and the bunch of each."""
    rng = np.random.default_rng(seed)
    bunch = np.arange(n) % GROUPS
    vectors = np.eye(12)[bunch] + rng.normal(scale=0.05, size=(n, 12))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit.astype(np.float32), bunch.astype(np.int64)


def test_alike_items_lie_close() -> None:
    vectors, bunch = bunches(200)
    xy = lay_out(vectors, MapConfig())
    distances = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert np.array_equal(bunch[distances.argmin(axis=1)], bunch)
    inner_distances = distances[(bunch[:, None] == bunch[None]) & np.isfinite(distances)]
    assert inner_distances.mean() < distances[bunch[:, None] != bunch[None]].mean() / 2


def test_the_map_fills_its_square_and_no_more() -> None:
    xy = lay_out(bunches(60)[0], MapConfig())
    extent = xy.max(axis=0) - xy.min(axis=0)
    assert extent.max() == pytest.approx(2, abs=1e-6)
    assert np.abs(xy).max() <= 1
    assert np.allclose(xy.max(axis=0) + xy.min(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 9, 10, 11, 12])
@pytest.mark.parametrize("alike", [False, True])
def test_tiny_catalogues(n: int, alike: bool) -> None:
    vectors = np.ones((n, 6), np.float32) if alike else bunches(n)[0]
    xy = lay_out(vectors, MapConfig())
    assert xy.shape == (n, 2)
    assert xy.dtype == np.float32
    assert np.isfinite(xy).all()
    assert np.abs(xy).max() <= 1
    if n == 2 and not alike:
        assert np.linalg.norm(xy[0] - xy[1]) >= 2 - 1e-6


@pytest.mark.parametrize("width", [1, 2])
def test_vectors_of_few_dimensions(width: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(30, width)).astype(np.float32)
    assert np.isfinite(lay_out(vectors, MapConfig())).all()


def test_many_equal_vectors_are_told_apart_and_stay_together() -> None:
    vectors, _ = bunches(100)
    vectors[:80] = vectors[0]
    xy = lay_out(vectors, MapConfig())
    assert len(np.unique(xy[:80], axis=0)) == 80
    assert np.isfinite(xy).all()
    zero = np.zeros((40, 8), np.float32)
    assert np.isfinite(lay_out(zero, MapConfig())).all()


def test_a_sample_has_what_is_popular_and_what_is_not() -> None:
    popularity = np.zeros(2_000, np.int64)
    popularity[:50] = 1_000_000
    popularity[50:500] = 1
    rows = sample_rows(popularity, MapConfig(items=300))
    assert len(rows) == len(set(rows.tolist())) == 300
    assert np.array_equal(rows, np.sort(rows))
    assert set(range(50)) <= set(rows.tolist()), "what sells is on the map"
    assert (rows >= 500).sum() > 80, "and what nobody has clicked"
    assert np.array_equal(rows, sample_rows(popularity, MapConfig(items=300)))
    assert not np.array_equal(rows, sample_rows(popularity, MapConfig(items=300, seed=1)))
    assert np.array_equal(sample_rows(np.zeros(2_000, np.int64), MapConfig(items=2_000)), np.arange(2_000))
    assert len(sample_rows(np.zeros(2_000, np.int64), MapConfig(items=7))) == 7, "a log without clicks"


def test_names_stand_where_their_items_are_densest() -> None:
    left_xy, right_xy = np.full((10, 2), -0.5), np.full((4, 2), 0.5)
    categories: list[str | None] = [*["Home > Beds"] * 10, "Home > Lamps", "Home>Lamps", "Toys > Dolls", None]
    xy = np.concatenate([left_xy, right_xy]).astype(np.float32)
    assert name_regions(categories, xy, 10) == (
        Region("Home", -0.5, -0.5, round(12 / 14, 4), 1),
        Region("Toys", 0.5, 0.5, round(1 / 14, 4), 1),
        Region("Beds", -0.5, -0.5, round(10 / 14, 4), 2),
        Region("Lamps", 0.5, 0.5, round(2 / 14, 4), 2),
    )
    assert [region.name for region in name_regions(categories, xy, 2)] == ["Home", "Beds"]
    assert name_regions(categories, xy, 0) == ()
    assert name_regions([None] * 14, xy, 10) == ()


def two_islands() -> tuple[CatalogueMap, Float32[np.ndarray, "n d"]]:
    """Six items of one direction at the left, four of another at the right."""
    rows = np.array([0, 1, 2, 4, 5, 6, 7, 8, 9, 10], np.int64)
    xy = np.concatenate([np.full((6, 2), (-0.9, 0)), np.full((4, 2), (0.9, 0))]).astype(np.float32)
    vectors = np.zeros((10, 2), np.float32)
    vectors[:6, 0] = vectors[6:, 1] = 1
    return CatalogueMap(rows, xy, ()), vectors


def test_a_query_between_two_islands_lies_on_one() -> None:
    catalogue_map, vectors = two_islands()
    position = catalogue_map.locate(np.array([0.7, 0.7], np.float32), vectors)
    assert (position.x, position.y) == pytest.approx((-0.9, 0))
    assert position.share == pytest.approx(0.6), "and says that much of it lies elsewhere"
    assert position.spread == pytest.approx(1.8 * 0.4**0.5)


def test_the_island_of_more_similarity_wins_over_that_of_more_items() -> None:
    catalogue_map, vectors = two_islands()
    position = catalogue_map.locate(np.array([0.1, 1.0], np.float32), vectors)
    assert (position.x, position.y) == pytest.approx((0.9, 0))
    assert position.share > 0.9
    nearest_position = catalogue_map.locate(np.array([0.1, 1.0], np.float32), vectors, nearest=1)
    assert (nearest_position.share, nearest_position.spread) == pytest.approx((1, 0), abs=1e-6)


def test_an_item_s_own_vector_lands_beside_it(small_run: Path) -> None:
    catalogue_map, vectors = CatalogueMap.open(small_run / "map"), open_array(small_run / "vectors")
    assert len(catalogue_map.rows) == len(vectors)
    distances = []
    for row, (x, y) in zip(catalogue_map.rows, catalogue_map.xy, strict=True):
        position = catalogue_map.locate(vectors[row], vectors[catalogue_map.rows])
        distances.append(np.hypot(position.x - x, position.y - y))
    middle = np.hypot(*(catalogue_map.xy - catalogue_map.xy.mean(axis=0)).T)
    assert np.quantile(distances, 0.8) <= ISLAND_RADIUS
    assert np.median(distances) < np.median(middle) / 5


def test_a_run_has_a_map_with_the_names_of_its_categories(small_shop: Shop, small_run: Path) -> None:
    import pyarrow.parquet as pq

    catalogue_map = CatalogueMap.open(small_run / "map")
    paths = pq.read_table(DatasetFolder(small_run / "dataset").items)["category"].to_pylist()
    names = {(depth, part) for path in paths for depth, part in enumerate(path.split(" > "), 1)}
    assert 10 <= len(catalogue_map.regions) <= 40
    assert {(region.level, region.name) for region in catalogue_map.regions} <= names
    assert {region.name for region in catalogue_map.regions if region.level == 1} == {
        n for depth, n in names if depth == 1
    }
    assert all(abs(region.x) <= 1 and abs(region.y) <= 1 and 0 < region.weight <= 1 for region in catalogue_map.regions)


@pytest.fixture
def copied(small_shop: Shop, small_run: Path, tmp_path: Path) -> tuple[Shop, Path]:
    shutil.copytree(small_run, tmp_path / "run")
    return small_shop, tmp_path / "run"


def made(shop: Shop, run: Path) -> list[tuple[str, bool]]:
    steps: list[tuple[str, bool]] = []
    make(MAP, shop, run, Listener(step=lambda name, reason, runs: steps.append((reason, runs))))
    return steps


def test_the_same_inputs_give_the_same_bytes(small_run: Path, tmp_path: Path) -> None:
    second_map = draw_map(small_run / "dataset", small_run / "vectors", tmp_path / "map", MapConfig())
    first_map = artifact.verify(small_run / "map", "map", content=True)
    assert (second_map.files, second_map.fingerprint) == (first_map.files, first_map.fingerprint)
    assert set(first_map.files) == {"places.npy", "rows.npy", "regions.json"}


def test_the_map_is_made_again_when_vectors_or_its_config_change(copied: tuple[Shop, Path]) -> None:
    shop, run = copied
    assert made(shop, run) == [("up to date: same inputs, same config", False)]
    fewer = replace(shop, map=MapConfig(items=50))
    assert made(fewer, run) == [("its config has changed: items: 5000 → 50", True)]
    assert len(CatalogueMap.open(run / "map").rows) == 50
    make(VECTORS, replace(shop, embed=EmbedConfig(as_of="end")), run, Listener())
    assert made(fewer, run) == [("its input 'vectors' has changed", True)]


def test_without_vectors_there_is_no_map(copied: tuple[Shop, Path]) -> None:
    shop, run = copied
    shutil.rmtree(run / "vectors")
    shutil.rmtree(run / "map")
    with pytest.raises(ArtifactError, match="vectors is not a finished 'vectors' folder"):
        made(shop, run)
    assert not (run / "map").exists()
    with pytest.raises(ArtifactError, match="is not a finished 'map' folder"):
        CatalogueMap.open(run / "map")


def test_vectors_of_another_dataset_are_refused(copied: tuple[Shop, Path]) -> None:
    _, run = copied
    manifest = run / "dataset" / artifact.MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"fingerprint": "another"}))
    with pytest.raises(ArtifactError, match="was made from another dataset"):
        draw_map(run / "dataset", run / "vectors", run / "map", MapConfig())


def test_a_damaged_map_says_what_to_do(copied: tuple[Shop, Path]) -> None:
    file = copied[1] / "map" / "regions.json"
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(ArtifactError) as error_info:
        CatalogueMap.open(copied[1] / "map")
    assert "mmse map" in error_info.value.cure


@pytest.mark.parametrize("line", ["items = 0", "perplexity = 1.0", "regions = -1", "seed = -1", "item = 3"])
def test_a_wrong_config_names_the_key(tmp_path: Path, line: str) -> None:
    (tmp_path / "shop.toml").write_text(f'[items]\nsource = "i"\n[events]\nsource = "e"\n[map]\n{line}\n')
    with pytest.raises(UsageError, match=rf"\[map\].*'{line.split()[0]}'"):
        read_shop(tmp_path / "shop.toml")
