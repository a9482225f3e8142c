"""Builds the hits that a search shows: each item with its score, and where the score comes from."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
from jaxtyping import Float32, Int64

from mmse.catalogue.snapshot import Snapshot
from mmse.index.lexical import LexicalIndex
from mmse.model.encoder import Encoder
from mmse.retrieval.query_context import QueryContext
from mmse.retrieval.rank import RankedBlock
from mmse.schema.filters import Filter
from mmse.schema.search import MEMORY_PART, WORDS_PART, Hit
from mmse.schema.value_sets import values_of
from mmse.text.normalise import words

LEAD_REASON = "names what the query names"
_WORDS_PHRASE = "same words"
_MEMORY_PHRASE = "often taken"
_NO_WORDS = "No item has any of these words: the hits are near in meaning."
_UNKNOWN_WORDS = (
    "No item and no known query has any of these words (numbers and 'the' aside): nothing tells how likely "
    "the hits are."
)
_MAX_NOTES, _MAX_NEAR = 5, 3
_MAX_VALUE = 80
"""Characters of a value that a note shows."""
_CACHE_SIZE = 20_000
"""So many brands and levels of categories are kept as words."""


def build_hits(context: QueryContext, block: RankedBlock, encoder: Encoder, *, explain: bool) -> list[Hit]:
    """The hits of `block`, which has some; `encoder` made the fused vectors."""
    rows, order = block.rows, block.order
    scores = block.scores[order].tolist()
    probabilities = [None] * len(rows) if block.probabilities is None else block.probabilities[order].tolist()
    parts: Sequence[dict[str, float]] = [{} for _ in scores]
    matched_words: Sequence[tuple[str, ...]] = [()] * len(rows)
    named_values: Sequence[tuple[str, ...]] = [()] * len(rows)
    items = context.snapshot.display_items(rows)
    if explain:
        memory_share = block.candidates.memory_share
        shares = None if memory_share is None else memory_share[order]
        parts = _parts(context, rows, block.candidates.lexical[order], shares, encoder.widths)
        matched_words = _match_words(context.query, items, encoder.space.text_columns, context.snapshot.lexical)
        named_values = _name_values(context.query, items, matched_words, context.snapshot.lexical)
    moved_by = [
        (*block.moved_by.get(index, ()), LEAD_REASON) if is_lead else block.moved_by.get(index, ())
        for index, is_lead in zip(order.tolist(), block.is_lead[order].tolist(), strict=True)
    ]
    variants = _variants(context, block)
    columns = zip(items, scores, probabilities, parts, matched_words, named_values, moved_by, variants, strict=True)
    phrases = {**encoder.phrases, WORDS_PART: _WORDS_PHRASE, MEMORY_PART: _MEMORY_PHRASE}
    return [
        Hit.unchecked(
            rank=rank,
            item_id=item["item_id"],
            title=item["title"],
            score=score,
            probability=probability,
            parts=shares,
            matched=item_words,
            named=values,
            moved_by=reasons,
            item=item,
            variants=item_variants,
            phrases=phrases,
        )
        for rank, (item, score, probability, shares, item_words, values, reasons, item_variants) in enumerate(
            columns, block.first_rank
        )
    ]


def notes_of(context: QueryContext) -> tuple[str, ...]:
    """What to say of a code or of words that nobody knows, how the search was loosened, and of values of the filter."""
    effects, filter = context.effects, context.filter
    if filter is None and context.is_unknown_code:  # under a filter it may only be filtered out
        notes = [f"No item has the code '{_shorten(effects.query)}'."]
    elif not effects.has_known_word:
        notes = [_UNKNOWN_WORDS]
    else:
        notes = [_NO_WORDS] if filter is None and context.is_without_matches else []
    notes += [
        f"Nobody knows '{_shorten(word)}': the search was for words near it, such as {', '.join(near[:_MAX_NEAR])}."
        for word, near in effects.near_words
    ]
    return (*notes, *(() if filter is None else _filter_notes(context.snapshot, filter)))


def _filter_notes(snapshot: Snapshot, filter: Filter) -> tuple[str, ...]:
    return tuple(
        f"No item has '{_shorten(value)}' in '{column}'." + (f" Did you mean '{_shorten(similar)}'?" if similar else "")
        for column, value, similar in islice(snapshot.unknown_values(filter), _MAX_NOTES)
    )


def _shorten(value: str) -> str:
    return value if len(value) <= _MAX_VALUE else f"{value[:_MAX_VALUE]}…"


def _variants(context: QueryContext, block: RankedBlock) -> list[tuple[str, ...]]:
    """The ids of the other items in each hit's item group that the search found, best first."""
    if block.groups is None:
        return [()] * len(block)
    rows, hits = block.candidates.rows, set(block.order.tolist())
    is_found = np.isin(rows, block.found_rows) & np.isin(block.groups, block.groups[block.order])
    others = [index for index in np.argsort(-block.scores, kind="stable").tolist() if is_found[index]]
    others = [index for index in others if index not in hits]
    ids_by_group: dict[int, list[str]] = {}
    for index, item_id in zip(others, context.snapshot.values("item_id", rows[others]), strict=True):
        ids_by_group.setdefault(int(block.groups[index]), []).append(item_id)
    return [tuple(ids_by_group.get(group, ())) for group in block.groups[block.order].tolist()]


