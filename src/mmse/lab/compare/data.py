"""The data sets of a grid: simulated shops, real ones, and judged catalogues, as they are written in `grid.toml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mmse.core.config import build, plain, require
from mmse.core.errors import UsageError
from mmse.lab.compare.variants import merged
from mmse.lab.simulator.judged import JudgedConfig
from mmse.lab.simulator.simulate import MarketConfig

Kind = Literal["simulated", "shop", "judged"]
Vary = Literal["training", "world"]


@dataclass(frozen=True)
class Grades:
    """Human grades to be measured by; `items` is another shop's catalogue, None the one that was trained on."""

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
    market: JudgedConfig


@dataclass(frozen=True)
class DataSet:
    """One shop, or one size of one on a learning curve (`family` is then the curve, `size` its requests).

    `train` overrides keys of the training config for every system on it. `pooled` says whether it counts in the
    mean over simulated shops; `grades` is what a judged catalogue is measured by, `others` whose catalogues the
    model embeds without having been trained on them.
    """

    name: str
    family: str
    kind: Kind
    source: MarketConfig | JudgedSource | Path
    train: Mapping[str, Any] = field(default_factory=dict)
    vary: Vary = "training"
    pooled: bool = False
    size: int | None = None
    grades: Grades | None = None
    others: Mapping[str, Grades] = field(default_factory=dict)

    @property
    def other_names(self) -> list[str]:
        """What the other catalogues are called in tables."""
        return [other_name(other, self.name) for other in self.others]

    def seeded(self, world: int | None) -> MarketConfig | JudgedSource | Path:
        """Where the shop comes from; with the seed `world` where it varies."""
        source = self.source
        if world is None or isinstance(source, Path):
            return source
        if isinstance(source, MarketConfig):
            return replace(source, seed=world)
        return replace(source, market=replace(source.market, seed=world))


def other_name(other: str, trained_on: str) -> str:
    """What a catalogue that was never trained on is called in tables."""
    return f"{other} (trained on {trained_on})"


@dataclass(frozen=True)
class _World:
    """The keys of `[worlds.NAME]` that are not those of the shop itself."""

    requests: tuple[int, ...] = ()
    vary: Vary = "training"
    pooled: bool = True
    train: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(len(set(self.requests)) == len(self.requests), "requests", self.requests, "no size twice")


@dataclass(frozen=True)
class _Shop:
    """The keys of `[shops.NAME]`."""

    shop: str
    train: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Other:
    """The keys of one catalogue in `evaluate_on`."""

    items: str
    judgements: str
    relevant_from: float
    split: str | None = None


@dataclass(frozen=True)
class _Judged:
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


def read_worlds(tables: Mapping[str, Any], path: Path, seeds: Sequence[int]) -> list[DataSet]:
    """The simulated shops of `[worlds]`; a list of sizes is a data set each."""
    made = []
    for name, said in _each(tables, "worlds", path):
        where = f"{path} [worlds.{name}]"
        own = {key: value for key, value in said.items() if key in ("requests", "vary", "pooled", "train")}
        keys = build(_World, own, where)
        shop = {key: value for key, value in said.items() if key not in own}
        if keys.requests and "n_requests" in shop:
            raise UsageError(f"{where}: both 'requests' and 'n_requests' are given.", "Leave one of them out.")
        if keys.vary == "world" and "seed" in shop:
            raise UsageError(f"{where}: 'seed' is given, but the world varies with seeds.", "Leave one of them out.")
        for size in keys.requests or (None,):
            market = build(MarketConfig, shop if size is None else shop | {"n_requests": size}, where)
            made.append(
                DataSet(
                    name if size is None else f"{name}@{size}",
                    name,
                    "simulated",
                    market,
                    keys.train,
                    keys.vary,
                    pooled=keys.pooled and size is None,
                    size=size,
                )
            )
    return made


def read_shops(tables: Mapping[str, Any], path: Path) -> list[DataSet]:
    """The real shops of `[shops]`."""
    made = []
    for name, said in _each(tables, "shops", path):
        where = f"{path} [shops.{name}]"
        keys = build(_Shop, said, where)
        made.append(DataSet(name, name, "shop", _file(keys.shop, path, where, "shop"), keys.train))
    return made


def read_judged_sets(tables: Mapping[str, Any], path: Path) -> list[DataSet]:
    """The judged catalogues of `[judged]`, each with those that are only evaluated on."""
    made = []
    for name, said in _each(tables, "judged", path):
        where = f"{path} [judged.{name}]"
        keys = build(_Judged, said, where)
        items, judgements = (_file(getattr(keys, key), path, where, key) for key in ("items", "judgements"))
        market = build(JudgedConfig, merged(plain(JudgedConfig()), keys.market), f"{where} market")
        others = {}
        for other, found in keys.evaluate_on.items():
            within = f"{where} evaluate_on.{other}"
            one = build(_Other, found, within)
            others[other] = Grades(
                _file(one.judgements, path, within, "judgements"),
                one.relevant_from,
                one.split,
                _file(one.items, path, within, "items"),
            )
        made.append(
            DataSet(
                name,
                name,
                "judged",
                JudgedSource(items, judgements, keys.train_split, market),
                keys.train,
                keys.vary,
                grades=Grades(judgements, keys.relevant_from, keys.split),
                others=others,
            )
        )
    return made


def _each(tables: Mapping[str, Any], section: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    for name, said in tables.items():
        if not isinstance(said, dict):
            raise UsageError(
                f"{path} [{section}]: '{name}' is {said!r}, expected a table.",
                f"Write [{section}.NAME] on a line of its own, and its keys below.",
            )
    return list(tables.items())


def _file(said: str, path: Path, where: str, key: str) -> Path:
    """The file that is named relative to the grid file; raises `UsageError` where it is not there."""
    found = path.parent / said
    if not found.is_file():
        raise UsageError(f"{where}: '{key}' names {found}, and there is no such file.", "Mend the path.")
    return found
