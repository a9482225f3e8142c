"""Systems by name: recipes, ablations and a grid's own variants, each as overrides of the training config."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from mmse.core.config import build
from mmse.core.errors import UsageError
from mmse.model.recipes import ABLATIONS, RECIPES
from mmse.training.loop import TrainConfig

UNTRAINED = ("bm25", "popularity")
"""Rows of every data set that need no training."""


def reachable() -> dict[str, Mapping[str, Any]]:
    """Every system that has a name without a grid's help, as overrides; those of `UNTRAINED` have none."""
    own = {name: {"recipe": name} for name in RECIPES}
    return {**ABLATIONS, **own, **{name: {} for name in UNTRAINED}}


def overrides(system: str, variants: Mapping[str, Mapping[str, Any]], where: str) -> Mapping[str, Any]:
    """What `system` changes of the common training config; raises `UsageError` for a name that nobody gave."""
    known = {**reachable(), **variants}
    if system in UNTRAINED:
        raise UsageError(
            f"{where}: '{system}' needs no training and is a row of every table.", "Leave it out of systems."
        )
    if system not in known:
        close = difflib.get_close_matches(system, known, n=1, cutoff=0.5)
        names = ", ".join(name for name in known if name not in UNTRAINED)
        hint = f"Did you mean '{close[0]}'?" if close else f"Known: {names}."
        raise UsageError(f"{where}: there is no system '{system}'.", f"{hint} Or describe it: [variants.{system}].")
    return known[system]


def train_config(layers: Sequence[Mapping[str, Any]], seed: int, where: str) -> TrainConfig:
    """A training config from overrides, later ones first in rank; tables within (`objective`) key by key."""
    whole: dict[str, Any] = {}
    for layer in layers:
        whole = merged(whole, layer)
    return build(TrainConfig, whole | {"seed": seed}, where)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`under` with the keys of `over` put on top, tables key by key."""
    both = dict(under)
    for key, value in over.items():
        old = both.get(key)
        both[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return both
