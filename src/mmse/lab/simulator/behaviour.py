"""Which items of a page shoppers examine, click and order: the position model, and the rates it is calibrated to."""

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
    """How the shop's pages are filled and used.

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
    """The clicks and orders by slot of each page; False past the page's end."""

    clicked: Bool[np.ndarray, "n page"]
    ordered: Bool[np.ndarray, "n page"]


def examination(behaviour: Behaviour) -> Float64[np.ndarray, " page"]:
    """The chance that each position, from the first, is examined; 1 at the first."""
    return np.arange(1, behaviour.page_size + 1, dtype=np.float64) ** -behaviour.position_bias


def fit_intercepts(
    preferences: Preferences,
    behaviour: Behaviour,
    pages: Pages,
    intents: Int[np.ndarray, " n"],
    shoppers: Int[np.ndarray, " n"],
) -> Preferences:
    """`preferences` with the intercepts that give the pilot `pages` the expected rates of `behaviour`."""
    preferences = dataclasses.replace(
        preferences,
        bases=(0.0, 0.0),
        order_rate=behaviour.orders_per_click if behaviour.orders_are_coin_flips else None,
    )
    has_item = pages.items >= 0
    odds = preferences.log_odds(intents[:, None], shoppers[:, None], np.maximum(pages.items, 0))
    examine_chance = np.broadcast_to(examination(behaviour), has_item.shape)[has_item]
    stray = preferences.chances(odds)[0][has_item]
    is_related, click_odds, order_odds = odds.is_related[has_item], odds.click[has_item], odds.order[has_item]

    def click_rate(base: float) -> float:
        return float(np.mean(examine_chance * np.where(is_related, expit(click_odds + base), stray)))

    click_base = _solve(click_rate, behaviour.click_rate)
    clicks = examine_chance * np.where(is_related, expit(click_odds + click_base), stray)

    def orders_per_click(base: float) -> float:
        return float((clicks * is_related * expit(order_odds + base)).sum() / clicks.sum())

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
    """Draws the shoppers' clicks and orders on their pages."""
    has_item = pages.items >= 0
    odds = preferences.log_odds(intents[:, None], shoppers[:, None], np.maximum(pages.items, 0))
    click, order = preferences.chances(odds)
    uniform: Float32[np.ndarray, "two n page"] = rng.random((2, *has_item.shape), dtype=np.float32)
    clicked = has_item & (uniform[0] < examination(behaviour) * click)
    return Actions(clicked, clicked & (uniform[1] < order))


def _solve(rate: Callable[[float], float], target: float) -> float:
    """The intercept at which the increasing `rate` reaches `target`, or the nearest within ±15 log odds."""
    low, high = -15.0, 15.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) < target else (low, middle)
    return (low + high) / 2


def _is_day(text: str) -> bool:
    try:
        return str(np.datetime64(text, "D")) == text
    except ValueError:
        return False
