"""All stages of a shop in order, each run only where its inputs or its config have changed, and why it was run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.config import build, plain, read_toml, require
from mmse.core.errors import ArtifactError, UsageError
from mmse.evaluation.offline import EvaluateConfig
from mmse.evaluation.step import evaluate_run
from mmse.index import IndexConfig
from mmse.index.embedding import EmbedConfig, embed
from mmse.index.step import index_catalogue
from mmse.map.projection import MapConfig, draw_map
from mmse.mining.mine import MineConfig, mine
from mmse.model.recipes import RECIPES
from mmse.ranking.step import RankingConfig, rank_run
from mmse.sources.duckdb_session import session
from mmse.sources.tables import EventsConfig, ItemsConfig, open_events, open_items
from mmse.training.loop import Step, TrainConfig, train

log = logging.getLogger(__name__)

SHOP = "shop.json"


@dataclass(frozen=True)
class Shop:
    """A `shop.toml`, read and checked: where the tables are, and a config per stage."""

    path: Path
    items: ItemsConfig
    events: EventsConfig
    truth: Path | None = None
    mine: MineConfig = field(default_factory=MineConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    ranking: RankingConfig = field(default_factory=RankingConfig)
    map: MapConfig = field(default_factory=MapConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    baselines: tuple[str, ...] = ("dssm",)

    @property
    def base(self) -> Path:
        """The folder that relative sources start from."""
        return self.path.parent


@dataclass(frozen=True)
class _Truth:
    source: str


@dataclass(frozen=True)
class _Baselines:
    recipes: tuple[str, ...] = ("dssm",)

    def __post_init__(self) -> None:
        for recipe in self.recipes:
            require(recipe in RECIPES, "recipes", recipe, f"one of {', '.join(RECIPES)}")


SECTIONS: dict[str, type] = {
    "items": ItemsConfig,
    "events": EventsConfig,
    "truth": _Truth,
    "mine": MineConfig,
    "train": TrainConfig,
    "embed": EmbedConfig,
    "index": IndexConfig,
    "ranking": RankingConfig,
    "map": MapConfig,
    "evaluate": EvaluateConfig,
    "baselines": _Baselines,
}


@dataclass(frozen=True)
class Listener:
    """Who hears of progress: a stage and why it runs or not, parts of its work, and training steps."""

    stage: Callable[[str, str, bool], None] = lambda name, why, runs: None
    part: Callable[[str, int, int], None] = lambda what, done, total: None
    step: Callable[[Step], None] = lambda step: None


def read_shop(path: Path) -> Shop:
    """The shop that `path` describes; raises `UsageError` naming the file, the section and the key."""
    said = read_toml(path)
    for section, values in said.items():
        if section not in SECTIONS:
            raise UsageError(f"{path}: there is no section [{section}].", f"Known sections: {', '.join(SECTIONS)}.")
        if not isinstance(values, dict):
            raise UsageError(
                f"{path} [{section}]: expected a table of keys and values, found {values!r}.",
                f"Write [{section}] on a line of its own, once, and its keys below.",
            )
    for section in ("items", "events"):
        if section not in said:
            raise UsageError(f"{path} has no section [{section}].", f'Add [{section}] with source = "…".')
    read: dict[str, Any] = {name: build(SECTIONS[name], values, f"{path} [{name}]") for name, values in said.items()}
    read["train"] = read.get("train", TrainConfig()).beside(path.parent)
    truth, baselines = read.pop("truth", None), read.pop("baselines", _Baselines())
    place = path.parent / truth.source if truth else None
    return Shop(path=path, truth=place, baselines=baselines.recipes, **read)


def run(shop: Shop, out: Path, listener: Listener = Listener()) -> dict[str, Manifest]:
    """Runs every stage of `shop` that is not up to date into the run folder `out`; gives all manifests."""
    made = {"dataset": mine_stage(shop, out, listener), "model": train_stage(shop, out, listener)}
    for recipe in shop.baselines:
        made[f"baselines/{recipe}"] = baseline_stage(shop, out, recipe, listener)
    made["vectors"] = embed_stage(shop, out, listener)
    made["index"] = index_stage(shop, out, listener)
    made["ranking"] = ranking_stage(shop, out, listener)
    made["map"] = map_stage(shop, out, listener)
    if made["dataset"].counts["requests"]["test"]:
        made["report"] = evaluate_stage(shop, out, listener)
    else:
        listener.stage("report", "no test window to evaluate on: mine.test_share is 0, or the log is too short", False)
    return made


def mine_stage(shop: Shop, out: Path, listener: Listener) -> Manifest:
    """Mines the shop's log into `out/groups`."""
    config = {"items": plain(shop.items), "events": plain(shop.events), "mine": plain(shop.mine)}
    with session(memory_limit=shop.mine.memory_limit, threads=shop.mine.threads) as opened:
        tables = (
            open_items(opened.connection, shop.items, shop.base),
            open_events(opened.connection, shop.events, shop.base),
        )
        inputs = {table.name: table.fingerprint() for table in tables}
    remember(shop, out)
    return _stage(
        out / "dataset",
        "dataset",
        config,
        inputs,
        listener,
        make=lambda: mine(shop.items, shop.events, shop.mine, out / "dataset", base=shop.base, progress=listener.part),
    )


