"""A shopper's preferences: the log odds of a click and of an order of an item, which the engine never sees.

A click depends on what the page shows: category, wanted attributes, price, brand, rating, the listing's looks. An
order of a clicked item depends on what the shopper learns later: quality, hidden style, the price against the budget.
So clicks and orders disagree, on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int
from scipy.special import expit

from mmse.lab.simulator.catalogue import SimulatedCatalogue
from mmse.lab.simulator.shoppers import Intents, Shoppers

OTHER_KIND, OTHER_CATEGORY, OTHER_GROUP = -1.2, -2.6, -4.0
"""Log odds of a click lost by an item of another kind, another category, another group (of the same department)."""
OTHER_ATTRIBUTE, OTHER_BRAND = -1.4, -2.0
WORST_GRADE_CLICK, WORST_GRADE_ORDER = -3.5, -2.0
STRAY_CLICK: Final = 0.002
"""Chance of a click on an examined item that is unrelated to the search; such an item is never ordered."""


@dataclass(frozen=True)
class Fit:
    """How well an item fits the intent, in log odds; `is_related` is False where it does not fit at all."""

    click: Float32[np.ndarray, "..."]
    order: Float32[np.ndarray, "..."]
    is_related: Bool[np.ndarray, "..."]


@runtime_checkable
class Fits(Protocol):
    """The fit of items to intents; both arguments are rows that broadcast against each other."""

    def fit(self, intents: Int[np.ndarray, "..."], items: Int[np.ndarray, "..."]) -> Fit:
        """The fit of each pair."""
        ...

    def related_items(self, intents: Int[np.ndarray, " n"]) -> list[tuple[np.ndarray, np.ndarray]]:
        """`intents` (their indices) in parts, each with the rows of all items that may be related to any of them."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays to save, by the names that they have in the truth's file."""
        ...


@dataclass(frozen=True)
class TreeFits:
    """Fit in the made-up catalogue: by category, wanted attributes and brand, and hidden style."""

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
    def of(cls, catalogue: SimulatedCatalogue, intents: Intents) -> TreeFits:
        """The fits of a catalogue's items to its intents."""
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

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> TreeFits:
        """The fits that `arrays` gave."""
        return cls(**arrays)

    def fit(self, intents: Int[np.ndarray, "..."], items: Int[np.ndarray, "..."]) -> Fit:
        """The fit of each pair."""
        target, leaf = self.intent_leaf[intents], self.item_leaf[items]
        is_related = self.leaf_department[target] == self.leaf_department[leaf]
        distance = np.where(self.leaf_base[target] == self.leaf_base[leaf], OTHER_KIND, OTHER_CATEGORY)
        distance = np.where(self.leaf_group[target] == self.leaf_group[leaf], distance, OTHER_GROUP)
        click = np.where(target == leaf, 0.0, distance).astype(np.float32)
        order = 0.5 * click
        for slot in range(self.item_attributes.shape[1]):
            attribute = self.intent_attributes[intents, slot]
            lacks = (attribute >= 0) & (attribute != self.item_attributes[items, slot])
            click += np.float32(OTHER_ATTRIBUTE) * lacks
            order += np.float32(0.3 * OTHER_ATTRIBUTE) * lacks
        brand = self.intent_brand[intents]
        click += np.float32(OTHER_BRAND) * ((brand >= 0) & (brand != self.item_brand[items]))
        order += _product(self.intent_desire, intents, self.item_style, items, 1.3)
        return Fit(click, order, is_related)

    def related_items(self, intents: Int[np.ndarray, " n"]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Intents by department, with that department's items."""
        by_intent, by_item = self.leaf_department[self.intent_leaf[intents]], self.leaf_department[self.item_leaf]
        return [
            (np.flatnonzero(by_intent == department), np.flatnonzero(by_item == department))
            for department in np.unique(by_intent)
        ]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays to save, by the names that they have in the truth's file."""
        return dict(vars(self))


@dataclass(frozen=True)
class Preferences:
    """Fit and taste together. `bases` are the intercepts of click and order (log odds), set by calibration.

    What is by shopper has a row per shopper, or, where preferences change, a row per shopper and week.

    With `order_rate`, every order is a coin flip of that chance, whatever the fit and the taste.
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
    def of(
        cls, fits: Fits, catalogue: SimulatedCatalogue, shoppers: Shoppers, *, photo_lure: float = 0.0
    ) -> Preferences:
        """The preferences of `shoppers` among the items of `catalogue`.

        Looks lead to a click and away from an order, by `photo_lure` more than they do in any shop.
        """
        return cls(
            fits=fits,
            item_click=(0.6 + photo_lure) * catalogue.appeal + 0.7 * (catalogue.rating - 4.0),
            item_order=1.1 * catalogue.quality - (0.35 + photo_lure) * catalogue.appeal,
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
        taste = _product(self.shopper_taste, shoppers, self.brand_taste, items, 1.0)
        over_budget = self.relative_price[items] - self.budget[shoppers]
        sensitivity = self.price_sensitivity[shoppers]
        click = fit.click + self.item_click[items] + taste - np.float32(0.8) * sensitivity * np.abs(over_budget)
        order = fit.order + self.item_order[items] + np.float32(0.3) * taste
        order -= np.float32(1.2) * sensitivity * np.maximum(over_budget, 0)
        return Fit(click + np.float32(self.bases[0]), order + np.float32(self.bases[1]), fit.is_related)

    def stray(self) -> tuple[float, float]:
        """P(click | examined) and P(order | clicked) of an item unrelated to the search."""
        return STRAY_CLICK, self.order_rate or 0.0

    def chances(self, odds: Fit) -> tuple[Float32[np.ndarray, "..."], Float32[np.ndarray, "..."]]:
        """P(click | examined) and P(order | clicked) of `log_odds`."""
        click = np.where(odds.is_related, expit(odds.click), np.float32(STRAY_CLICK))
        if self.order_rate is not None:
            return click, np.full_like(click, self.order_rate)
        return click, np.where(odds.is_related, expit(odds.order), np.float32(0))


def _product(
    a: Float32[np.ndarray, "m width"],
    a_rows: np.ndarray,
    b: Float32[np.ndarray, "n width"],
    b_rows: np.ndarray,
    weight: float,
) -> Float32[np.ndarray, "..."]:
    """`weight` times the inner product of each pair of rows; column by column, so memory holds one number per pair."""
    total = np.float32(0)
    for column in range(a.shape[1]):
        total = total + (np.float32(weight) * a[:, column])[a_rows] * b[:, column][b_rows]
    return np.asarray(total, np.float32)
