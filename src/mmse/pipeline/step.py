"""What a step is: the folder that it writes, what that is made from, and the engines that can make it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

from mmse.core.artifact import Manifest
from mmse.core.errors import UsageError
from mmse.core.plugins import import_object
from mmse.core.progress import Progress, silent
from mmse.core.run_folder import RunFolder
from mmse.shop import Shop
from mmse.training.meter import TrainingStep


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


NOBODY = Listener()


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
