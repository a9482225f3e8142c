"""The steps from two tables to a search and its report, in order; each runs where its inputs or config have changed.

A step reads folders of the run and writes one (`mmse.core.run_folder` has the paths and what is made from what).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType
from typing import Any

from mmse.core import artifact, drafts
from mmse.core.artifact import Manifest
from mmse.core.config import plain_values
from mmse.core.errors import ArtifactError, UsageError
from mmse.core.extras import EXTRAS, is_installed
from mmse.core.plugins import import_object
from mmse.core.progress import Progress, silent
from mmse.core.run_folder import DATASET, INDEX, MAP, MODEL, RANKING, REPORT, SERVING, VECTORS, RunFolder
from mmse.dataset.adoption import adopt_dataset
from mmse.dataset.contract import dataset_files
from mmse.dataset.serving_data import write_serving
from mmse.evaluation.step import evaluate_run, report_config
from mmse.index.embedding import EmbeddingSource
from mmse.index.embedding import embed as embed_catalogue
from mmse.index.embedding_parts import merge_parts
from mmse.index.step import index_catalogue
from mmse.map.projection import draw_map
from mmse.mining.bare_catalogue import mine_catalogue
from mmse.mining.mine import mine_log as mine_log
from mmse.ranking.step import learn_ranking
from mmse.schema.user_ids import SALT
from mmse.shop import Shop, read_shop, write_shop_path
from mmse.sources.duckdb_session import Session, open_session
from mmse.sources.file_readers import is_url
from mmse.sources.tables import EventsConfig, fingerprint, open_event_sources, open_items
from mmse.training.distributed import current_team
from mmse.training.loop import train as train_model
from mmse.training.meter import TrainingStep

UP_TO_DATE = "up to date: same inputs, same config"


def _no_step(name: str, reason: str, runs: bool) -> None:
    """Reports to nobody."""


def _no_training(step: TrainingStep) -> None:
    """Reports to nobody."""


@dataclass(frozen=True)
class Listener:
    """Who hears of progress: a step and why it runs or not, parts of its work, and training steps."""

    step: Callable[[str, str, bool], None] = _no_step
    part: Progress = silent
    training: Callable[[TrainingStep], None] = _no_training


@dataclass(frozen=True)
class StepContext:
    """What a step works on: the shop, the run, the folder to write, and what its manifest says of config and inputs."""

    shop: Shop
    run: RunFolder
    target: Path
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    listener: Listener
    resume: bool


@dataclass(frozen=True)
class StepEngine:
    """One way to make a step's folder; `inputs` where it reads other things than the step's usual engine."""

    make_folder: Callable[[StepContext], Manifest]
    inputs: Callable[[Shop, RunFolder], Mapping[str, str]] | None = None


@dataclass(frozen=True)
class Step:
    """One step: the kind of folder that it writes, its section of shop.toml, what for, and how.

    `engines` are the ways to make the folder by name, the usual one first. `config` is what the folder depends on
    besides its inputs, whose fingerprints `inputs` gives as they are now. `extra` names the optional part of mmse that
    the step needs.
    """

    kind: str
    section: str
    purpose: str
    engines: Mapping[str, StepEngine]
    config: Callable[[Shop], Mapping[str, Any]]
    inputs: Callable[[Shop, RunFolder], Mapping[str, str]]
    extra: str | None = None

    def engine(self, shop: Shop) -> StepEngine:
        """The engine that the shop names, or else the first; raises `UsageError` where there is none of that name."""
        name = shop.engines.get(self.section, next(iter(self.engines)))
        if name in self.engines:
            return self.engines[name]
        form = (
            f"Engines of [{self.section}]: {', '.join(self.engines)}; or module:NAME, a function of your own "
            "(docs/engines.md)."
        )
        if ":" not in name:
            raise UsageError(f"{shop.path} [{self.section}]: there is no engine '{name}'.", form)
        return StepEngine(import_object(name, FunctionType, f"{shop.path} [{self.section}] engine", form))

    def full_config(self, shop: Shop) -> dict[str, Any]:
        """What the folder depends on besides its inputs, with the engine's name where it is not the first."""
        name = shop.engines.get(self.section)
        return {**self.config(shop), **({"engine": name} if name not in (None, next(iter(self.engines))) else {})}


