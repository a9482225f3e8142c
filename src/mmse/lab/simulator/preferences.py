"""What a shopper makes of an item: the log odds of a click and of an order, which the engine never sees.

A click depends on what can be seen on the page: category, wanted attributes, price, brand, rating, the listing's
looks. An order, once clicked, depends on what shows later: quality, hidden style, the price against the budget.
That the two disagree is the point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int
from scipy.special import expit

from mmse.lab.simulator.catalogue import Catalogue
from mmse.lab.simulator.shoppers import Intents, Shoppers

OTHER_KIND, OTHER_CATEGORY, OTHER_GROUP = -1.2, -2.6, -4.0
"""Log odds of a click lost by an item of another kind, another category, another group (of the same department)."""
OTHER_ATTRIBUTE, OTHER_BRAND = -1.4, -2.0
WORST_GRADE_CLICK, WORST_GRADE_ORDER = -3.5, -2.0
STRAY_CLICK: Final = 0.002
"""Chance that an examined item that has nothing to do with the search is clicked all the same; none is ordered."""


@dataclass(frozen=True)
class Fit:
    """How far an item is what was looked for, in log odds; `related` is False where it is not at all."""

    click: Float32[np.ndarray, "..."]
    order: Float32[np.ndarray, "..."]
    related: Bool[np.ndarray, "..."]


@runtime_checkable
class Fits(Protocol):
    """The fit of items to intents; both arguments are rows that broadcast against each other."""

    def fit(self, intents: Int[np.ndarray, "..."], items: Int[np.ndarray, "..."]) -> Fit:
        """The fit of each pair."""
        ...

    def related_items(self, intents: Int[np.ndarray, " n"]) -> list[tuple[np.ndarray, np.ndarray]]:
        """`intents` (their places) in parts, each with the rows of all items that may be related to any of them."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """All that is needed to make this again."""
        ...


@dataclass(frozen=True)
class TreeFits:
    """Fit in the made-up catalogue: by place in the tree, wanted attributes and brand, and hidden style."""

    item_leaf: np.ndarray
    item_attributes: np.ndarray
    item_brand: np.ndarray
    item_style: np.ndarray
    intent_leaf: np.ndarray
    intent_attributes: np.ndarray
    intent_brand: np.ndarray
    intent_desire: np.ndarray
    leaf_base: np.ndarray
    leaf_group: np.ndarray
    leaf_department: np.ndarray

    @classmethod
    def of(cls, catalogue: Catalogue, intents: Intents) -> TreeFits:
        """The fits of a catalogue's items to what is searched in it."""
        tree = catalogue.tree
        return cls(
            catalogue.leaf,
            catalogue.attributes,
            catalogue.brand,
            catalogue.style,
            intents.leaf,
            intents.attributes,
            intents.brand,
            intents.desire,
            tree.base,
            tree.group,
            tree.department,
        )

    def fit(self, intents: Int[np.ndarray, "..."], items: Int[np.ndarray, "..."]) -> Fit:
        """The fit of each pair."""
        wanted, leaf = self.intent_leaf[intents], self.item_leaf[items]
        related = self.leaf_department[wanted] == self.leaf_department[leaf]
        distance = np.where(self.leaf_base[wanted] == self.leaf_base[leaf], OTHER_KIND, OTHER_CATEGORY)
        distance = np.where(self.leaf_group[wanted] == self.leaf_group[leaf], distance, OTHER_GROUP)
        click = np.where(wanted == leaf, 0.0, distance).astype(np.float32)
        order = 0.5 * click
        for slot in range(self.item_attributes.shape[1]):
            attribute = self.intent_attributes[intents, slot]
            lacks = (attribute >= 0) & (attribute != self.item_attributes[items, slot])
            click += np.float32(OTHER_ATTRIBUTE) * lacks
            order += np.float32(0.3 * OTHER_ATTRIBUTE) * lacks
        brand = self.intent_brand[intents]
        click += np.float32(OTHER_BRAND) * ((brand >= 0) & (brand != self.item_brand[items]))
        order += _product(self.intent_desire, intents, self.item_style, items, 1.3)
        return Fit(click, order, related)

    def related_items(self, intents: Int[np.ndarray, " n"]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Intents by department, with that department's items."""
        department, of_item = self.leaf_department[self.intent_leaf[intents]], self.leaf_department[self.item_leaf]
        return [(np.flatnonzero(department == one), np.flatnonzero(of_item == one)) for one in np.unique(department)]

    def arrays(self) -> dict[str, np.ndarray]:
        """All that is needed to make this again."""
        return dict(vars(self))


@dataclass(frozen=True)
class Preferences:
    """Fit and taste together. `bases` are the intercepts of click and order (log odds), found by calibration.

    With `order_rate` set, every order is a coin flip of that chance and no fit or taste counts.
    """

    fits: Fits
    item_click: Float32[np.ndarray, " n_items"]
    item_order: Float32[np.ndarray, " n_items"]
    relative_price: Float32[np.ndarray, " n_items"]
    brand_taste: Float32[np.ndarray, "n_items styles"]
    shopper_taste: Float32[np.ndarray, "n_shoppers styles"]
    price_sensitivity: Float32[np.ndarray, " n_shoppers"]
    budget: Float32[np.ndarray, " n_shoppers"]
    order_rate: float | None = None
    bases: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, fits: Fits, catalogue: Catalogue, shoppers: Shoppers) -> Preferences:
        """The preferences of `shoppers` among the items of `catalogue`."""
        return cls(
            fits=fits,
            item_click=0.6 * catalogue.appeal + 0.7 * (catalogue.rating - 4.0),
            item_order=1.1 * catalogue.quality - 0.35 * catalogue.appeal,
            relative_price=catalogue.relative_price,
            brand_taste=catalogue.brand_taste[catalogue.brand],
            shopper_taste=shoppers.taste,
            price_sensitivity=shoppers.price_sensitivity,
            budget=shoppers.budget,
        )

    def log_odds(
        self, intents: Int[np.ndarray, "..."], shoppers: Int[np.ndarray, "..."], items: Int[np.ndarray, "..."]
    ) -> Fit:
        """Log odds of a click on an examined item and of an order of a clicked one, for rows that broadcast."""
        fit = self.fits.fit(intents, items)
        liking = _product(self.shopper_taste, shoppers, self.brand_taste, items, 1.0)
        over_budget = self.relative_price[items] - self.budget[shoppers]
        sensitivity = self.price_sensitivity[shoppers]
        click = fit.click + self.item_click[items] + liking - np.float32(0.8) * sensitivity * np.abs(over_budget)
        order = fit.order + self.item_order[items] + np.float32(0.3) * liking
        order -= np.float32(1.2) * sensitivity * np.maximum(over_budget, 0)
        return Fit(click + np.float32(self.bases[0]), order + np.float32(self.bases[1]), fit.related)

    def stray(self) -> tuple[float, float]:
        """P(click | examined) and P(order | clicked) of an item unrelated to the search."""
        return STRAY_CLICK, self.order_rate or 0.0

    def chances(self, odds: Fit) -> tuple[Float32[np.ndarray, "..."], Float32[np.ndarray, "..."]]:
        """P(click | examined) and P(order | clicked) of `log_odds`."""
        click = np.where(odds.related, expit(odds.click), np.float32(STRAY_CLICK))
        if self.order_rate is not None:
            return click, np.full_like(click, self.order_rate)
        return click, np.where(odds.related, expit(odds.order), np.float32(0))


def _product(
    left: Float32[np.ndarray, "m width"],
    left_rows: np.ndarray,
    right: Float32[np.ndarray, "n width"],
    right_rows: np.ndarray,
    weight: float,
) -> Float32[np.ndarray, "..."]:
    """`weight` times the inner product of each pair of rows; columns one by one keep the memory at one pair's."""
    total = np.float32(0)
    for column in range(left.shape[1]):
        total = total + (np.float32(weight) * left[:, column])[left_rows] * right[:, column][right_rows]
    return np.asarray(total, np.float32)
