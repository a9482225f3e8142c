"""The simulated shop's searches: the shoppers, their intents, the wordings of the queries, and the times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32, Float64, Int, Int32

from mmse.lab.simulator.catalogue import ATTRIBUTES, STYLES, SimulatedCatalogue
from mmse.lab.simulator.wording import misspell

FORMS: Final = 5
"""Wordings of an intent, the first the most usual."""
TYPOS: Final = 2
"""Mistyped variants of every form."""
TYPO_RATE: Final = 0.06
REPEAT_RATE: Final = 0.25
"""Share of requests that repeat the shopper's previous intent a few minutes later, often in other words."""


@dataclass(frozen=True)
class Shoppers:
    """`taste` is matched with a brand's, `price_sensitivity` is positive, `budget` is a log price over the typical one.

    `departments` are the shopper's three, the first the favourite; `activity` is a share of all requests.
    """

    taste: Float32[np.ndarray, "n_shoppers styles"]
    price_sensitivity: Float32[np.ndarray, " n_shoppers"]
    budget: Float32[np.ndarray, " n_shoppers"]
    departments: Int32[np.ndarray, "n_shoppers three"]
    activity: Float64[np.ndarray, " n_shoppers"]


@dataclass(frozen=True)
class Intents:
    """The target of each search: a category, wanted attributes and brand (-1: any), and a hidden style.

    `popularity` is a share of all requests. `texts` holds `FORMS * (1 + TYPOS)` wordings of each, form by form.
    """

    leaf: Int32[np.ndarray, " n_intents"]
    attributes: Int32[np.ndarray, "n_intents attributes"]
    brand: Int32[np.ndarray, " n_intents"]
    desire: Float32[np.ndarray, "n_intents styles"]
    popularity: Float64[np.ndarray, " n_intents"]
    texts: list[str]


@dataclass(frozen=True)
class SimulatedRequests:
    """Searches in order of time (days since the log's start); `text` is the row of the query's wording.

    `state` is the row of the preferences that the shopper has at that time: the shopper's own where they never change.
    """

    intent: Int32[np.ndarray, " n_requests"]
    shopper: Int32[np.ndarray, " n_requests"]
    text: Int32[np.ndarray, " n_requests"]
    time: Float64[np.ndarray, " n_requests"]
    state: Int32[np.ndarray, " n_requests"]


def draw_shoppers(n_shoppers: int, n_departments: int, rng: np.random.Generator) -> Shoppers:
    """`n_shoppers` people with a fixed taste; some search far more often than others."""
    activity = rng.lognormal(0.0, 0.8, n_shoppers)
    return Shoppers(
        taste=rng.standard_normal((n_shoppers, STYLES)).astype(np.float32),
        price_sensitivity=rng.gamma(2.0, 0.5, n_shoppers).astype(np.float32),
        budget=rng.normal(0.0, 0.45, n_shoppers).astype(np.float32),
        departments=rng.integers(0, n_departments, (n_shoppers, 3)).astype(np.int32),
        activity=activity / activity.sum(),
    )


def draw_intents(catalogue: SimulatedCatalogue, n_intents: int, zipf: float, rng: np.random.Generator) -> Intents:
    """Intents made from real items, so that every intent can be met: the item's category and some of its attributes."""
    items = rng.integers(0, len(catalogue.leaf), n_intents)
    n_attributes = rng.choice(3, n_intents, p=[0.35, 0.45, 0.2])
    ranks = np.argsort(rng.random((n_intents, len(ATTRIBUTES))), axis=1)
    attributes = np.where(ranks < n_attributes[:, None], catalogue.attributes[items], -1)
    brand = np.where(rng.random(n_intents) < 0.12, catalogue.brand[items], -1)
    n_constraints = (attributes >= 0).sum(axis=1) + (brand >= 0)
    # Intents with few constraints tend to be the popular ones, with exceptions.
    rank = np.argsort(np.argsort(n_constraints + rng.gumbel(0, 1.2, n_intents)))
    popularity = 1.0 / (rank + 10.0) ** zipf
    intents = Intents(
        leaf=catalogue.leaf[items],
        attributes=attributes.astype(np.int32),
        brand=brand.astype(np.int32),
        desire=(rng.standard_normal((n_intents, STYLES)) / np.sqrt(STYLES)).astype(np.float32),
        popularity=popularity / popularity.sum(),
        texts=[],
    )
    intents.texts.extend(_wordings(catalogue, intents, rng))
    return intents