def train_stage(shop: Shop, out: Path, listener: Listener, *, resume: bool = True, name: str = "model") -> Manifest:
    """Trains the shop's recipe into `out/model`; an unfinished run with the same data and config goes on."""
    inputs = {"dataset": _fingerprint(out / "dataset", "dataset")}
    return _stage(
        out / name,
        "model",
        shop.train.whole(),
        inputs,
        listener,
        make=lambda: train(out / "dataset", out / name, shop.train, resume=resume, on_step=listener.step),
    )


def baseline_stage(shop: Shop, out: Path, recipe: str, listener: Listener) -> Manifest:
    """Trains another recipe with the same towers, data and budget, to be compared with."""
    other = replace(shop, train=replace(shop.train, recipe=recipe, objective={}))
    return train_stage(other, out, listener, name=f"baselines/{recipe}")


def embed_stage(shop: Shop, out: Path, listener: Listener) -> Manifest:
    """Embeds the catalogue into `out/vectors`."""
    inputs = {kind: _fingerprint(out / kind, kind) for kind in ("dataset", "model")}
    return _stage(
        out / "vectors",
        "vectors",
        plain(shop.embed),
        inputs,
        listener,
        make=lambda: embed(out / "dataset", out / "model", out / "vectors", shop.embed),
    )


def index_stage(shop: Shop, out: Path, listener: Listener) -> Manifest:
    """Indexes the vectors, the words and the filterable columns into `out/index`."""
    inputs = {kind: _fingerprint(out / kind, kind) for kind in ("dataset", "vectors", "model")}
    return _stage(
        out / "index",
        "index",
        plain(shop.index),
        inputs,
        listener,
        make=lambda: index_catalogue(
            out / "dataset", out / "model", out / "vectors", out / "index", shop.index, listener.part
        ),
    )


def ranking_stage(shop: Shop, out: Path, listener: Listener) -> Manifest:
    """Learns how the channels become one list, on the validation window, into `out/ranking`."""
    inputs = {kind: _fingerprint(out / kind, kind) for kind in ("dataset", "model")}
    config = plain(shop.ranking) | {"language": shop.index.language}
    return _stage(
        out / "ranking",
        "ranking",
        config,
        inputs,
        listener,
        make=lambda: rank_run(
            out / "dataset", out / "model", out / "index", out / "ranking", shop.ranking, listener.part
        ),
    )


def map_stage(shop: Shop, out: Path, listener: Listener) -> Manifest:
    """Draws the catalogue's vectors as a map into `out/map`."""
    inputs = {kind: _fingerprint(out / kind, kind) for kind in ("dataset", "vectors")}
    return _stage(
        out / "map",
        "map",
        plain(shop.map),
        inputs,
        listener,
        make=lambda: draw_map(out / "dataset", out / "vectors", out / "map", shop.map),
    )


def evaluate_stage(shop: Shop, out: Path, listener: Listener) -> Manifest:
    """Evaluates the run on its test window into `out/report`."""
    inputs = {kind: _fingerprint(out / kind, kind) for kind in ("dataset", "vectors", "index", "ranking")}
    for recipe in shop.baselines:
        inputs[recipe] = _fingerprint(out / "baselines" / recipe, "model")
    if shop.truth:
        inputs["truth"] = _fingerprint(shop.truth, "truth")
    return _stage(
        out / "report",
        "report",
        plain(shop.evaluate),
        inputs,
        listener,
        make=lambda: evaluate_run(out, shop.evaluate, inputs=inputs, truth=shop.truth, progress=listener.part),
    )


def remember(shop: Shop, out: Path) -> None:
    """Notes in the run folder which shop it was made from, so that `mmse evaluate RUN` finds its config and truth."""
    with artifact.writable(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / SHOP).write_text(json.dumps({"shop": str(shop.path.resolve())}) + "\n", "utf-8")


def shop_of(run: Path) -> Shop:
    """The shop a run folder was made from; `ArtifactError` where it does not say, `UsageError` where it is gone."""
    try:
        shop = Path(json.loads((run / SHOP).read_text("utf-8"))["shop"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{run} is not a run folder: it has no {SHOP} that names its shop.",
            "Make one: mmse run shop.toml --out RUN.",
        ) from error
    return read_shop(shop)


def _stage(
    folder: Path,
    kind: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    listener: Listener,
    *,
    make: Callable[[], Manifest],
) -> Manifest:
    """Makes `folder` unless it is up to date; tells the listener which, and why."""
    why = artifact.reason_to_make(folder, kind, config, inputs)
    name = folder.parent.name + "/" + folder.name if folder.parent.name == "baselines" else folder.name
    listener.stage(name, why or "up to date: same inputs, same config", why is not None)
    return make() if why else artifact.read_manifest(folder, kind)


def _fingerprint(folder: Path, kind: str) -> str:
    return artifact.read_manifest(folder, kind).fingerprint
