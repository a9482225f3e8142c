"""Requests made from a catalogue's own text, for towers that have no log, or too little of one, to learn from.

A made request is a short query out of the words of an item, with that item as what was clicked: a few words of its
title, its brand with the last words of its title, or its category. Towers that find the item by such a query learn
which words of the shop go together (self-supervision; Wang et al., *Text Embeddings by Weakly-Supervised Contrastive
Pre-training*, 2022, learn from titles and bodies in the same way). Nobody asked these queries: they are no part of the
dataset, nothing counts them, and they teach neither what shoppers like nor how likely a click is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from mmse.core.errors import TableError
from mmse.dataset.folder import DatasetFolder
from mmse.model.item_columns import read_texts
from mmse.schema.stages import Stage
from mmse.text.normalise import normalise, words
from mmse.text.slips import add_slip
from mmse.training.encoded_requests import SHARD

REQUESTS_PER_ITEM = 4
MIN_REQUESTS, MAX_REQUESTS = 20_000, 400_000
"""The bounds of how many requests are made: a small catalogue is asked more often, a large one is sampled."""

SLIP_SHARE = 0.2
"""The share of the queries with a slip of the fingers, so that mistyped words find what they mean."""
LONGEST = 5
"""A made query has at most so many words, as most queries of shoppers do."""


@dataclass(frozen=True)
class ItemWords:
    """The words of an item's title, its brand and the leaf of its category, in normal form; empty where it has none."""

    title: tuple[str, ...]
    brand: str
    leaf: str


def read_catalogue(dataset: Path, seed: int, stage: Stage) -> pa.Table:
    """`make_requests` of the items of a `dataset` folder."""
    return make_requests(pq.read_table(DatasetFolder(dataset).items), seed, stage)


def make_requests(items: pa.Table, seed: int, stage: Stage = Stage.CLICKED) -> pa.Table:
    """Requests in the form of `SHARD`, one row each: the query, and the item out of whose words it was made.

    `items` has the columns of `dataset/items.parquet`; one whose title has no word is not asked for. The item has
    `stage`. The same items and seed give the same requests. Raises `TableError` where no title has a word.
    """
    rng = np.random.default_rng([seed, 4])
    texts = _item_words(items)
    rows = _draw_items(np.flatnonzero([bool(text.title) for text in texts]), rng)
    queries = [_make_query(texts[row], rng) for row in rows]
    n = len(rows)
    columns = {
        "request_id": pa.array([f"catalogue-{number}" for number in range(n)], pa.string()),
        "query": pa.array(queries, pa.string()),
        "user_id": pa.nulls(n, pa.string()),
        "timestamp": pa.array(np.zeros(n, np.int64)).cast(pa.timestamp("us")),
        "item_row": pa.array(rows.astype(np.int32)),
        "stage": pa.array(np.full(n, stage, np.int8)),
        "examination": pa.array(np.ones(n, np.float32)),
        "explored": pa.array(np.zeros(n, np.bool_)),
    }
    return pa.table([columns[name] for name in SHARD.names], schema=SHARD)


def _item_words(items: pa.Table) -> list[ItemWords]:
    """The words of every item."""
    titles, brands, categories = (read_texts(items, name)[0].to_list() for name in ("title", "brand", "category"))
    return [
        ItemWords(_words(title), " ".join(_words(brand)), " ".join(_words((category or "").rsplit(">", 1)[-1])))
        for title, brand, category in zip(titles, brands, categories, strict=True)
    ]


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(words(normalise(text or "")))


def _draw_items(item_rows: Int64[np.ndarray, " items"], rng: np.random.Generator) -> Int64[np.ndarray, " requests"]:
    """The item of each request: every one equally often, to within one."""
    if not len(item_rows):
        raise TableError(
            "No title of the items table has a word, so there is nothing to learn from without a log.",
            "Look whether [items.columns] title names the right column, or bring a log in [events].",
        )
    n = int(np.clip(REQUESTS_PER_ITEM * len(item_rows), MIN_REQUESTS, MAX_REQUESTS))
    rounds = [rng.permutation(item_rows) for _ in range(-(-n // len(item_rows)))]
    return np.concatenate(rounds)[:n].astype(np.int64)


def _make_query(item: ItemWords, rng: np.random.Generator) -> str:
    """A query in one of the ways that the item has words for."""
    ways = [_run_of_title, _some_of_title]
    ways += [_brand_and_noun] if item.brand else []
    ways += [_category] if item.leaf else []
    query = ways[rng.integers(len(ways))](item, rng)
    return add_slip(query, rng) if rng.random() < SLIP_SHARE else query


def _run_of_title(item: ItemWords, rng: np.random.Generator) -> str:
    """Words of the title that follow one another."""
    length = min(int(rng.integers(1, LONGEST + 1)), len(item.title))
    start = int(rng.integers(0, len(item.title) - length + 1))
    return " ".join(item.title[start : start + length])


def _some_of_title(item: ItemWords, rng: np.random.Generator) -> str:
    """Some words of the title, in its order."""
    length = min(int(rng.integers(2, LONGEST + 1)), len(item.title))
    indices = np.sort(rng.permutation(len(item.title))[:length])
    return " ".join(item.title[word] for word in indices)


def _brand_and_noun(item: ItemWords, rng: np.random.Generator) -> str:
    """The brand, and the last word or two of the title."""
    return " ".join([item.brand, *item.title[-int(rng.integers(1, 3)) :]])


def _category(item: ItemWords, rng: np.random.Generator) -> str:
    """The leaf of the category, alone, after the brand, or after a word of the title."""
    prefix = ("", item.brand, item.title[int(rng.integers(len(item.title)))])[int(rng.integers(3))]
    return f"{prefix} {item.leaf}".strip()
