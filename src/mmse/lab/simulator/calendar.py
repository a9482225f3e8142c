"""What changes with the days of a simulated shop: fashions, and seasons of demand and of materials.

Preferences hold one row per shopper. Where they change, they hold one row per shopper and week instead, its state, and
each request points to the state of its time. So the truth of a request is exact as of its own week.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from jaxtyping import Float32, Float64, Int32

from mmse.lab.simulator.catalogue import STYLES, SimulatedCatalogue
from mmse.lab.simulator.preferences import Preferences
from mmse.lab.simulator.presets import ShopKind
from mmse.lab.simulator.shoppers import SimulatedRequests

WEEK_DAYS: Final = 7
YEAR_DAYS: Final = 120
"""Days from one summer to the next: a year of months would hardly turn within a log of two."""
MATERIAL: Final = 1
"""The attribute that has a season."""


def seasonal_demand(
    kind: ShopKind,
    catalogue: SimulatedCatalogue,
    intent_leaf: Int32[np.ndarray, " n_intents"],
    days: int,
    rng: np.random.Generator,
) -> Float64[np.ndarray, "n_intents days"] | None:
    """How often each intent is searched on each day, as cumulative shares; None where all days are alike."""
    if kind.season == 0:
        return None
    phase = rng.random(int(catalogue.tree.base.max()) + 1)
    angle = 2 * np.pi * (np.arange(days) / YEAR_DAYS - phase[catalogue.tree.base[intent_leaf]][:, None])
    demand = np.exp(kind.season * np.cos(angle))
    return np.asarray(np.cumsum(demand, axis=1) / demand.sum(axis=1, keepdims=True))


def with_calendar(
    preferences: Preferences, kind: ShopKind, catalogue: SimulatedCatalogue, days: int, rng: np.random.Generator
) -> Preferences:
    """Preferences with a row per week and shopper, week by week.

    A shopper's own taste turns by a quarter of a circle during the log, the fashion by a half. Materials gain and lose
    with the season.
    """
    n_weeks, n_shoppers = -(-days // WEEK_DAYS), len(preferences.budget)
    day = WEEK_DAYS * (np.arange(n_weeks) + 0.5)
    taste = _turn_taste(preferences.shopper_taste, kind.fashion, day / days, rng)
    year = 2 * np.pi * day / YEAR_DAYS
    season = np.broadcast_to(
        kind.season * np.stack([np.cos(year), np.sin(year)], axis=1)[:, None], (n_weeks, n_shoppers, 2)
    )
    states = np.concatenate([taste, season], axis=2).reshape(n_weeks * n_shoppers, STYLES + 2)
    return replace(
        preferences,
        brand_taste=np.hstack([preferences.brand_taste, _item_season(catalogue, rng)]),
        shopper_taste=states.astype(np.float32),
        price_sensitivity=np.tile(preferences.price_sensitivity, n_weeks),
        budget=np.tile(preferences.budget, n_weeks),
    )


def with_states(requests: SimulatedRequests, n_shoppers: int) -> SimulatedRequests:
    """Requests that point to the rows of `with_calendar`; those before the log's start have its first week's."""
    week = np.maximum(requests.time // WEEK_DAYS, 0).astype(np.int32)
    return replace(requests, state=(week * n_shoppers + requests.shopper).astype(np.int32))


def _turn_taste(
    taste: Float32[np.ndarray, "n styles"],
    fashion: float,
    progress: Float64[np.ndarray, " weeks"],
    rng: np.random.Generator,
) -> Float64[np.ndarray, "weeks n styles"]:
    """The taste of each week, own and shared; without a fashion it stays as it is."""
    if fashion == 0:
        return np.broadcast_to(taste.astype(np.float64), (len(progress), *taste.shape))
    later_taste = rng.standard_normal(taste.shape)
    quarter = np.pi / 2 * progress[:, None, None]
    start, side = np.linalg.qr(rng.standard_normal((STYLES, 2)))[0].T
    half = np.pi * progress[:, None]
    shared = fashion * (np.cos(half) * start + np.sin(half) * side)
    return np.asarray(np.cos(quarter) * taste + np.sin(quarter) * later_taste + shared[:, None])


def _item_season(catalogue: SimulatedCatalogue, rng: np.random.Generator) -> Float32[np.ndarray, "n_items two"]:
    """A point of the circle of the year by an item's material; (0, 0) for an item without one."""
    phase = 2 * np.pi * rng.random(len(catalogue.tree.wording.starts))
    material = catalogue.attributes[:, MATERIAL]
    season = np.stack([np.cos(phase), np.sin(phase)], axis=1)[material]
    return np.where(material[:, None] < 0, 0, season).astype(np.float32)
