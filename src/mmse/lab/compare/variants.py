"""Systems by name: recipes, ablations and a grid's variants, each as overrides of the training config."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from mmse.core.config import build
from mmse.core.errors import UsageError
from mmse.model.recipes import ABLATIONS, RECIPES
from mmse.training.loop import TrainConfig

UNTRAINED_SYSTEMS = ("bm25", "popularity")
"""Systems without training; every table has them."""


def named_systems() -> dict[str, Mapping[str, Any]]:
    """The overrides of every system that a grid need not define; those of `UNTRAINED_SYSTEMS` are empty."""
    recipes = {name: {"recipe": name} for name in RECIPES}
    return {**ABLATIONS, **recipes, **{name: {} for name in UNTRAINED_SYSTEMS}}


def overrides(system: str, variants: Mapping[str, Mapping[str, Any]], source: str) -> Mapping[str, Any]:
    """The keys of the common training config that `system` changes; raises `UsageError` for an unknown name.

    `source` names the grid file in messages.
    """
    systems = {**named_systems(), **variants}
    if system in UNTRAINED_SYSTEMS:
        raise UsageError(
            f"{source}: '{system}' needs no training and is a row of every table.", "Leave it out of systems."
        )
    if system not in systems:
        close = difflib.get_close_matches(system, systems, n=1, cutoff=0.5)
        names = ", ".join(name for name in systems if name not in UNTRAINED_SYSTEMS)
        hint = f"Did you mean '{close[0]}'?" if close else f"Known: {names}."
        raise UsageError(f"{source}: there is no system '{system}'.", f"{hint} Or define it: [variants.{system}].")
    return systems[system]


def train_config(layers: Sequence[Mapping[str, Any]], seed: int, source: str) -> TrainConfig:
    """A training config from overrides, of which later ones win; tables in them (`objective`) merge key by key."""
    values: dict[str, Any] = {}
    for layer in layers:
        values = merge(values, layer)
    return build(TrainConfig, values | {"seed": seed}, source)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `changes`; tables in them merge key by key."""
    values = dict(base)
    for key, value in changes.items():
        old = values.get(key)
        values[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return values