def _fingerprint_tables(shop: Shop, run: RunFolder) -> dict[str, str]:
    with open_session(memory_limit=shop.mine.memory_limit, threads=shop.mine.threads) as database:
        inputs = {"items": open_items(database.connection, shop.items, shop.base).fingerprint()}
        if shop.events is not None:
            inputs["events"] = _fingerprint_events(shop, shop.events, database)
            salt = shop.mine.read_salt(shop.base)
            inputs |= {SALT: salt.fingerprint} if salt else {}
        return inputs


def _fingerprint_events(shop: Shop, events: EventsConfig, database: Session) -> str:
    """Starts Spark only where it mines and a file is one that Hadoop alone reaches."""
    sources = [part.source for part in events.sources] or [events.source]
    if shop.engines.get("mine") == "spark" and any(map(is_url, sources)):
        from mmse.mining.spark.step import fingerprint_events_on_spark

        return fingerprint_events_on_spark(events, shop.mine, shop.base)
    return fingerprint(open_event_sources(database.connection, events, shop.base))


def _configure_mining(shop: Shop) -> dict[str, Any]:
    sections = ("items", "mine") if shop.events is None else ("items", "events", "mine")
    return {section: plain_values(getattr(shop, section)) for section in sections} | {"mine": shop.mine.to_manifest()}


def _mine(context: StepContext) -> Manifest:
    shop, report = context.shop, context.listener.part
    if shop.events is None:
        return mine_catalogue(shop.items, shop.mine, context.target, base=shop.base, progress=report)
    return mine_log(shop.items, shop.events, shop.mine, context.target, base=shop.base, progress=report)


def _mine_on_spark(context: StepContext) -> Manifest:
    from mmse.mining.spark.step import mine_log_on_spark

    shop, report = context.shop, context.listener.part
    if shop.events is None:
        return _mine(context)
    return mine_log_on_spark(shop.items, shop.events, shop.mine, context.target, base=shop.base, progress=report)


def _adopt(context: StepContext) -> Manifest:
    source, config = _adopted(context.shop), context.shop.mine
    return adopt_dataset(
        source,
        context.target,
        context.config,
        context.inputs,
        columns=context.shop.items.extra,
        vectors=context.shop.items.vectors,
        memory_limit=config.memory_limit,
        threads=config.threads,
    )


def _fingerprint_adopted(shop: Shop, run: RunFolder) -> dict[str, str]:
    return {"dataset": artifact.fingerprint_of_files(dataset_files(_adopted(shop)))}


def _adopted(shop: Shop) -> Path:
    if shop.mine.dataset is None:
        raise UsageError(
            f"{shop.path} [mine]: the engine 'adopt' needs the folder to adopt.", 'Add dataset = "…" below [mine].'
        )
    return shop.base / shop.mine.dataset


def _keep_serving_data(context: StepContext) -> Manifest:
    return write_serving(context.run.dataset, context.target, context.shop.serving)


def _train(context: StepContext) -> Manifest:
    config, on_step = context.shop.train, context.listener.training
    return train_model(context.run.dataset, context.target, config, resume=context.resume, on_step=on_step)


def _configure_training(shop: Shop) -> dict[str, Any]:
    return shop.train.to_manifest()


def _embed(context: StepContext) -> Manifest:
    return embed_catalogue(context.run.dataset, context.run.model, context.target, context.shop.embed)


def merge_vectors(context: StepContext) -> Manifest:
    """Makes the vectors of parts that `mmse embed --shard` has made, for `make`."""
    run = context.run
    catalogue = EmbeddingSource(run.dataset, run.model, context.shop.embed)
    return merge_parts(catalogue, run.vector_parts, context.target, context.config)


def _embed_on_spark(context: StepContext) -> Manifest:
    from mmse.index.spark_embedding import embed_on_spark
    from mmse.mining.spark.cluster import open_spark

    run, shop, report = context.run, context.shop, context.listener.part
    catalogue = EmbeddingSource(run.dataset, run.model, shop.embed)
    with open_spark(shop.mine.master, shop.mine.spark, "embed the catalogue") as spark:
        return embed_on_spark(spark, catalogue, run.vector_parts, context.target, context.config, report)


def _index(context: StepContext) -> Manifest:
    run, config, report = context.run, context.shop.index, context.listener.part
    return index_catalogue(run.dataset, run.model, run.vectors, context.target, config, report)


def _configure_index(shop: Shop) -> dict[str, Any]:
    return shop.index.to_manifest()


def _configure_ranking(shop: Shop) -> dict[str, Any]:
    return plain_values(shop.ranking) | {"language": shop.index.language, "as_of": shop.embed.as_of}


def _rank(context: StepContext) -> Manifest:
    return learn_ranking(context.run, context.target, context.shop.ranking, context.listener.part)


