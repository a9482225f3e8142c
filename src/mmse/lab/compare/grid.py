"""A `grid.toml`, read and checked: the systems, the data sets, and the seeds of the trainings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmse.core.config import build, read_toml, require
from mmse.core.errors import UsageError
from mmse.evaluation.bootstrap import BootstrapConfig
from mmse.lab.compare.data import DataSet, read_judged_sets, read_shops, read_worlds
from mmse.lab.compare.variants import UNTRAINED_SYSTEMS, named_systems, overrides, train_config
from mmse.mining.mine import MineConfig
from mmse.training.loop import TrainConfig

HOLM_SHARE = 0.05
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
_TABLES = ("train", "mine", "evaluate", "variants", "worlds", "shops", "judged")


@dataclass(frozen=True)
class MeasureConfig:
    """`[evaluate]`: how many test requests a cell is measured on; the truth is used for the first `truth_requests`."""

    requests: int = 5_000
    truth_requests: int = 1_000
    draws: int = 2_000
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.requests >= 1, "requests", self.requests, "at least 1")
        require(self.truth_requests >= 1, "truth_requests", self.truth_requests, "at least 1")
        self.to_bootstrap()

    def to_bootstrap(self) -> BootstrapConfig:
        """The config of the bootstrap."""
        return BootstrapConfig(draws=self.draws, seed=self.seed)


@dataclass(frozen=True)
class _TopLevel:
    """The keys above the first table."""

    systems: tuple[str, ...]
    ours: str = "mmse"
    seeds: tuple[int, ...] = (0, 1, 2)
    keep_models: bool = False

    def __post_init__(self) -> None:
        require(len(self.systems) >= 1, "systems", self.systems, "at least one name")
        require(len(set(self.systems)) == len(self.systems), "systems", self.systems, "no name twice")
        require(self.ours in self.systems, "ours", self.ours, f"one of systems: {', '.join(self.systems)}")
        require(len(self.seeds) >= 1, "seeds", self.seeds, "at least one seed")
        require(len(set(self.seeds)) == len(self.seeds), "seeds", self.seeds, "no seed twice")
        require(all(seed >= 0 for seed in self.seeds), "seeds", self.seeds, "seeds of 0 or more")


@dataclass(frozen=True)
class Grid:
    """A comparison: `subject` against the other systems; `variants` are overrides by name, `text` is the file's."""

    path: Path
    systems: tuple[str, ...]
    subject: str
    seeds: tuple[int, ...]
    keep_models: bool
    data: tuple[DataSet, ...]
    train: Mapping[str, Any]
    mine_config: MineConfig
    measure: MeasureConfig
    variants: Mapping[str, Mapping[str, Any]]
    text: str

    def changes(self, system: str) -> Mapping[str, Any]:
        """The keys of the common training config that `system` changes."""
        return overrides(system, self.variants, str(self.path))

    def config(self, data: DataSet, system: str, seed: int) -> TrainConfig:
        """The training config of `system` on `data`: the common keys, then the data set's, then the system's own."""
        source = f"{self.path}: '{system}' on '{data.name}'"
        return train_config([self.train, data.train, self.changes(system)], seed, source)


@dataclass(frozen=True)
class Cell:
    """One training and its measurement: `system` on `data`.

    `world` is the seed of a world that varies, else None; `seed` is the training's, None where nothing is trained.
    """

    data: DataSet
    world: int | None
    system: str
    seed: int | None

    @property
    def path(self) -> Path:
        """The cell's folder, relative to the folder of all cells."""
        seed = self._seed
        return Path(self.data.name, self.system, f"seed-{seed if seed is not None else 'none'}")

    @property
    def label(self) -> str:
        """The data set, and the seed if there is one."""
        seed = self._seed
        return self.data.name + (f", seed {seed}" if seed is not None else "")

    @property
    def _seed(self) -> int | None:
        return self.seed if self.seed is not None else self.world

    def __str__(self) -> str:
        return f"{self.system} on {self.label}"