def draw_requests(
    departments: Int[np.ndarray, " n_intents"],
    intents: Intents,
    shoppers: Shoppers,
    n_requests: int,
    days: int,
    rng: np.random.Generator,
    demand: Float64[np.ndarray, "n_intents days"] | None = None,
) -> SimulatedRequests:
    """`n_requests` searches in order of time: in visits, mostly in the shopper's departments, most in the evening.

    `departments` is the department of each intent; `demand` has cumulative shares of its searches by day, None where
    all days are alike.
    """
    shopper = np.sort(rng.choice(len(shoppers.activity), n_requests, p=shoppers.activity))
    intent = _draw_intent_rows(departments, intents, shoppers, shopper, rng)
    day = rng.integers(0, days, n_requests) if demand is None else _draw_days(demand[intent], rng)
    start_day = draw_times(day, rng)
    order = np.lexsort((start_day, shopper))
    shopper, intent, start_day = shopper[order], intent[order], start_day[order]
    is_repeat = (rng.random(n_requests) < REPEAT_RATE) & (np.diff(shopper, prepend=-1) == 0)
    visit = np.maximum.accumulate(np.where(is_repeat, 0, np.arange(n_requests)))  # the row of its first request
    pauses = np.cumsum(rng.exponential(3 / 1440, n_requests))
    time = np.minimum(start_day[visit] + pauses - pauses[visit], days - 1e-6)
    text = draw_texts(intent[visit], rng)
    order = np.argsort(time, kind="stable")
    shopper = shopper[order].astype(np.int32)
    return SimulatedRequests(intent[visit][order].astype(np.int32), shopper, text[order], time[order], state=shopper)


def _wordings(catalogue: SimulatedCatalogue, intents: Intents, rng: np.random.Generator) -> list[str]:
    """`FORMS` wordings of each intent, each followed by its mistyped variants."""
    tree = catalogue.tree
    slots = np.hstack(
        [
            np.where(intents.brand < 0, -1, tree.brands[intents.brand])[:, None],
            intents.attributes[:, [3, 1, 0]],
            tree.kind[intents.leaf][:, None],
            tree.head[intents.leaf][:, None],
            intents.attributes[:, [2]],
        ]
    )
    slots = np.repeat(slots, FORMS, axis=0)
    is_left_out = rng.random(slots.shape) < np.array([0.1, 0.2, 0.2, 0.2, 0.2, 0.0, 0.2])
    names = tree.wording.choose(np.where(is_left_out, -1, slots), tree.wording.shoppers, rng)
    keys = np.arange(slots.shape[1]) + rng.normal(0, 0.7, slots.shape)
    forms = [text.lower() for text in tree.wording.join(names, keys).to_pylist()]
    return add_typos(forms, rng)


def add_typos(forms: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Each form followed by `TYPOS` mistyped variants of it."""
    variants = [forms, *(misspell(forms, rng) for _ in range(TYPOS))]
    return [text for texts in zip(*variants, strict=True) for text in texts]


def draw_texts(intent: Int[np.ndarray, " n"], rng: np.random.Generator) -> Int32[np.ndarray, " n"]:
    """A wording per request: usual forms more often, a few of them mistyped."""
    share = 1.0 / np.arange(1, FORMS + 1)
    form = rng.choice(FORMS, len(intent), p=share / share.sum())
    variant = np.where(rng.random(len(intent)) < TYPO_RATE, rng.integers(1, TYPOS + 1, len(intent)), 0)
    return ((intent * FORMS + form) * (1 + TYPOS) + variant).astype(np.int32)


def _draw_intent_rows(
    departments: Int[np.ndarray, " n_intents"],
    intents: Intents,
    shoppers: Shoppers,
    shopper: Int[np.ndarray, " n"],
    rng: np.random.Generator,
) -> Int[np.ndarray, " n"]:
    """An intent per request by popularity: over all, or (7 times in 10) over those of a department of the shopper."""
    by_department = np.argsort(departments, kind="stable")
    limits = np.cumsum(intents.popularity[by_department])
    n_departments = shoppers.departments.max() + 1
    ends = np.searchsorted(departments[by_department], np.arange(n_departments), side="right")
    upper = np.where(ends > 0, limits[ends - 1], 0.0)
    lower = np.concatenate([[0.0], upper[:-1]])
    department = shoppers.departments[shopper, rng.choice(3, len(shopper), p=[0.6, 0.25, 0.15])]
    in_department = (rng.random(len(shopper)) < 0.7) & (upper[department] > lower[department])
    uniform = rng.random(len(shopper))
    point = np.where(in_department, lower[department] + uniform * (upper - lower)[department], uniform * limits[-1])
    index = np.minimum(np.searchsorted(limits, point, side="right"), len(limits) - 1)
    return np.asarray(by_department[index])


def _draw_days(demand: Float64[np.ndarray, "n days"], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """A day per request, by its row of cumulative shares."""
    uniform = rng.random(len(demand))[:, None]
    return np.asarray(np.minimum((demand <= uniform).sum(axis=1), demand.shape[1] - 1))


def draw_times(day: Int[np.ndarray, " n"], rng: np.random.Generator) -> Float64[np.ndarray, " n"]:
    """A time on each day, as days: most of them around eight in the evening, some around noon."""
    is_evening = rng.random(len(day)) < 0.6
    hour = np.where(is_evening, rng.normal(20, 2.2, len(day)), rng.normal(12.5, 3.0, len(day)))
    return day + np.clip(hour, 0, 23.99) / 24