def _draw_map(context: StepContext) -> Manifest:
    return draw_map(context.run.dataset, context.run.vectors, context.target, context.shop.map)


def _fingerprint_report_inputs(shop: Shop, run: RunFolder) -> dict[str, str]:
    if not run.manifest(DATASET).counts["requests"]["test"]:
        raise ArtifactError(
            f"{run.dataset} has no test request, so there is nothing to evaluate on.",
            "Mine a log in [events] with mine.test_share above 0, or evaluate with --judgements.",
        )
    inputs = run.fingerprints(REPORT)
    for recipe in shop.baselines:
        inputs[recipe] = artifact.read_manifest(run.baselines / recipe, MODEL).fingerprint
    if shop.truth:
        inputs["truth"] = artifact.read_manifest(shop.truth, "truth").fingerprint
    return inputs


def _evaluate(context: StepContext) -> Manifest:
    from mmse.lab.simulator.truth import Truth

    shop, report = context.shop, context.listener.part
    truth = Truth.open(shop.truth) if shop.truth else None
    return evaluate_run(context.run.path, shop.evaluate, inputs=context.inputs, truth=truth, progress=report)


def _configure_report(shop: Shop) -> dict[str, Any]:
    return report_config(shop.evaluate)


def _section(name: str) -> Callable[[Shop], Mapping[str, Any]]:
    return lambda shop: plain_values(getattr(shop, name))


def _lineage(kind: str) -> Callable[[Shop, RunFolder], Mapping[str, str]]:
    return lambda shop, run: run.fingerprints(kind)


_MINING_ENGINES = {
    "duckdb": StepEngine(_mine),
    "spark": StepEngine(_mine_on_spark),
    "adopt": StepEngine(_adopt, _fingerprint_adopted),
}


def _built_in(make_folder: Callable[[StepContext], Manifest]) -> dict[str, StepEngine]:
    return {"built-in": StepEngine(make_folder)}


_EMBED_ENGINES = {**_built_in(_embed), "spark": StepEngine(_embed_on_spark)}

_STEPS = (
    Step(
        kind=DATASET,
        section="mine",
        purpose="requests by stage, item statistics, histories",
        engines=_MINING_ENGINES,
        config=_configure_mining,
        inputs=_fingerprint_tables,
    ),
    Step(
        kind=SERVING,
        section="serving",
        purpose="what a search needs of the log",
        engines=_built_in(_keep_serving_data),
        config=_section("serving"),
        inputs=_lineage(SERVING),
    ),
    Step(MODEL, "train", "the trained towers", _built_in(_train), _configure_training, _lineage(MODEL)),
    Step(VECTORS, "embed", "the catalogue as vectors", _EMBED_ENGINES, _section("embed"), _lineage(VECTORS)),
    Step(INDEX, "index", "vectors, words, columns to filter by", _built_in(_index), _configure_index, _lineage(INDEX)),
    Step(RANKING, "ranking", "how channels become one list", _built_in(_rank), _configure_ranking, _lineage(RANKING)),
    Step(MAP, "map", "the catalogue as a map", _built_in(_draw_map), _section("map"), _lineage(MAP), extra="map"),
    Step(
        kind=REPORT,
        section="evaluate",
        purpose="the offline evaluation",
        engines=_built_in(_evaluate),
        config=_configure_report,
        inputs=_fingerprint_report_inputs,
    ),
)
STEPS: Mapping[str, Step] = {step.kind: step for step in _STEPS}
"""Every step by the kind of folder that it writes, in the order in which they run."""


def run(
    shop: Shop | str | Path,
    folder: str | Path | None = None,
    listener: Listener = Listener(),
    kinds: Collection[str] | None = None,
) -> dict[str, Manifest]:
    """Makes every folder of a run that is not up to date; gives all manifests by folder name.

    `shop` is a `Shop` or the path of its shop.toml; `folder` is the run folder, by default `run` beside shop.toml.
    Of `kinds`, if they are given, alone: what they are made from is taken as it is.
    A step whose optional part of mmse is not installed is left out, with the command that installs it. Raises
    `OutputError` where another process is making the same run.
    """
    shop = _as_shop(shop)
    for step in STEPS.values():
        step.engine(shop)  # a name that does not exist is told before hours of work
    with _run_folder(shop, folder).lock():
        return _run(shop, folder, listener, STEPS if kinds is None else kinds)


