"""What the towers read of an item: bags of text grains, ids of its attributes, and numbers.

A `FeatureSpace` is fitted once on the training catalogue and stored with the model. An item that arrives later is
described in the same terms: values that training never saw (a new brand, a new item id) are left out, and the item
still has its text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32, Float64, Int32, Int64

from mmse.core.errors import ArtifactError
from mmse.text.tokenizer import Bags, Tokenizer

CATEGORY_LEVELS = 4
PRICE_BUCKETS = 12
STATISTICS = 3
"""Numbers per item that come from the log: see `compute_statistics`."""


@dataclass(frozen=True)
class ItemFeatures:
    """Features of `n` items. Ids of 0 mean "none": their embedding is zero.

    `text` holds the grains of title and attributes; `identity` the ids of category levels, brand, seller and the
    shop's categorical columns; `item_ids` the item's own id; `shopper` the ids that describe a shopper's taste
    (brand, category, price); `numbers` the price relative to its category, the rating, and the shop's numeric columns.
    """

    text: Bags
    identity: Int32[np.ndarray, "n identity"]
    item_ids: Int32[np.ndarray, " n"]
    shopper: Int32[np.ndarray, "n shopper"]
    numbers: Float32[np.ndarray, "n numbers"]

    def __len__(self) -> int:
        return len(self.item_ids)


class FeatureSpace:
    """The vocabulary and the scales that turn items into features.

    `shop_columns` has the columns that the shop declares, under `text`, `categorical` and `numeric`.
    """

    def __init__(
        self, shop_columns: dict[str, list[str]], vocabulary: dict[str, dict[str, int]], scales: dict[str, Any]
    ) -> None:
        self.shop_columns = shop_columns
        self.vocabulary = vocabulary
        self.scales = scales

    @property
    def n_identity(self) -> int:
        """Rows of the identity table, including row 0 for "none"."""
        return 1 + sum(len(v) for f, v in self.vocabulary.items() if f.startswith("identity:"))

    @property
    def n_item_ids(self) -> int:
        """Rows of the item-id table, including row 0 for "none"."""
        return 1 + len(self.vocabulary["item_id"])

    @property
    def n_shopper(self) -> int:
        """Rows of the shopper table, including row 0 for "none"."""
        return 1 + sum(len(v) for f, v in self.vocabulary.items() if f.startswith("shopper:"))

    @property
    def n_numbers(self) -> int:
        """Numbers per item, without those from the log."""
        return 4 + 2 * len(self.shop_columns["numeric"])

    @classmethod
    def fit(
        cls,
        items: pa.Table,
        in_training: Bool[np.ndarray, " n"],
        *,
        text: Sequence[str],
        categorical: Sequence[str],
        numeric: Sequence[str],
    ) -> FeatureSpace:
        """Learns vocabulary and scales from `items` (the columns of `dataset/items.parquet`).

        Only items of the mask `in_training`, those that training will see, get an id of their own. `text`,
        `categorical` and `numeric` are the further columns that the shop declares.
        """
        shop_columns = {"text": list(text), "categorical": list(categorical), "numeric": list(numeric)}
        scales = {
            "price": _price_scales(items),
            "numeric": {c: _location_and_spread(_floats(items, c)) for c in numeric},
        }
        space = cls(
            shop_columns,
            {"item_id": _number_values(items["item_id"].filter(pa.array(in_training)).to_pylist(), 1)},
            scales,
        )
        for table, columns in (
            ("identity", space._identity_columns(items)),
            ("shopper", space._shopper_columns(items)),
        ):
            next_id = 1
            for name, values in columns.items():
                space.vocabulary[f"{table}:{name}"] = _number_values([v for v in values if v is not None], next_id)
                next_id += len(space.vocabulary[f"{table}:{name}"])
        return space

    def encode(self, items: pa.Table, tokenizer: Tokenizer) -> ItemFeatures:
        """The features of every row of `items`."""
        return ItemFeatures(
            text=tokenizer.encode(self.item_texts(items)),
            identity=self._lookup("identity", self._identity_columns(items)),
            item_ids=_look_up_ids(self.vocabulary["item_id"], items["item_id"].to_pylist()),
            shopper=self._lookup("shopper", self._shopper_columns(items)),
            numbers=self._numbers(items),
        )

    def item_texts(self, items: pa.Table) -> list[str]:
        """The text of each item for the text view: title, brand, category, the shop's categorical and text columns."""
        columns = ["title", "brand", "category", *self.shop_columns["categorical"], *self.shop_columns["text"]]
        parts = [pc.fill_null(pc.cast(items[c], pa.string()), "") for c in columns if c in items.column_names]
        texts: list[str] = pc.binary_join_element_wise(*parts, " ").to_pylist()
        return texts

    def save(self, folder: Path) -> None:
        """Writes `features.json` into `folder`."""
        content = {"declared": self.shop_columns, "scales": self.scales, "vocabulary": self.vocabulary}
        (folder / "features.json").write_text(json.dumps(content, ensure_ascii=False), "utf-8")

    @classmethod
    def open(cls, folder: Path) -> FeatureSpace:
        """The space saved in `folder`; raises `ArtifactError` where the file is missing or damaged."""
        try:
            content = json.loads((folder / "features.json").read_text("utf-8"))
            return cls(content["declared"], content["vocabulary"], content["scales"])
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(
                f"Cannot read {folder / 'features.json'}: {error}.", "Train the model again."
            ) from error

    def _identity_columns(self, items: pa.Table) -> dict[str, list[str | None]]:
        levels = _category_levels(_strings(items, "category"))
        columns = {f"category{depth + 1}": level for depth, level in enumerate(levels)}
        for name in ("brand", "seller", *self.shop_columns["categorical"]):
            columns[name] = _strings(items, name)
        return columns

    def _shopper_columns(self, items: pa.Table) -> dict[str, list[str | None]]:
        levels = _category_levels(_strings(items, "category"))
        relative = _relative_price(items, self.scales["price"])
        steps = np.clip(np.round(relative * 3) + PRICE_BUCKETS // 2, 0, PRICE_BUCKETS - 1)
        absolute = np.round(2 * np.log1p(np.maximum(_floats(items, "price"), 0)))
        return {
            "brand": _strings(items, "brand"),
            "category1": levels[0],
            "category2": levels[1],
            "category3": levels[2],
            "relative_price": [None if np.isnan(s) else str(int(s)) for s in steps],
            "price": [None if np.isnan(a) else str(int(a)) for a in absolute],
        }

    def _lookup(self, table: str, columns: dict[str, list[str | None]]) -> Int32[np.ndarray, "n columns"]:
        return np.stack([_look_up_ids(self.vocabulary[f"{table}:{n}"], v) for n, v in columns.items()], axis=1)

    def _numbers(self, items: pa.Table) -> Float32[np.ndarray, "n numbers"]:
        columns = [*_with_presence(_relative_price(items, self.scales["price"]))]
        columns += _with_presence(_floats(items, "rating") - 4.0)
        for name in self.shop_columns["numeric"]:
            centre, spread = self.scales["numeric"][name]
            columns += _with_presence((_floats(items, name) - centre) / spread)
        return np.stack(columns, axis=1).astype(np.float32)


def look_up_shopper_ids(
    shopper: Int32[np.ndarray, "items shopper"], history: Int32[np.ndarray, "n length"]
) -> Int32[np.ndarray, "n ids"]:
    """The shopper-table ids of the items in each history.

    `shopper` is `ItemFeatures.shopper`; `history` holds item rows, -1 for none.
    """
    ids = np.where(history[:, :, None] >= 0, shopper[history], 0)
    return ids.reshape(len(history), -1).astype(np.int32)


def compute_statistics(counts: Int64[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n statistics"]:
    """Smoothed behaviour of each item, from how often it was shown, clicked and ordered.

    Gives the log click rate, log orders per shown and log orders per click, each relative to the shop's own mean and
    smoothed towards it (by 20 shown, 100 shown, 5 clicks). An item that was never shown has zeros, which is the
    shop's mean. The number of times that an item was shown is not a feature: it reflects the engine's preference and
    would put every new item at a disadvantage.
    """
    impressions, clicks, orders = (counts[:, i].astype(np.float64) for i in range(3))
    if impressions.sum() == 0:
        return np.zeros((len(counts), STATISTICS), np.float32)
    click_rate = max(clicks.sum() / impressions.sum(), 1e-6)
    order_rate = max(orders.sum() / impressions.sum(), 1e-7)
    per_click = max(orders.sum() / max(clicks.sum(), 1), 1e-6)
    rates = [
        np.log((clicks + 20 * click_rate) / (impressions + 20) / click_rate),
        np.log((orders + 100 * order_rate) / (impressions + 100) / order_rate),
        np.log((orders + 5 * per_click) / (clicks + 5) / per_click),
    ]
    return np.where(impressions[:, None] > 0, np.stack(rates, axis=1), 0).astype(np.float32)


def _strings(items: pa.Table, name: str) -> list[str | None]:
    if name not in items.column_names:
        return [None] * len(items)
    values: list[str | None] = pc.cast(items[name], pa.string()).to_pylist()
    return [v.strip().lower() or None if v is not None else None for v in values]


def _floats(items: pa.Table, name: str) -> Float64[np.ndarray, " n"]:
    if name not in items.column_names:
        return np.full(len(items), np.nan)
    values: Float64[np.ndarray, " n"] = pc.cast(items[name], pa.float64()).to_numpy(zero_copy_only=False)
    return values


def _category_levels(paths: list[str | None]) -> list[list[str | None]]:
    """For each of the top levels, the path down to it: `a`, `a > b`, … and `None` below the leaf."""
    split = [[part.strip() for part in p.split(">")] if p else [] for p in paths]
    return [[" > ".join(s[: d + 1]) if len(s) > d else None for s in split] for d in range(CATEGORY_LEVELS)]


def _price_scales(items: pa.Table) -> dict[str, float]:
    """The median of log(1 + price) of each category; that of all items has the empty name."""
    price, category = np.log1p(np.maximum(_floats(items, "price"), 0)), _strings(items, "category")
    has_price = ~np.isnan(price)
    by_category: dict[str, list[float]] = {}
    for name, value in zip(np.array(category, object)[has_price], price[has_price], strict=True):
        by_category.setdefault(name or "", []).append(value)
    medians = {name: float(np.median(values)) for name, values in by_category.items() if len(values) >= 5}
    return medians | {"": float(np.median(price[has_price])) if has_price.any() else 0.0}


def _relative_price(items: pa.Table, medians: dict[str, float]) -> Float64[np.ndarray, " n"]:
    """Log price minus the median log price of the item's category; NaN where there is no price."""
    price = np.log1p(np.maximum(_floats(items, "price"), 0))
    usual = np.array([medians.get(c or "", medians[""]) for c in _strings(items, "category")], np.float64)
    relative: Float64[np.ndarray, " n"] = price - usual
    return relative


def _location_and_spread(values: Float64[np.ndarray, " n"]) -> tuple[float, float]:
    present = values[~np.isnan(values)]
    return (float(present.mean()), float(present.std()) or 1.0) if len(present) else (0.0, 1.0)


def _with_presence(values: Float64[np.ndarray, " n"]) -> list[Float64[np.ndarray, " n"]]:
    present = ~np.isnan(values)
    return [np.where(present, np.clip(values, -5, 5), 0.0), present.astype(np.float64)]


def _number_values(values: Sequence[str], first_id: int) -> dict[str, int]:
    return {value: first_id + i for i, value in enumerate(dict.fromkeys(values))}


def _look_up_ids(vocabulary: dict[str, int], values: Sequence[str | None]) -> Int32[np.ndarray, " n"]:
    return np.fromiter((vocabulary.get(v, 0) if v is not None else 0 for v in values), np.int32, len(values))
