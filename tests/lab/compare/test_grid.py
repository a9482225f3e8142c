"""Reading a grid file; errors name the file, the table, the key and the cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.compare.grids import COIN, FLAT, TRAIN, write_grid
from mmse.core.errors import UsageError
from mmse.lab.compare.grid import list_cells, read_grid
from mmse.lab.simulator.simulate import SimulatorConfig


def test_layers_of_training_config(tmp_path: Path) -> None:
    wide = "[variants.wide]\ndim = 16\nobjective = {rank_weight = 0.5}\n"
    worlds = "[worlds.plain]\nn_requests = 500\ntrain = {dim = 12, epochs = 2}\n"
    grid = read_grid(write_grid(tmp_path, worlds, wide, systems=["mmse", "dssm", "wide"]))
    (data,) = grid.data
    mmse, dssm, wide_ = (grid.config(data, system, seed=7) for system in grid.systems)
    assert (mmse.recipe, mmse.dim, mmse.epochs, mmse.seed) == ("mmse", 12, 2, 7)
    assert (dssm.recipe, dssm.dim) == ("dssm", 12)
    assert (wide_.recipe, wide_.dim, wide_.epochs) == ("mmse", 16, 2)
    assert wide_.objective == {"n_random": 16, "rank_weight": 0.5}, "objective is merged key by key"


def test_ablations_are_systems(tmp_path: Path) -> None:
    grid = read_grid(write_grid(tmp_path, COIN, systems=["mmse", "without_ranking"]))
    config = grid.config(grid.data[0], "without_ranking", 0)
    assert config.to_recipe().rank_weight == 0.0
    assert config.to_recipe().n_random == 16, "the common override stays"


def test_worlds_sizes_and_cells(tmp_path: Path) -> None:
    worlds = '[worlds.a]\nvary = "world"\n[worlds.b]\nrequests = [500, 2000]\n[worlds.c]\nseed = 9\npooled = false\n'
    grid = read_grid(write_grid(tmp_path, worlds, FLAT))
    assert [(d.name, d.family, d.size, d.in_mean) for d in grid.data] == [
        ("a", "a", None, True),
        ("b@500", "b", 500, False),
        ("b@2000", "b", 2000, False),
        ("c", "c", None, False),
    ]
    a, _, larger, c = grid.data
    source = a.with_seed(1)
    assert isinstance(source, SimulatorConfig)
    assert source.seed == 1
    assert isinstance(larger.source, SimulatorConfig)
    assert larger.source.n_requests == 2000
    assert [str(cell.path) for cell in list_cells(grid, c)] == [
        "c/bm25/seed-none",
        "c/popularity/seed-none",
        "c/mmse/seed-0",
        "c/flat/seed-0",
        "c/mmse/seed-1",
        "c/flat/seed-1",
    ]
    assert [str(cell.path) for cell in list_cells(grid, a)][:4] == [
        "a/bm25/seed-0",
        "a/popularity/seed-0",
        "a/bm25/seed-1",
        "a/popularity/seed-1",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"flat"', '"mmsee"'), "there is no system 'mmsee'.*Did you mean 'mmse'"),
        (('"flat"', '"bm25"'), "'bm25' needs no training"),
        (("systems = ", "system = "), "names no systems"),
        (("seeds = [0, 1]", "seeds = [0, 0]"), "'seeds'.*no seed twice"),
        (("seeds = [0, 1]", 'seeds = "all"'), "'seeds'.*expected"),
        (("seeds = [0, 1]", 'ours = "dssm"'), "'ours' is 'dssm', expected one of systems"),
        (("seeds = [0, 1]", "seedz = [0]"), "no key 'seedz'.*Did you mean 'seeds'"),
        (("[worlds.coin]", "[world.coin]"), r"no table \[world\].*worlds"),
        (("[worlds.coin]", "[variants.coin]"), "names no data set"),
        (("n_items = 300", "n_itemz = 300"), r"worlds.coin\]: there is no key 'n_itemz'.*'n_items'"),
        (("n_items = 300", "requests = [500]"), "both 'requests' and 'n_requests'"),
        (("n_items = 300", 'vary = "world"'), "'seed' is given, but the world varies"),
        (("dim = 8", "dims = 8"), r"\[train\]: there is no key 'dims'"),
        (("dim = 8", "seed = 8"), r"\[train\]: 'seed' is not set here"),
        (("draws = 200", "draws = 100"), "'draws' is 100, too few.*at least 160"),
        (("rank_weight = 0.0", "rank_weigt = 0.0"), "rank_weigt"),
        (("[variants.flat]", "[variants.dssm]"), "'dssm' is a system of mmse's own"),
        (("[worlds.coin]", "[worlds.'a/b']"), "'a/b' cannot be a name"),
        (("[worlds.coin]", "[shops.coin]\nshop = 'gone.toml'\n[worlds.b]"), "'shop' names .*gone.toml.*no such file"),
        (("[worlds.coin]", "[judged.coin]\nitems = 'no.csv'\n[worlds.b]"), "relevant_from|judgements"),
        (("[worlds.coin]", "worlds = 3\n[x.coin]"), "expected|no table"),
    ],
)
def test_errors_name_table_and_key(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = write_grid(tmp_path, COIN, FLAT)
    text = path.read_text("utf-8")
    assert change[0] in text
    path.write_text(text.replace(*change, 1), "utf-8")
    with pytest.raises(UsageError, match=f"(?s){message}") as error:
        read_grid(path)
    assert "grid.toml" in error.value.cause or "train.objective" in error.value.cause


def test_a_missing_grid_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file"):
        read_grid(tmp_path / "grid.toml")


def test_a_grid_without_tables_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    path.write_text(f'systems = ["mmse"]\n{TRAIN}\n{COIN}', "utf-8")
    grid = read_grid(path)
    assert (grid.subject, grid.seeds, grid.keep_models) == ("mmse", (0, 1, 2), False)
