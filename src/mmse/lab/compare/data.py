"""The data sets of a grid as `grid.toml` has them: simulated shops, real shops, and judged catalogues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mmse.core.config import build, plain_values, require
from mmse.core.errors import UsageError
from mmse.lab.compare.variants import merge
from mmse.lab.simulator.judged_shop import JudgedConfig
from mmse.lab.simulator.simulate import SimulatorConfig

DataKind = Literal["simulated", "shop", "judged"]
Vary = Literal["training", "world"]


@dataclass(frozen=True)
class Grades:
    """Human grades to measure with; `items` is another shop's catalogue, None the one of the training data."""

    judgements: Path
    relevant_from: float
    split: str | None = None
    items: Path | None = None


@dataclass(frozen=True)
class JudgedSource:
    """A judged catalogue whose shoppers are simulated on the queries of `train_split`."""

    items: Path
    judgements: Path
    train_split: str | None
    simulator: JudgedConfig


@dataclass(frozen=True)
class DataSet:
    """One shop, or one size of it on a learning curve (`family` is then the curve, `size` the number of requests).

    `train` overrides keys of the training config for every system. `in_mean` says whether the shop counts in the mean
    over simulated shops; `grades` measure a judged catalogue, and `foreign_catalogues` are other catalogues that the
    model embeds without training on them.
    """

    name: str
    family: str
    kind: DataKind
    source: SimulatorConfig | JudgedSource | Path
    train: Mapping[str, Any] = field(default_factory=dict)
    vary: Vary = "training"
    in_mean: bool = False
    size: int | None = None
    grades: Grades | None = None
    foreign_catalogues: Mapping[str, Grades] = field(default_factory=dict)

    @property
    def foreign_names(self) -> list[str]:
        """The names of the foreign catalogues in tables."""
        return [foreign_name(catalogue, self.name) for catalogue in self.foreign_catalogues]

    def with_seed(self, world: int | None) -> SimulatorConfig | JudgedSource | Path:
        """The source of the shop, with the seed `world` unless it is None."""
        source = self.source
        if world is None or isinstance(source, Path):
            return source
        if isinstance(source, SimulatorConfig):
            return replace(source, seed=world)
        return replace(source, simulator=replace(source.simulator, seed=world))


def foreign_name(catalogue: str, data: str) -> str:
    """The name in tables of a catalogue that is never trained on; `data` is the data set of the training."""
    return f"{catalogue} (trained on {data})"


@dataclass(frozen=True)
class _WorldTable:
    """The keys of `[worlds.NAME]` other than those of the simulator."""

    requests: tuple[int, ...] = ()
    vary: Vary = "training"
    pooled: bool = True
    train: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(len(set(self.requests)) == len(self.requests), "requests", self.requests, "no size twice")


@dataclass(frozen=True)
class _ShopTable:
    """The keys of `[shops.NAME]`."""

    shop: str
    train: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _ForeignTable:
    """The keys of one catalogue in `evaluate_on`."""

    items: str
    judgements: str
    relevant_from: float
    split: str | None = None


@dataclass(frozen=True)
class _JudgedTable:
    """The keys of `[judged.NAME]`."""

    items: str
    judgements: str
    relevant_from: float
    train_split: str | None = "train"
    split: str | None = "dev"
    vary: Vary = "training"
    market: dict[str, Any] = field(default_factory=dict)
    evaluate_on: dict[str, dict[str, Any]] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)


def read_worlds(tables: Mapping[str, Any], path: Path) -> list[DataSet]:
    """The simulated shops of `[worlds]`; each size in a list is a data set of its own."""
    data_sets = []
    for name, values in _subtables(tables, "worlds", path):
        section = f"{path} [worlds.{name}]"
        grid_values = {key: value for key, value in values.items() if key in ("requests", "vary", "pooled", "train")}
        keys = build(_WorldTable, grid_values, section)
        shop_values = {key: value for key, value in values.items() if key not in grid_values}
        if keys.requests and "n_requests" in shop_values:
            raise UsageError(f"{section}: both 'requests' and 'n_requests' are given.", "Leave one of them out.")
        if keys.vary == "world" and "seed" in shop_values:
            raise UsageError(f"{section}: 'seed' is given, but the world varies with seeds.", "Leave one of them out.")
        for size in keys.requests or (None,):
            simulator_values = shop_values if size is None else shop_values | {"n_requests": size}
            data_sets.append(
                DataSet(
                    name if size is None else f"{name}@{size}",
                    name,
                    "simulated",
                    build(SimulatorConfig, simulator_values, section),
                    keys.train,
                    keys.vary,
                    in_mean=keys.pooled and size is None,
                    size=size,
                )
            )
    return data_sets


def read_shops(tables: Mapping[str, Any], path: Path) -> list[DataSet]:
    """The real shops of `[shops]`."""
    data_sets = []
    for name, values in _subtables(tables, "shops", path):
        section = f"{path} [shops.{name}]"
        keys = build(_ShopTable, values, section)
        data_sets.append(DataSet(name, name, "shop", _find_file(keys.shop, path, section, "shop"), keys.train))
    return data_sets


def read_judged_sets(tables: Mapping[str, Any], path: Path) -> list[DataSet]:
    """The judged catalogues of `[judged]`, each with the foreign catalogues to evaluate on."""
    data_sets = []
    for name, values in _subtables(tables, "judged", path):
        section = f"{path} [judged.{name}]"
        keys = build(_JudgedTable, values, section)
        items, judgements = (_find_file(getattr(keys, key), path, section, key) for key in ("items", "judgements"))
        simulator = build(JudgedConfig, merge(plain_values(JudgedConfig()), keys.market), f"{section} market")
        data_sets.append(
            DataSet(
                name,
                name,
                "judged",
                JudgedSource(items, judgements, keys.train_split, simulator),
                keys.train,
                keys.vary,
                grades=Grades(judgements, keys.relevant_from, keys.split),
                foreign_catalogues={
                    catalogue: _foreign_grades(table, path, f"{section} evaluate_on.{catalogue}")
                    for catalogue, table in keys.evaluate_on.items()
                },
            )
        )
    return data_sets


def _foreign_grades(values: Mapping[str, Any], path: Path, section: str) -> Grades:
    keys = build(_ForeignTable, values, section)
    items, judgements = (_find_file(getattr(keys, key), path, section, key) for key in ("items", "judgements"))
    return Grades(judgements, keys.relevant_from, keys.split, items)


def _subtables(tables: Mapping[str, Any], section: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    for name, value in tables.items():
        if not isinstance(value, dict):
            raise UsageError(
                f"{path} [{section}]: '{name}' is {value!r}, expected a table.",
                f"Write [{section}.NAME] on a line of its own, and its keys below.",
            )
    return list(tables.items())


def _find_file(name: str, path: Path, section: str, key: str) -> Path:
    """The file `name`, relative to the grid file `path`; raises `UsageError` where it is not there."""
    file = path.parent / name
    if not file.is_file():
        raise UsageError(f"{section}: '{key}' names {file}, and there is no such file.", "Correct the path.")
    return file