def _run(shop: Shop, folder: str | Path | None, listener: Listener, kinds: Collection[str]) -> dict[str, Manifest]:
    manifests: dict[str, Manifest] = {}
    if DATASET not in kinds:
        manifests[DATASET] = _run_folder(shop, folder).manifest(DATASET)
    for kind, step in STEPS.items():
        if kind not in kinds:
            continue
        if step.extra and not is_installed(step.extra):
            listener.step(kind, f"left out: it needs {EXTRAS[step.extra].command}", False)
        elif kind == REPORT and not manifests[DATASET].counts["requests"]["test"]:
            listener.step(kind, _no_report(manifests[DATASET]), False)
        else:
            manifests[kind] = _make(kind, shop, folder, listener)
        if kind == MODEL and manifests[DATASET].counts["requests"]["train"]:  # without a log nothing is compared
            manifests |= {name: _make(name, shop, folder, listener) for name in map(baseline_name, shop.baselines)}
    return manifests


def _no_report(dataset: Manifest) -> str:
    """Why there is nothing to evaluate."""
    if not dataset.counts["requests"]["train"]:
        return "no log: nothing is measured"
    return "no test window to evaluate on: mine.test_share is 0, or the log is too short"


def make(
    name: str,
    shop: Shop | str | Path,
    folder: str | Path | None = None,
    listener: Listener = Listener(),
    *,
    resume: bool = True,
    make_folder: Callable[[StepContext], Manifest] | None = None,
) -> Manifest:
    """Makes one folder of a run unless it is up to date, tells the listener which and why, and gives its manifest.

    `name` is a key of `STEPS`, or `baselines/RECIPE`: another recipe with the same towers, data and budget. `shop` and
    `folder` are those of `run`. With `resume` an interrupted training with the same data and config goes on.
    `make_folder` makes what the step's engine would. Raises `OutputError` where another process is making the same run.
    """
    shop = _as_shop(shop)
    if not current_team().leads:  # the leader, which writes, holds the lock
        return _make(name, shop, folder, listener, resume=resume)
    with _run_folder(shop, folder).lock():
        return _make(name, shop, folder, listener, resume=resume, make_folder=make_folder)


def _make(
    name: str,
    shop: Shop,
    folder: str | Path | None,
    listener: Listener,
    *,
    resume: bool = True,
    make_folder: Callable[[StepContext], Manifest] | None = None,
) -> Manifest:
    run_folder = _run_folder(shop, folder)
    kind, _, recipe = name.partition("/")
    step = STEPS[MODEL if recipe else kind]
    if recipe:
        shop = replace(shop, train=replace(shop.train, recipe=recipe, objective={}))
    engine = step.engine(shop)
    inputs, target = (engine.inputs or step.inputs)(shop, run_folder), run_folder.path / name
    if kind == DATASET:
        write_shop_path(shop, run_folder)
    config = step.full_config(shop)
    with contextlib.suppress(OSError):  # a run that may not be written has nothing to sweep
        drafts.sweep(target)
    reason = artifact.reason_to_make(target, step.kind, config, inputs)
    listener.step(name, reason or UP_TO_DATE, reason is not None)
    if reason is None:
        return artifact.read_manifest(target, step.kind)
    return (make_folder or engine.make_folder)(StepContext(shop, run_folder, target, config, inputs, listener, resume))


def mine(shop: Shop | str | Path, folder: str | Path | None = None) -> Manifest:
    """Mines the two tables of a shop into the run's `dataset/`, unless it is up to date; arguments as of `run`."""
    return make(DATASET, shop, folder)


def train(shop: Shop | str | Path, folder: str | Path | None = None) -> Manifest:
    """Trains the shop's recipe into the run's `model/`, unless it is up to date; arguments as of `run`."""
    return make(MODEL, shop, folder)


def embed(shop: Shop | str | Path, folder: str | Path | None = None) -> Manifest:
    """Embeds the catalogue into the run's `vectors/`, unless they are up to date; arguments as of `run`."""
    return make(VECTORS, shop, folder)


def evaluate(shop: Shop | str | Path, folder: str | Path | None = None) -> Manifest:
    """Evaluates the run on its test window into `report/`, unless it is up to date; arguments as of `run`."""
    return make(REPORT, shop, folder)


def baseline_name(recipe: str) -> str:
    """The folder of a baseline, below the run."""
    return f"baselines/{recipe}"


def _run_folder(shop: Shop, folder: str | Path | None) -> RunFolder:
    return RunFolder(Path(folder) if folder is not None else shop.base / "run")


def _as_shop(shop: Shop | str | Path) -> Shop:
    return shop if isinstance(shop, Shop) else read_shop(Path(shop))
