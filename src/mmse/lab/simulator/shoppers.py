"""Who searches the simulated shop, what they want, how they say it, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32, Float64, Int, Int32

from mmse.lab.simulator.catalogue import ATTRIBUTES, STYLES, Catalogue
from mmse.lab.simulator.wording import mistyped

FORMS: Final = 5
"""Ways in which an intent is put into words, the first the most usual."""
TYPOS: Final = 2
"""Mistyped variants of every form."""
TYPO_RATE: Final = 0.06
AGAIN_RATE: Final = 0.25
"""Share of requests that repeat the shopper's previous intent a few minutes later, often in other words."""


@dataclass(frozen=True)
class Shoppers:
    """`taste` meets a brand's, `price_sensitivity` is positive, `budget` is a log price over the typical one.

    `departments` are the shopper's three, the first the favourite; `activity` is a share of all requests.
    """

    taste: Float32[np.ndarray, "n_shoppers styles"]
    price_sensitivity: Float32[np.ndarray, " n_shoppers"]
    budget: Float32[np.ndarray, " n_shoppers"]
    departments: Int32[np.ndarray, "n_shoppers three"]
    activity: Float64[np.ndarray, " n_shoppers"]


@dataclass(frozen=True)
class Intents:
    """What a search is for: a category, wanted attributes and brand (-1: any), and a hidden style.

    `popularity` is a share of all requests. `texts` holds `FORMS * (1 + TYPOS)` wordings of each, form by form.
    """

    leaf: Int32[np.ndarray, " n_intents"]
    attributes: Int32[np.ndarray, "n_intents attributes"]
    brand: Int32[np.ndarray, " n_intents"]
    desire: Float32[np.ndarray, "n_intents styles"]
    popularity: Float64[np.ndarray, " n_intents"]
    texts: list[str]


@dataclass(frozen=True)
class Requests:
    """Searches in order of time (days since the log's start); `text` is the row of the query's wording."""

    intent: Int32[np.ndarray, " n_requests"]
    shopper: Int32[np.ndarray, " n_requests"]
    text: Int32[np.ndarray, " n_requests"]
    time: Float64[np.ndarray, " n_requests"]


def gather_shoppers(n_shoppers: int, n_departments: int, rng: np.random.Generator) -> Shoppers:
    """`n_shoppers` people of steady taste; some search far more than others."""
    activity = rng.lognormal(0.0, 0.8, n_shoppers)
    return Shoppers(
        taste=rng.standard_normal((n_shoppers, STYLES)).astype(np.float32),
        price_sensitivity=rng.gamma(2.0, 0.5, n_shoppers).astype(np.float32),
        budget=rng.normal(0.0, 0.45, n_shoppers).astype(np.float32),
        departments=rng.integers(0, n_departments, (n_shoppers, 3)).astype(np.int32),
        activity=activity / activity.sum(),
    )


def form_intents(catalogue: Catalogue, n_intents: int, zipf: float, rng: np.random.Generator) -> Intents:
    """Intents around real items, so that what is wanted exists: the item's category and some of what it is like."""
    around = rng.integers(0, len(catalogue.leaf), n_intents)
    n_wanted = rng.choice(3, n_intents, p=[0.35, 0.45, 0.2])
    ranks = np.argsort(rng.random((n_intents, len(ATTRIBUTES))), axis=1)
    attributes = np.where(ranks < n_wanted[:, None], catalogue.attributes[around], -1)
    brand = np.where(rng.random(n_intents) < 0.12, catalogue.brand[around], -1)
    n_constraints = (attributes >= 0).sum(axis=1) + (brand >= 0)
    # Plain wishes tend to be the popular ones, with exceptions.
    rank = np.argsort(np.argsort(n_constraints + rng.gumbel(0, 1.2, n_intents)))
    popularity = 1.0 / (rank + 10.0) ** zipf
    wanted = Intents(
        leaf=catalogue.leaf[around],
        attributes=attributes.astype(np.int32),
        brand=brand.astype(np.int32),
        desire=(rng.standard_normal((n_intents, STYLES)) / np.sqrt(STYLES)).astype(np.float32),
        popularity=popularity / popularity.sum(),
        texts=[],
    )
    wanted.texts.extend(_wordings(catalogue, wanted, rng))
    return wanted