def read_grid(path: Path) -> Grid:
    """The grid that `path` describes; raises `UsageError` naming the file, the table and the key."""
    document = read_toml(path)
    top = {key: value for key, value in document.items() if key not in _TABLES}
    unknown_tables = [key for key, value in top.items() if isinstance(value, dict)]
    if unknown_tables:
        raise UsageError(f"{path}: there is no table [{unknown_tables[0]}].", f"Known tables: {', '.join(_TABLES)}.")
    if "systems" not in top:
        raise UsageError(f"{path} names no systems.", 'Add systems = ["mmse", "dssm"] above the first table.')
    keys = build(_TopLevel, top, str(path))
    tables = {name: _table(document, name, path) for name in _TABLES}
    data = [
        *read_worlds(tables["worlds"], path),
        *read_shops(tables["shops"], path),
        *read_judged_sets(tables["judged"], path),
    ]
    if not data:
        raise UsageError(
            f"{path} names no data set.",
            "Add one: [worlds.NAME] is a simulated shop, [shops.NAME] a real one, [judged.NAME] a judged catalogue.",
        )
    variants = {name: _table(tables["variants"], name, path, "variants.") for name in tables["variants"]}
    grid = Grid(
        path=path,
        systems=keys.systems,
        subject=keys.ours,
        seeds=keys.seeds,
        keep_models=keys.keep_models,
        data=tuple(data),
        train=tables["train"],
        mine_config=build(MineConfig, tables["mine"], f"{path} [mine]"),
        measure=build(MeasureConfig, tables["evaluate"], f"{path} [evaluate]"),
        variants=variants,
        text=path.read_text("utf-8"),
    )
    _check_names(path, variants, data)
    _check_systems(grid)
    return grid


def list_cells(grid: Grid, data: DataSet) -> list[Cell]:
    """Every cell of one data set: those without training first, then seed by seed."""
    varies = data.vary == "world"
    worlds: Sequence[int | None] = grid.seeds if varies else (None,)
    cells = [Cell(data, world, system, None) for world in worlds for system in UNTRAINED_SYSTEMS]
    return cells + [Cell(data, s if varies else None, system, s) for s in grid.seeds for system in grid.systems]


def _table(document: Mapping[str, Any], name: str, path: Path, prefix: str = "") -> dict[str, Any]:
    value = document.get(name, {})
    if not isinstance(value, dict):
        raise UsageError(
            f"{path} [{prefix}{name}]: expected a table of keys and values, found {value!r}.",
            f"Write [{prefix}{name}] on a line of its own, and its keys below.",
        )
    return value


def _check_names(path: Path, variants: Mapping[str, Any], data_sets: Sequence[DataSet]) -> None:
    names = [data.name for data in data_sets] + [name for data in data_sets for name in data.foreign_names]
    for name in [*variants, *(data.family for data in data_sets)]:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{path}: {name!r} cannot be a name.", "Use letters, digits, '_', '-', '.' and '+'.")
    repeated_names = [name for name in names if names.count(name) > 1]
    if repeated_names:
        raise UsageError(f"{path}: two data sets are called '{repeated_names[0]}'.", "Give one of them another name.")
    for name in variants:
        if name in named_systems():
            raise UsageError(f"{path}: '{name}' is a system of mmse's own.", f"Give [variants.{name}] another name.")


def _check_systems(grid: Grid) -> None:
    """Builds every config once, so that a wrong key is reported with its table before anything is trained."""
    build(TrainConfig, grid.train, f"{grid.path} [train]")
    if "seed" in grid.train:
        raise UsageError(f"{grid.path} [train]: 'seed' is not set here.", "Name the seeds above: seeds = [0, 1, 2].")
    for name, changes in grid.variants.items():
        train_config([grid.train, changes], 0, f"{grid.path} [variants.{name}]")
    for data in grid.data:
        train_config([grid.train, data.train], 0, f"{grid.path}: train of '{data.name}'")
        for system in grid.systems:
            grid.config(data, system, grid.seeds[0])
    min_draws = round(2 * (len(grid.systems) + len(UNTRAINED_SYSTEMS)) / HOLM_SHARE)
    if grid.measure.draws < min_draws:
        raise UsageError(
            f"{grid.path} [evaluate]: 'draws' is {grid.measure.draws}, too few to tell so many systems apart.",
            f"Use at least {min_draws}.",
        )
