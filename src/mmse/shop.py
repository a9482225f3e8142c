"""A `shop.toml`, read and checked: where the two tables are, and the config of each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmse.core import artifact
from mmse.core.config import build, read_toml, require
from mmse.core.errors import ArtifactError, UsageError
from mmse.core.json_files import read_json, write_json
from mmse.core.run_folder import RunFolder
from mmse.dataset.serving_data import ServingConfig
from mmse.evaluation.offline import EvaluateConfig
from mmse.index import IndexConfig
from mmse.index.embedding import EmbedConfig
from mmse.map.projection import MapConfig
from mmse.mining.mine import MineConfig
from mmse.model.recipes import RECIPES
from mmse.ranking.step import RankingConfig
from mmse.release.config import ReleaseConfig
from mmse.sources.config import EventSource
from mmse.sources.tables import EventsConfig, ItemsConfig
from mmse.training.config import TrainConfig


@dataclass(frozen=True)
class TruthConfig:
    """`[truth]`: the folder of a simulated shop's truth, relative to shop.toml."""

    source: str


@dataclass(frozen=True)
class BaselinesConfig:
    """`[baselines]`: the recipes that the shop's own is compared with."""

    recipes: tuple[str, ...] = ("dssm",)

    def __post_init__(self) -> None:
        for recipe in self.recipes:
            require(recipe in RECIPES, "recipes", recipe, f"one of {', '.join(RECIPES)}")


WITHOUT_LOG: Mapping[str, Any] = {
    "recipe": "mmse_paper",
    "objective": {"n_random": 2048},
    "views": ("text",),
    "dim": 256,
}
"""What `[train]` says by itself where there is no log: a wide view of the words, and nothing that shoppers teach."""

SECTIONS: dict[str, type] = {
    "items": ItemsConfig,
    "events": EventsConfig,
    "truth": TruthConfig,
    "mine": MineConfig,
    "serving": ServingConfig,
    "train": TrainConfig,
    "embed": EmbedConfig,
    "index": IndexConfig,
    "ranking": RankingConfig,
    "map": MapConfig,
    "evaluate": EvaluateConfig,
    "baselines": BaselinesConfig,
    "release": ReleaseConfig,
}
"""The sections of shop.toml; a `Shop` has a field for each."""
STEP_SECTIONS = ("mine", "serving", "train", "embed", "index", "ranking", "map", "evaluate")
"""The sections of the steps, whose `engine` may be replaced by name (`mmse.pipeline`)."""


@dataclass(frozen=True)
class Shop:
    """What a shop.toml says: the two tables, a config per step, and the `engine` of each section that names one.

    `events` is None where the shop has no log.
    """

    path: Path
    items: ItemsConfig
    events: EventsConfig | None
    truth: Path | None = None
    mine: MineConfig = field(default_factory=MineConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    ranking: RankingConfig = field(default_factory=RankingConfig)
    map: MapConfig = field(default_factory=MapConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    baselines: tuple[str, ...] = ("dssm",)
    release: ReleaseConfig = field(default_factory=ReleaseConfig)
    engines: Mapping[str, str] = field(default_factory=dict)

    @property
    def base(self) -> Path:
        """The folder that relative sources start from."""
        return self.path.parent

    def begin_at(self, day: str | None) -> Shop:
        """The shop with the log from `day` on, such as 2026-11-29; as it is for None."""
        return self if day is None else replace(self, mine=replace(self.mine, since=day))


def read_shop(path: Path, log: Path | None = None) -> Shop:
    """The shop that `path` describes; raises `UsageError` naming the file, the section and the key.

    `log` is a folder of events that are read besides those of `[events]`.
    """
    document = read_toml(path)
    for section, values in document.items():
        if section not in SECTIONS:
            raise UsageError(f"{path}: there is no section [{section}].", f"Known sections: {', '.join(SECTIONS)}.")
        if not isinstance(values, dict):
            raise UsageError(
                f"{path} [{section}]: expected a table of keys and values, found {values!r}.",
                f"Write [{section}] on a line of its own, once, and its keys below.",
            )
    engines = _take_engines(document, path)
    if "items" not in document:
        raise UsageError(f"{path} has no section [items].", 'Add [items] with source = "…".')
    has_events = "events" in document
    if log is not None and not has_events:
        document["events"] = {"source": str(log.resolve())}
    needs_no_events = engines.get("mine", "duckdb") in ("duckdb", "spark")
    if needs_no_events and "events" not in document:
        document["train"] = {**WITHOUT_LOG, **document.get("train", {})}
    configs: dict[str, Any] = {"events": None if needs_no_events else EventsConfig()} | {
        name: build(SECTIONS[name], values, f"{path} [{name}]") for name, values in document.items()
    }
    if log is not None and has_events:
        configs["events"] = _add_log(configs["events"], log.resolve(), path.parent)
    configs["train"] = configs.get("train", TrainConfig()).resolve_paths(path.parent)
    truth, baselines = configs.pop("truth", None), configs.pop("baselines", BaselinesConfig())
    truth_folder = path.parent / truth.source if truth else None
    return Shop(path=path, truth=truth_folder, baselines=baselines.recipes, engines=engines, **configs)


def _add_log(events: EventsConfig, log: Path, base: Path) -> EventsConfig:
    """`events` with those of the folder `log` as one more source."""
    sources = events.sources
    if not sources:
        values = {name: getattr(events, name) for name in vars(EventSource("events")) if name != "sources"}
        sources = (EventSource(**values),)
        events = EventsConfig(attribution_hours=events.attribution_hours)
    return replace(events, sources=(*sources, EventSource(str(log))))


def _take_engines(document: Mapping[str, dict[str, Any]], path: Path) -> dict[str, str]:
    """Takes the `engine` out of each step's section: it says who makes the folder, the rest says how."""
    engines = {}
    for section in STEP_SECTIONS:
        if "engine" in document.get(section, {}):
            name = document[section].pop("engine")
            if not isinstance(name, str):
                raise UsageError(
                    f"{path} [{section}]: 'engine' is {name!r}, expected a name.", 'Write engine = "duckdb".'
                )
            engines[section] = name
    return engines


def write_shop_path(shop: Shop, run: RunFolder) -> None:
    """Notes in the run folder which shop it is made from, so that `mmse evaluate RUN` finds config and truth."""
    with artifact.explain_os_errors(run.path):
        run.path.mkdir(parents=True, exist_ok=True)
        write_json(run.shop, {"shop": str(shop.path.resolve())})


def shop_of(run: Path) -> Shop:
    """The shop a run folder was made from; `ArtifactError` where it does not say, `UsageError` where it is gone."""
    file = RunFolder(run).shop
    try:
        shop = Path(read_json(file, dict)["shop"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{run} is not a run folder: it has no {file.name} that names its shop.",
            "Make one: mmse run shop.toml --out RUN.",
        ) from error
    return read_shop(shop)
