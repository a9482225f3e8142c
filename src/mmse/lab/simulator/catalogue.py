"""The items of the simulated shop: what they are, how their sellers title them, and what nobody can see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Float32, Int, Int32

from mmse.lab.simulator.vocabulary import KINDS, STUFFING, Vocabulary, read_vocabulary
from mmse.lab.simulator.wording import Wording, made_up_names

ITEMS_PER_LEAF: Final = 60
LARGEST_LEAF: Final = 150
STYLES: Final = 4
"""Width of the vectors of hidden style and of brand taste."""
ATTRIBUTES: Final = ("colour", "material", "kind", "feature")
UNCOLOURED: Final = ("Groceries", "Beauty & Health")
LISTED_BEFORE: Final = 0.85
"""Share of the catalogue that the shop opens with; the rest arrives evenly over the log."""


@dataclass(frozen=True)
class Tree:
    """The categories in use.

    `head` and `kind` are concepts of `wording` (kind -1: none); `base` is the leaf
    without its kind. `options` are the concepts an item of the leaf may have per attribute, -1 padded, and
    `chances` their cumulative probability.
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
    stuffing: Int32[np.ndarray, " n_stuffing"]
    brands: Int32[np.ndarray, " n_brands"]
    wording: Wording


@dataclass(frozen=True)
class Catalogue:
    """`table` is what the shop shows; everything else is known to the simulation alone.

    Times are days since the log's start (negative: before it). `relative_price` is the log of the price over
    the leaf's typical price. `appeal` is how good the listing looks, `quality` how good the item is.
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
    listed: Float32[np.ndarray, " n_items"]
    delisted: Float32[np.ndarray, " n_items"]


def plant_tree(n_items: int, gap: float, rng: np.random.Generator) -> Tree:
    """As many categories as `n_items` items fill: a part of the vocabulary's, or all with several kinds each."""
    vocabulary = read_vocabulary()
    n_bases = int(np.clip(n_items // ITEMS_PER_LEAF, 12, len(vocabulary.leaves)))
    bases = [vocabulary.leaves[i] for i in np.linspace(0, len(vocabulary.leaves) - 1, n_bases).astype(int)]
    kinds = [None, *(kind.strip() for kind in KINDS.split(","))]
    kinds = kinds[: int(np.clip(-(-n_items // (LARGEST_LEAF * n_bases)), 1, len(kinds)))]
    concepts: dict[tuple[str, ...], int] = {}

    def known(names: tuple[str, ...]) -> int:
        return concepts.setdefault(names, len(concepts))

    leaves = [(number, base, kind) for number, base in enumerate(bases) for kind in kinds]
    groups = {pair: n for n, pair in enumerate(dict.fromkeys((base.department, base.group) for base in bases))}
    departments = {name: n for n, name in enumerate(dict.fromkeys(base.department for base in bases))}
    options = np.full((len(leaves), len(ATTRIBUTES), 16), -1, np.int32)
    for row, (_, base, _) in enumerate(leaves):
        for slot, values in enumerate(_values(vocabulary, base.department, base.group)):
            options[row, slot, : len(values)] = [known(value) for value in values]
    heads = [known(base.names) for _, base, _ in leaves]
    kind_concepts = [-1 if kind is None else known((kind,)) for _, _, kind in leaves]
    stuffing = [known((words.strip(),)) for words in STUFFING.split(",")]
    brands = [known((name,)) for name in made_up_names(max(40, n_items // 50), rng)]
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
        stuffing=np.array(stuffing, np.int32),
        brands=np.array(brands, np.int32),
        wording=Wording.of(list(concepts), gap, rng),
    )


def stock(tree: Tree, n_items: int, days: int, rng: np.random.Generator) -> Catalogue:
    """`n_items` items over the categories (larger and smaller ones), with their hidden sides and their titles."""
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
    listed, delisted = _listing_times(n_items, days, rng)
    catalogue = Catalogue(
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
        listed=listed,
        delisted=delisted,
    )
    return _with_table(catalogue, days, rng)


def _values(vocabulary: Vocabulary, department: str, group: str) -> list[list[tuple[str, ...]]]:
    colours = [] if department in UNCOLOURED else vocabulary.colours
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
    drawn = np.empty((len(leaf), len(ATTRIBUTES)), np.int32)
    for slot in range(len(ATTRIBUTES)):
        choice = (rng.random(len(leaf))[:, None] > tree.chances[leaf, slot, :-1]).sum(axis=1)
        drawn[:, slot] = np.where(rng.random(len(leaf)) < 1 / 6, -1, tree.options[leaf, slot, choice])
    return drawn


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
    """The hidden side of fit: partly the brand's, partly the material's, the rest the item's own."""
    brands = rng.standard_normal((len(tree.brands), STYLES))
    concepts = rng.standard_normal((len(tree.wording.first) + 1, STYLES))
    own = rng.standard_normal((len(brand), STYLES))
    style: np.ndarray = 0.55 * brands[brand] + 0.4 * concepts[attributes[:, 1]] + 0.73 * own
    return style.astype(np.float32)


def _listing_times(
    n_items: int, days: int, rng: np.random.Generator
) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """When each item came and went (one in twenty goes during the log; the others stay)."""
    before = rng.random(n_items) < LISTED_BEFORE
    listed = np.where(before, -rng.exponential(200.0, n_items) - 0.01, rng.random(n_items) * days)
    gone = rng.random(n_items) < 0.05
    delisted = np.where(gone, np.maximum(listed, 0) + rng.random(n_items) * days, np.inf)
    return listed.astype(np.float32), delisted.astype(np.float32)


def _with_table(catalogue: Catalogue, days: int, rng: np.random.Generator) -> Catalogue:
    tree, n_items = catalogue.tree, len(catalogue.leaf)
    names = tree.wording.names
    price = tree.price[catalogue.leaf] * np.exp(catalogue.relative_price)
    sellers = pa.array(made_up_names(max(20, n_items // 100), rng)).take(
        pa.array((max(20, n_items // 100) * rng.random(n_items) ** 2).astype(np.int64))
    )
    brand = names.take(pa.array(tree.wording.first[tree.brands[catalogue.brand]], mask=rng.random(n_items) < 0.03))
    day_us = 86_400_000_000
    from_start = pa.array((catalogue.listed.astype(np.float64) * day_us).astype(np.int64))
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
            "available": catalogue.delisted > days,
            "rating": catalogue.rating.astype(np.float64).round(1),
            "listed_at": from_start,
            "colour": _attribute_column(catalogue, 0, rng),
            "material": _attribute_column(catalogue, 1, rng),
        }
    )
    return Catalogue(**{**vars(catalogue), "table": table})


def _attribute_column(catalogue: Catalogue, slot: int, rng: np.random.Generator) -> pa.StringArray:
    """The attribute's first name; sellers leave three fields in ten empty."""
    concepts = catalogue.attributes[:, slot]
    empty = (concepts < 0) | (rng.random(len(concepts)) < 0.3)
    return catalogue.tree.wording.names.take(pa.array(catalogue.tree.wording.first[concepts], mask=empty))


def _titles(catalogue: Catalogue, rng: np.random.Generator) -> pa.StringArray:
    """Brand, feature, material, what it is, for whom, colour, stuffing: some dropped, the order the seller's."""
    tree, n = catalogue.tree, len(catalogue.leaf)
    colour, material, kind, feature = catalogue.attributes.T
    stuffing = rng.choice(tree.stuffing, (n, 2))
    slots = np.stack(
        [
            tree.brands[catalogue.brand],
            feature,
            material,
            tree.kind[catalogue.leaf],
            tree.head[catalogue.leaf],
            kind,
            colour,
            stuffing[:, 0],
            stuffing[:, 1],
        ],
        axis=1,
    )
    kept = np.array([0.75, 0.7, 0.6, 0.9, 0.97, 0.6, 0.6, 0.3, 0.1])
    slots = np.where(rng.random(slots.shape) < kept, slots, -1)
    keys = np.arange(slots.shape[1]) + rng.normal(0, 1.2, slots.shape)
    names = tree.wording.choose(slots, tree.wording.sellers, rng)
    second = tree.wording.choose(slots[:, 4:5], tree.wording.sellers, rng)
    second = np.where((rng.random((n, 1)) < 0.25) & (second != names[:, 4:5]), second, -1)
    names, keys = np.hstack([names, second]), np.hstack([keys, keys[:, 6:7] + 0.5])
    bare = (names < 0).all(axis=1)
    names[bare, 4] = tree.wording.first[tree.head[catalogue.leaf[bare]]]
    return pc.utf8_title(tree.wording.join(names, keys))
