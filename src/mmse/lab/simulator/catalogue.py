"""The items of the simulated shop: their attributes, the titles that sellers give them, and their hidden properties."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Float32, Int, Int32

from mmse.lab.simulator.presets import ShopKind
from mmse.lab.simulator.vocabulary import FILLERS, KINDS, Vocabulary, read_vocabulary
from mmse.lab.simulator.wording import Wording, invent_names

DAY_US: Final = 86_400_000_000
ITEMS_PER_LEAF: Final = 60
LARGEST_LEAF: Final = 150
ATTRIBUTE_COLUMNS: Final = ("category", "brand", "colour", "material")
PLAIN: Final = ShopKind()
STYLES: Final = 4
"""Width of the vectors of hidden style and of brand taste."""
ATTRIBUTES: Final = ("colour", "material", "kind", "feature")
COLOURLESS_DEPARTMENTS: Final = ("Groceries", "Beauty & Health")


@dataclass(frozen=True)
class Tree:
    """The categories in use.

    `head` and `kind` are concepts of `wording` (kind -1: none); `base` is the leaf without its kind. `options` are
    the concepts that an item of the leaf may have per attribute, -1 padded, and `chances` their cumulative
    probability. `fillers` are the concepts that sellers add to titles to be noticed.
    """

    paths: list[str]
    department: Int32[np.ndarray, " n_leaves"]
    group: Int32[np.ndarray, " n_leaves"]
    base: Int32[np.ndarray, " n_leaves"]
    head: Int32[np.ndarray, " n_leaves"]
    kind: Int32[np.ndarray, " n_leaves"]
    price: Float[np.ndarray, " n_leaves"]
    options: Int32[np.ndarray, "n_leaves attributes width"]
    chances: Float[np.ndarray, "n_leaves attributes width"]
    fillers: Int32[np.ndarray, " n_fillers"]
    brands: Int32[np.ndarray, " n_brands"]
    wording: Wording


@dataclass(frozen=True)
class SimulatedCatalogue:
    """`table` is the shop's items table; only the simulation knows the rest.

    Days count from the log's start (negative: before it). `relative_price` is the log of the price over the leaf's
    typical price. `appeal` is how good the listing looks, `quality` how good the item is.
    """

    table: pa.Table
    tree: Tree
    leaf: Int32[np.ndarray, " n_items"]
    attributes: Int32[np.ndarray, "n_items attributes"]
    brand: Int32[np.ndarray, " n_items"]
    relative_price: Float32[np.ndarray, " n_items"]
    rating: Float32[np.ndarray, " n_items"]
    appeal: Float32[np.ndarray, " n_items"]
    quality: Float32[np.ndarray, " n_items"]
    style: Float32[np.ndarray, "n_items styles"]
    brand_taste: Float32[np.ndarray, "n_brands styles"]
    listed_day: Float32[np.ndarray, " n_items"]
    delisted_day: Float32[np.ndarray, " n_items"]


def build_tree(n_items: int, gap: float, rng: np.random.Generator, *, split_words: float = 0.0) -> Tree:
    """As many categories as `n_items` items fill: some of the vocabulary's, or all of them with several kinds each."""
    vocabulary = read_vocabulary()
    n_bases = int(np.clip(n_items // ITEMS_PER_LEAF, 12, len(vocabulary.leaves)))
    bases = [vocabulary.leaves[i] for i in np.linspace(0, len(vocabulary.leaves) - 1, n_bases).astype(int)]
    kinds = [None, *(kind.strip() for kind in KINDS.split(","))]
    kinds = kinds[: int(np.clip(-(-n_items // (LARGEST_LEAF * n_bases)), 1, len(kinds)))]
    concepts: dict[tuple[str, ...], int] = {}

    def concept(names: tuple[str, ...]) -> int:
        return concepts.setdefault(names, len(concepts))

    leaves = [(number, base, kind) for number, base in enumerate(bases) for kind in kinds]
    groups = {pair: n for n, pair in enumerate(dict.fromkeys((base.department, base.group) for base in bases))}
    departments = {name: n for n, name in enumerate(dict.fromkeys(base.department for base in bases))}
    options = np.full((len(leaves), len(ATTRIBUTES), 16), -1, np.int32)
    for row, (_, base, _) in enumerate(leaves):
        for slot, values in enumerate(_values(vocabulary, base.department, base.group)):
            options[row, slot, : len(values)] = [concept(value) for value in values]
    heads = [concept(base.names) for _, base, _ in leaves]
    kind_concepts = [-1 if kind is None else concept((kind,)) for _, _, kind in leaves]
    fillers = [concept((words.strip(),)) for words in FILLERS.split(",")]
    brands = [concept((name,)) for name in invent_names(max(40, n_items // 50), rng)]
    return Tree(
        paths=[_path(base.department, base.group, base.names[0], kind) for _, base, kind in leaves],
        department=np.array([departments[base.department] for _, base, _ in leaves], np.int32),
        group=np.array([groups[base.department, base.group] for _, base, _ in leaves], np.int32),
        base=np.array([number for number, _, _ in leaves], np.int32),
        head=np.array(heads, np.int32),
        kind=np.array(kind_concepts, np.int32),
        price=np.array([base.price for _, base, _ in leaves]),
        options=options,
        chances=_chances(options >= 0, rng),
        fillers=np.array(fillers, np.int32),
        brands=np.array(brands, np.int32),
        wording=Wording.of(list(concepts), gap, rng, split=split_words),
    )


def build_catalogue(
    tree: Tree, n_items: int, days: int, rng: np.random.Generator, kind: ShopKind = PLAIN
) -> SimulatedCatalogue:
    """`n_items` items over categories of different sizes, with their hidden properties and their titles."""
    n_leaves = len(tree.paths)
    leaf_share = rng.gamma(2.0, size=n_leaves)
    leaf = rng.choice(n_leaves, n_items, p=leaf_share / leaf_share.sum()).astype(np.int32)
    attributes = _draw_attributes(tree, leaf, rng)
    brand = _draw_brands(tree, leaf, rng)
    tier = rng.integers(-1, 2, len(tree.brands))[brand]
    normal = rng.standard_normal((5, n_items))
    quality = 0.5 * tier + 0.85 * normal[0]
    appeal = -0.15 * quality + normal[1]
    relative_price = 0.35 * tier + 0.1 * quality + 0.3 * normal[2]
    rating = np.clip(4.0 + 0.35 * quality + 0.1 * appeal + 0.3 * normal[3], 1.0, 5.0).round(1)
    brand_taste = rng.standard_normal((len(tree.brands), STYLES)) / np.sqrt(STYLES)
    listed_day, delisted_day = _listing_days(days, kind, 0.6 * appeal + quality, rng)
    catalogue = SimulatedCatalogue(
        table=pa.table({}),
        tree=tree,
        leaf=leaf,
        attributes=attributes,
        brand=brand,
        relative_price=relative_price.astype(np.float32),
        rating=rating.astype(np.float32),
        appeal=appeal.astype(np.float32),
        quality=quality.astype(np.float32),
        style=_styles(tree, attributes, brand, rng),
        brand_taste=brand_taste.astype(np.float32),
        listed_day=listed_day,
        delisted_day=delisted_day,
    )
    catalogue = _with_table(catalogue, days, rng)
    if kind.has_attribute_columns:
        return catalogue
    return replace(catalogue, table=catalogue.table.drop_columns(list(ATTRIBUTE_COLUMNS)))


def _values(vocabulary: Vocabulary, department: str, group: str) -> list[list[tuple[str, ...]]]:
    colours = [] if department in COLOURLESS_DEPARTMENTS else vocabulary.colours
    return [
        colours,
        vocabulary.materials[department],
        vocabulary.kinds[department],
        vocabulary.features[department, group],
    ]


def _path(department: str, group: str, name: str, kind: str | None) -> str:
    path = f"{department} > {group} > {name.capitalize()}"
    return path if kind is None else f"{path} > {kind.capitalize()} {name}"


def _chances(exists: Bool[np.ndarray, "*shape"], rng: np.random.Generator) -> Float[np.ndarray, "*shape"]:
    weights = np.where(exists, rng.gamma(0.7, size=exists.shape), 0.0)
    shares: np.ndarray = weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-9)
    return np.cumsum(shares, axis=-1)


def _draw_attributes(
    tree: Tree, leaf: Int32[np.ndarray, " n"], rng: np.random.Generator
) -> Int32[np.ndarray, "n attributes"]:
    """A value per attribute by the leaf's own chances; one in six items lacks the attribute."""
    attributes = np.empty((len(leaf), len(ATTRIBUTES)), np.int32)
    for slot in range(len(ATTRIBUTES)):
        choice = (rng.random(len(leaf))[:, None] > tree.chances[leaf, slot, :-1]).sum(axis=1)
        attributes[:, slot] = np.where(rng.random(len(leaf)) < 1 / 6, -1, tree.options[leaf, slot, choice])
    return attributes


def _draw_brands(tree: Tree, leaf: Int32[np.ndarray, " n"], rng: np.random.Generator) -> Int32[np.ndarray, " n"]:
    """A brand per item: every department has its own, a few of them large."""
    n_departments = int(tree.department.max()) + 1
    per_department = len(tree.brands) // n_departments
    rank = (per_department * rng.random(len(leaf)) ** 2).astype(np.int32)
    brand: np.ndarray = tree.department[leaf] + n_departments * rank
    return brand.astype(np.int32)


def _styles(
    tree: Tree, attributes: Int[np.ndarray, "n attributes"], brand: Int[np.ndarray, " n"], rng: np.random.Generator
) -> Float32[np.ndarray, "n styles"]:
    """The hidden part of fit: partly the brand's, partly the material's, the rest the item's own."""
    brands = rng.standard_normal((len(tree.brands), STYLES))
    concepts = rng.standard_normal((len(tree.wording.starts) + 1, STYLES))
    own = rng.standard_normal((len(brand), STYLES))
    style: np.ndarray = 0.55 * brands[brand] + 0.4 * concepts[attributes[:, 1]] + 0.73 * own
    return style.astype(np.float32)


def _listing_days(
    days: int, kind: ShopKind, demand: Float[np.ndarray, " n"], rng: np.random.Generator
) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """The days on which each item was listed and delisted (infinity: never)."""
    n_items = len(demand)
    is_initial = rng.random(n_items) < 1 - kind.arrival
    listed_day = np.where(is_initial, -rng.exponential(200.0, n_items) - 0.01, rng.random(n_items) * days)
    rank = (np.argsort(np.argsort(demand)) + 0.5) / n_items if kind.sells_best_first else 0.5
    is_delisted = rng.random(n_items) < 2 * kind.sold_out * rank
    delisted_day = np.where(is_delisted, np.maximum(listed_day, 0) + rng.random(n_items) * days, np.inf)
    return listed_day.astype(np.float32), delisted_day.astype(np.float32)


def _with_table(catalogue: SimulatedCatalogue, days: int, rng: np.random.Generator) -> SimulatedCatalogue:
    tree, n_items = catalogue.tree, len(catalogue.leaf)
    names = tree.wording.names
    price = tree.price[catalogue.leaf] * np.exp(catalogue.relative_price)
    sellers = pa.array(invent_names(max(20, n_items // 100), rng)).take(
        pa.array((max(20, n_items // 100) * rng.random(n_items) ** 2).astype(np.int64))
    )
    brand = names.take(pa.array(tree.wording.starts[tree.brands[catalogue.brand]], mask=rng.random(n_items) < 0.03))
    listed_us = pa.array((catalogue.listed_day.astype(np.float64) * DAY_US).astype(np.int64))
    table = pa.table(
        {
            "item_id": pc.binary_join_element_wise(
                pa.scalar("i"), pc.utf8_lpad(pa.array(np.arange(n_items)).cast(pa.string()), 8, "0"), ""
            ),
            "title": _titles(catalogue, rng),
            "category": pa.array(tree.paths).take(pa.array(catalogue.leaf)),
            "brand": brand,
            "seller": sellers,
            "price": np.maximum(price, 0.5).round(2),
            "available": catalogue.delisted_day > days,
            "rating": catalogue.rating.astype(np.float64).round(1),
            "listed_at": listed_us,
            "colour": _attribute_column(catalogue, 0, rng),
            "material": _attribute_column(catalogue, 1, rng),
        }
    )
    return replace(catalogue, table=table)


def _attribute_column(catalogue: SimulatedCatalogue, slot: int, rng: np.random.Generator) -> pa.StringArray:
    """The attribute's first name; sellers leave three fields in ten empty."""
    concepts = catalogue.attributes[:, slot]
    empty = (concepts < 0) | (rng.random(len(concepts)) < 0.3)
    return catalogue.tree.wording.names.take(pa.array(catalogue.tree.wording.starts[concepts], mask=empty))


def _titles(catalogue: SimulatedCatalogue, rng: np.random.Generator) -> pa.StringArray:
    """Brand, feature, material, kind, head, audience, colour, fillers: some left out, in the seller's own order."""
    tree, n = catalogue.tree, len(catalogue.leaf)
    colour, material, kind, feature = catalogue.attributes.T
    fillers = rng.choice(tree.fillers, (n, 2))
    slots = np.stack(
        [
            tree.brands[catalogue.brand],
            feature,
            material,
            tree.kind[catalogue.leaf],
            tree.head[catalogue.leaf],
            kind,
            colour,
            fillers[:, 0],
            fillers[:, 1],
        ],
        axis=1,
    )
    chances = np.array([0.75, 0.7, 0.6, 0.9, 0.97, 0.6, 0.6, 0.3, 0.1])
    slots = np.where(rng.random(slots.shape) < chances, slots, -1)
    keys = np.arange(slots.shape[1]) + rng.normal(0, 1.2, slots.shape)
    names = tree.wording.choose(slots, tree.wording.sellers, rng)
    second = tree.wording.choose(slots[:, 4:5], tree.wording.sellers, rng)
    second = np.where((rng.random((n, 1)) < 0.25) & (second != names[:, 4:5]), second, -1)
    names, keys = np.hstack([names, second]), np.hstack([keys, keys[:, 6:7] + 0.5])
    is_empty = (names < 0).all(axis=1)
    names[is_empty, 4] = tree.wording.starts[tree.head[catalogue.leaf[is_empty]]]
    return pc.utf8_title(tree.wording.join(names, keys))
