"""The steps from two tables to a search and its report, in order; each runs where its inputs or config have changed.

A step reads folders of the run and writes one (`mmse.core.run_folder` has the paths and what is made from what).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from mmse.core import artifact, drafts
from mmse.core.artifact import Manifest
from mmse.core.extras import EXTRAS, is_installed
from mmse.core.run_folder import DATASET, MODEL, REPORT, VECTORS, RunFolder
from mmse.pipeline.step import NOBODY, Listener, StepContext
from mmse.pipeline.steps import STEPS, merge_vectors
from mmse.shop import Shop, read_shop, write_shop_path
from mmse.training.distributed import current_team

__all__ = [
    "STEPS",
    "UP_TO_DATE",
    "Listener",
    "StepContext",
    "baseline_name",
    "embed",
    "evaluate",
    "make",
    "merge_vectors",
    "mine",
    "run",
    "train",
]

UP_TO_DATE = "up to date: same inputs, same config"


def run(
    shop: Shop | str | Path,
    folder: str | Path | None = None,
    listener: Listener = NOBODY,
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
    listener: Listener = NOBODY,
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
