"""How items are read: their words as bags of grains, their numbers, and what each view reads besides.

A `FeatureSpace` is fitted once on the training catalogue and stored with the model. An item that arrives later is
described in the same terms: values that training never saw (a new brand, a new item id) are left out, and the item
still has its text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32, Float64

from mmse.core.errors import ArtifactError
from mmse.core.json_files import parse_json
from mmse.model.inputs import ItemFeatures, Sizes
from mmse.model.item_columns import ItemColumns, floats, read_texts
from mmse.model.views import VIEWS, vector_views
from mmse.model.views.view import View
from mmse.schema.value_sets import join_values
from mmse.text.tokenizer import Tokenizer


class FeatureSpace:
    """The vocabularies and the scales that turn items into features.

    `shop_columns` has the columns that the shop declares, under `text`, `categorical`, `numeric` and `vectors`;
    `vocabulary` is what the views keep to read other items in the same terms.
    """

    def __init__(
        self, shop_columns: dict[str, list[str]], vocabulary: dict[str, dict[str, Any]], scales: dict[str, Any]
    ) -> None:
        self.shop_columns = shop_columns
        self.vocabulary = vocabulary
        self.scales = scales

    @property
    def views(self) -> tuple[View, ...]:
        """Every view that reads items."""
        return (*VIEWS.values(), *vector_views(self.shop_columns.get("vectors", [])))

    def sizes(self, n_grains: int) -> Sizes:
        """The sizes of the inputs, with `n_grains` from the tokenizer."""
        tables = {name: size for view in self.views for name, size in view.sizes(self.vocabulary).items()}
        return Sizes(n_grains, 4 + 2 * len(self.shop_columns["numeric"]), tables)

    @classmethod
    def fit(
        cls,
        items: pa.Table,
        in_training: Bool[np.ndarray, " n"],
        *,
        text: Sequence[str],
        categorical: Sequence[str],
        numeric: Sequence[str],
        vectors: Sequence[str] = (),
    ) -> FeatureSpace:
        """Learns vocabularies and scales from `items` (the columns of `dataset/items.parquet`).

        Only items of the mask `in_training`, those that training will see, get an id of their own. `text`,
        `categorical`, `numeric` and `vectors` are the further columns that the shop declares.
        """
        shop_columns = {"text": list(text), "categorical": list(categorical), "numeric": list(numeric)}
        shop_columns["vectors"] = list(vectors)
        scales = {
            "price": _price_scales(items),
            "numeric": {c: _location_and_spread(floats(items, c)) for c in numeric},
        }
        space = cls(shop_columns, {}, scales)
        for view in space.views:
            space.vocabulary |= view.fit(space._columns(items), in_training)
        return space

    def encode(self, items: pa.Table, tokenizer: Tokenizer) -> ItemFeatures:
        """The features of every row of `items`."""
        columns = self._columns(items)
        return ItemFeatures(
            text=tokenizer.encode(self._join_texts(items)),
            numbers=self._numbers(columns),
            tables={
                name: feature for view in self.views for name, feature in view.encode(columns, self.vocabulary).items()
            },
        )

    @property
    def text_columns(self) -> list[str]:
        """The columns whose words are an item's text."""
        return ["title", "brand", "category", *self.shop_columns["categorical"], *self.shop_columns["text"]]

    def item_texts(self, items: pa.Table) -> list[str]:
        """The text of each item: title, brand, category, the shop's categorical and text columns."""
        texts: list[str] = self._join_texts(items).to_pylist()
        return texts

    def save(self, folder: Path) -> None:
        """Writes `features.json` into `folder`."""
        content = {"declared": self.shop_columns, "scales": self.scales, "vocabulary": self.vocabulary}
        (folder / "features.json").write_text(json.dumps(content, ensure_ascii=False), "utf-8")

    @classmethod
    def open(cls, folder: Path) -> FeatureSpace:
        """The space saved in `folder`; raises `ArtifactError` where the file is missing or damaged."""
        try:
            content = parse_json((folder / "features.json").read_text("utf-8"))
            return cls(content["declared"], content["vocabulary"], content["scales"])
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(
                f"Cannot read {folder / 'features.json'}: {error}.", "Train the model again."
            ) from error

    def _join_texts(self, items: pa.Table) -> pa.ChunkedArray:
        columns = [name for name in self.text_columns if name in items.column_names]
        parts = [pc.fill_null(join_values(items[name]), "") for name in columns]
        return pc.binary_join_element_wise(*parts, " ")

    def _columns(self, items: pa.Table) -> ItemColumns:
        return ItemColumns(items, self.shop_columns, self.scales["price"])

    def _numbers(self, columns: ItemColumns) -> Float32[np.ndarray, "n numbers"]:
        numbers = [*_with_presence(columns.relative_price())]
        numbers += _with_presence(columns.numbers("rating") - 4.0)
        for name in self.shop_columns["numeric"]:
            centre, spread = self.scales["numeric"][name]
            numbers += _with_presence((columns.numbers(name) - centre) / spread)
        return np.stack(numbers, axis=1).astype(np.float32)


def _price_scales(items: pa.Table) -> dict[str, float]:
    """The median of log(1 + price) of each category; that of all items has the empty name."""
    price, category = np.log1p(np.maximum(floats(items, "price"), 0)), read_texts(items, "category")[0]
    has_price = ~np.isnan(price)
    price, codes = price[has_price], category.codes[has_price]
    by_category = np.split(price[np.argsort(codes, kind="stable")], np.cumsum(np.bincount(codes)))
    medians = {
        name: float(np.median(prices))
        for name, prices in zip(category.values, by_category, strict=False)
        if name is not None and len(prices) >= 5
    }
    return medians | {"": float(np.median(price)) if len(price) else 0.0}


def _location_and_spread(values: Float64[np.ndarray, " n"]) -> tuple[float, float]:
    present = values[~np.isnan(values)]
    return (float(present.mean()), float(present.std()) or 1.0) if len(present) else (0.0, 1.0)


def _with_presence(values: Float64[np.ndarray, " n"]) -> list[Float64[np.ndarray, " n"]]:
    present = ~np.isnan(values)
    return [np.where(present, np.clip(values, -5, 5), 0.0), present.astype(np.float64)]