def _parts(
    context: QueryContext,
    rows: Int64[np.ndarray, " m"],
    lexical: Float32[np.ndarray, " m"],
    memory_share: Float32[np.ndarray, " m"] | None,
    view_widths: Mapping[str, int],
) -> list[dict[str, float]]:
    """The share of each view, of the query's words and of what is remembered, in the score of each row."""
    products = context.snapshot.vectors(rows) * context.vector
    starts = np.cumsum([0, *view_widths.values()])[:-1]
    names = [*view_widths, WORDS_PART]
    views = np.add.reduceat(products, starts, axis=1).astype(np.float64)
    columns = [views, context.weight * lexical]
    if memory_share is not None:
        names.append(MEMORY_PART)
        columns.append(memory_share)
    table = np.column_stack(columns)
    return [dict(zip(names, shares, strict=True)) for shares in table.tolist()]


def _match_words(
    query: str, items: Sequence[Mapping[str, object]], columns: Sequence[str], lexical: LexicalIndex
) -> list[tuple[str, ...]]:
    """The words in the `columns` of each item, in their order, that the lexical channel takes for words of `query`.

    `cases` is one of `case`.
    """
    query_stems = set(lexical.stems(query))
    has_match = functools.cache(lambda word: not query_stems.isdisjoint(lexical.item_stems(word)))

    def match(item: Mapping[str, object]) -> tuple[str, ...]:
        text = " ".join(value for column in columns for value in values_of(item.get(column)))
        return tuple(word for word in dict.fromkeys(words(text)) if has_match(word))

    return [match(item) for item in items]


def _name_values(
    query: str, items: Sequence[Mapping[str, object]], matched_words: Sequence[tuple[str, ...]], lexical: LexicalIndex
) -> list[tuple[str, ...]]:
    """Each item's brand, and the lowest level of its category, whose words stand together in `query`, in any form.

    Only values of words that the item has in common with the query are stemmed, which takes time.
    """
    query_stems = f" {' '.join(lexical.stems(query))} "

    @functools.cache
    def is_in_query(value: str) -> bool:
        return f" {' '.join(lexical.stems(value))} " in query_stems

    def name(item: Mapping[str, object], common_words: frozenset[str]) -> tuple[str, ...]:
        def is_named(value: str) -> bool:
            value_words = _value_words(value)
            return bool(value_words) and value_words <= common_words and is_in_query(value)

        brands = [f"brand '{brand}'" for brand in values_of(item.get("brand")) if is_named(brand)]
        paths = [path.split(" > ") for path in values_of(item.get("category"))]
        levels = [next((level for level in reversed(path) if is_named(level)), None) for path in paths]
        return tuple(dict.fromkeys([*brands, *(f"category '{level}'" for level in levels if level)]))

    return [
        name(item, frozenset(common_words)) if common_words else ()
        for item, common_words in zip(items, matched_words, strict=True)
    ]


@functools.lru_cache(_CACHE_SIZE)
def _value_words(value: str) -> frozenset[str]:
    return frozenset(words(value))
