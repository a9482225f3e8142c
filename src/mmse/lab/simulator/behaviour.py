"""Who examines, clicks and orders what on a page: the position model, and the rates it is calibrated to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int
from scipy.special import expit

from mmse.core.config import require
from mmse.lab.simulator.engine import Pages
from mmse.lab.simulator.preferences import Preferences


@dataclass(frozen=True)
class Behaviour:
    """How the shop's pages are made and used.

    `exploration` is the share of slots filled at random. A shopper examines position p with chance
    p^-`position_bias`, and clicks with examination × attractiveness (Richardson et al., WWW 2007). `click_rate`
    (clicks per shown item) and `orders_per_click` are what the intercepts are calibrated to.
    `orders_are_coin_flips` makes a world in which an order says nothing beyond its click.
    """

    start: str = "2026-01-01"
    days: int = 60
    page_size: int = 20
    exploration: float = 0.15
    click_rate: float = 0.07
    orders_per_click: float = 0.10
    position_bias: float = 0.6
    orders_are_coin_flips: bool = False

    def __post_init__(self) -> None:
        require(_is_day(self.start), "start", self.start, "a day written 2026-01-31")
        require(self.days >= 1, "days", self.days, "1 or more")
        require(self.page_size >= 1, "page_size", self.page_size, "1 or more")
        require(0 <= self.exploration <= 0.9, "exploration", self.exploration, "a share from 0 to 0.9")
        require(0 < self.click_rate <= 0.3, "click_rate", self.click_rate, "above 0, at most 0.3")
        require(0 < self.orders_per_click <= 0.9, "orders_per_click", self.orders_per_click, "above 0, at most 0.9")
        require(0 <= self.position_bias <= 2, "position_bias", self.position_bias, "0 to 2")


@dataclass(frozen=True)
class Actions:
    """What came of each slot of each page; False past the page's end."""

    clicked: Bool[np.ndarray, "n page"]
    ordered: Bool[np.ndarray, "n page"]


def examination(behaviour: Behaviour) -> Float64[np.ndarray, " page"]:
    """The chance that each position, from the first, is examined; 1 at the first."""
    return np.arange(1, behaviour.page_size + 1, dtype=np.float64) ** -behaviour.position_bias


def calibrated(
    preferences: Preferences,
    behaviour: Behaviour,
    pages: Pages,
    intents: Int[np.ndarray, " n"],
    shoppers: Int[np.ndarray, " n"],
) -> Preferences:
    """`preferences` with the intercepts that give pilot `pages` the wanted expected rates."""
    preferences = dataclasses.replace(
        preferences,
        bases=(0.0, 0.0),
        order_rate=behaviour.orders_per_click if behaviour.orders_are_coin_flips else None,
    )
    shown = pages.items >= 0
    odds = preferences.log_odds(intents[:, None], shoppers[:, None], np.maximum(pages.items, 0))
    examined = np.broadcast_to(examination(behaviour), shown.shape)[shown]
    stray = preferences.chances(odds)[0][shown]
    related, click_odds, order_odds = odds.related[shown], odds.click[shown], odds.order[shown]

    def click_rate(base: float) -> float:
        return float(np.mean(examined * np.where(related, expit(click_odds + base), stray)))

    click_base = _solve(click_rate, behaviour.click_rate)
    clicks = examined * np.where(related, expit(click_odds + click_base), stray)

    def orders_per_click(base: float) -> float:
        return float((clicks * related * expit(order_odds + base)).sum() / clicks.sum())

    order_base = _solve(orders_per_click, behaviour.orders_per_click)
    return dataclasses.replace(preferences, bases=(click_base, order_base))


def act(
    preferences: Preferences,
    behaviour: Behaviour,
    pages: Pages,
    intents: Int[np.ndarray, " n"],
    shoppers: Int[np.ndarray, " n"],
    rng: np.random.Generator,
) -> Actions:
    """What shoppers do with their pages."""
    shown = pages.items >= 0
    odds = preferences.log_odds(intents[:, None], shoppers[:, None], np.maximum(pages.items, 0))
    click, order = preferences.chances(odds)
    drawn: Float32[np.ndarray, "two n page"] = rng.random((2, *shown.shape), dtype=np.float32)
    clicked = shown & (drawn[0] < examination(behaviour) * click)
    return Actions(clicked, clicked & (drawn[1] < order))


def _solve(rate: Callable[[float], float], wanted: float) -> float:
    """The intercept at which the increasing `rate` reaches `wanted`, or the nearest within ±15 log odds."""
    low, high = -15.0, 15.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) < wanted else (low, middle)
    return (low + high) / 2


def _is_day(text: str) -> bool:
    try:
        return str(np.datetime64(text, "D")) == text
    except ValueError:
        return False