def send_requests(
    departments: Int[np.ndarray, " n_intents"],
    intents: Intents,
    shoppers: Shoppers,
    n_requests: int,
    days: int,
    rng: np.random.Generator,
) -> Requests:
    """`n_requests` searches by time: shoppers in visits, mostly in their own departments, busier in the evening.

    `departments` is the department of each intent.
    """
    shopper = np.sort(rng.choice(len(shoppers.activity), n_requests, p=shoppers.activity))
    intent = _pick_intents(departments, intents, shoppers, shopper, rng)
    begins = times_of_day(rng.integers(0, days, n_requests), rng)
    order = np.lexsort((begins, shopper))
    shopper, intent, begins = shopper[order], intent[order], begins[order]
    again = (rng.random(n_requests) < AGAIN_RATE) & (np.diff(shopper, prepend=-1) == 0)
    first = np.maximum.accumulate(np.where(again, 0, np.arange(n_requests)))
    waited = np.cumsum(rng.exponential(3 / 1440, n_requests))
    time = np.minimum(begins[first] + waited - waited[first], days - 1e-6)
    text = pick_texts(intent[first], rng)
    order = np.argsort(time, kind="stable")
    return Requests(intent[first][order].astype(np.int32), shopper[order].astype(np.int32), text[order], time[order])


def _wordings(catalogue: Catalogue, intents: Intents, rng: np.random.Generator) -> list[str]:
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
    dropped = rng.random(slots.shape) < np.array([0.1, 0.2, 0.2, 0.2, 0.2, 0.0, 0.2])
    names = tree.wording.choose(np.where(dropped, -1, slots), tree.wording.shoppers, rng)
    keys = np.arange(slots.shape[1]) + rng.normal(0, 0.7, slots.shape)
    forms = [text.lower() for text in tree.wording.join(names, keys).to_pylist()]
    return with_typos(forms, rng)


def with_typos(forms: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Each form followed by `TYPOS` mistyped variants of it."""
    variants = [forms, *(mistyped(forms, rng) for _ in range(TYPOS))]
    return [text for same in zip(*variants, strict=True) for text in same]


def pick_texts(intent: Int[np.ndarray, " n"], rng: np.random.Generator) -> Int32[np.ndarray, " n"]:
    """A wording per request: usual forms more often, now and then mistyped."""
    share = 1.0 / np.arange(1, FORMS + 1)
    form = rng.choice(FORMS, len(intent), p=share / share.sum())
    variant = np.where(rng.random(len(intent)) < TYPO_RATE, rng.integers(1, TYPOS + 1, len(intent)), 0)
    return ((intent * FORMS + form) * (1 + TYPOS) + variant).astype(np.int32)


def _pick_intents(
    departments: Int[np.ndarray, " n_intents"],
    intents: Intents,
    shoppers: Shoppers,
    shopper: Int[np.ndarray, " n"],
    rng: np.random.Generator,
) -> Int[np.ndarray, " n"]:
    """By popularity: over all intents, or (seven times in ten) over those of one of the shopper's departments."""
    by_department = np.argsort(departments, kind="stable")
    limits = np.cumsum(intents.popularity[by_department])
    n_departments = shoppers.departments.max() + 1
    ends = np.searchsorted(departments[by_department], np.arange(n_departments), side="right")
    upper = np.where(ends > 0, limits[ends - 1], 0.0)
    lower = np.concatenate([[0.0], upper[:-1]])
    chosen = shoppers.departments[shopper, rng.choice(3, len(shopper), p=[0.6, 0.25, 0.15])]
    own = (rng.random(len(shopper)) < 0.7) & (upper[chosen] > lower[chosen])
    drawn = rng.random(len(shopper))
    point = np.where(own, lower[chosen] + drawn * (upper - lower)[chosen], drawn * limits[-1])
    place = np.minimum(np.searchsorted(limits, point, side="right"), len(limits) - 1)
    return np.asarray(by_department[place])


def times_of_day(day: Int[np.ndarray, " n"], rng: np.random.Generator) -> Float64[np.ndarray, " n"]:
    """A moment of each day: most of them around eight in the evening, some around noon."""
    evening = rng.random(len(day)) < 0.6
    hour = np.where(evening, rng.normal(20, 2.2, len(day)), rng.normal(12.5, 3.0, len(day)))
    return day + np.clip(hour, 0, 23.99) / 24
