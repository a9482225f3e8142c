"""Items as documents of the lexical index: its writer, and the form of texts and values in it."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tantivy
from jaxtyping import Int64

from mmse.core.progress import Progress
from mmse.index.forward_index import ForwardDraft, hash_word
from mmse.index.languages import make_analyzer
from mmse.index.row_scores import FIELDS, RowWords
from mmse.schema.columns import ITEM_GROUP
from mmse.schema.filters import Kind, comparison_form, path_prefixes
from mmse.schema.value_sets import join_values, values_of
from mmse.text.codes import code_key, codes, padded_key
from mmse.text.terms import terms

CODE_FIELD = "code"
"""The field of the item's id and of what may be codes in its texts."""
_PART_ROWS = 16_384
"""Items whose texts are held at a time."""
_CACHE_SIZE = 20_000
"""So many texts are kept with their words: those of brands, categories and attributes come again and again."""
_HEAP_BYTES = 256_000_000
_LIVE_HEAP_BYTES = 32_000_000


@final
class LexicalWriter:
    """Adds and removes items; changes are visible only after `commit`, which is all or nothing."""

    def __init__(
        self,
        index: tantivy.Index,
        kinds: Mapping[str, Kind],
        *,
        live: bool,
        row_words: RowWords | None,
        forward: ForwardWriter | None,
    ) -> None:
        """Changed rows are marked in `row_words`, and added words are written to `forward`."""
        self._writer = index.writer(_LIVE_HEAP_BYTES if live else _HEAP_BYTES, 1)
        self._kinds = dict(kinds)
        self._fields = {name: field_name(kinds, name) for name in kinds}
        self._row_words, self._forward = row_words, forward

    def add(
        self,
        rows: Int64[np.ndarray, " n"],
        items: pa.Table,
        attributes: Sequence[str],
        progress: Progress | None = None,
    ) -> None:
        """Adds `items` under their `rows`; `attributes` names the columns of the field `attributes`."""
        if self._row_words is not None:
            self._row_words.mark_dirty(rows)
        for start in range(0, len(rows), _PART_ROWS):
            self._add_part(rows[start : start + _PART_ROWS], items.slice(start, _PART_ROWS), attributes)
            if progress is not None:
                progress("words indexed", start, len(rows))

    def _add_part(self, rows: Int64[np.ndarray, " n"], items: pa.Table, attributes: Sequence[str]) -> None:
        columns = [["title"], ["brand"], ["category"], attributes]
        texts = dict(zip(FIELDS, (join_columns(items, names) for names in columns), strict=True))
        values = {name: items[name].to_pylist() for name in self._kinds if name in items.column_names}
        ids, groups = (
            items[name].to_pylist() if name in items.column_names else [None] * len(rows)
            for name in ("item_id", ITEM_GROUP)
        )
        for i, row in enumerate(rows.tolist()):
            field_texts = {field: _prepare_item_text(text[i]) for field, text in texts.items()}
            document = self._make_document(row, field_texts, {name: column[i] for name, column in values.items()})
            own_codes = {code_key(str(code)) for code in (ids[i], groups[i]) if code}
            keys = {*own_codes, *codes(texts["title"][i]), *codes(texts["attributes"][i])}
            for code in keys | {padded for key in keys if (padded := padded_key(key))}:
                document.add_text(CODE_FIELD, code)
            self._writer.add_document(document)
            if self._forward is not None:
                self._forward.add(row, field_texts)

    def remove(self, rows: Int64[np.ndarray, " n"]) -> None:
        """Removes the items at `rows`; rows that are not in the index are ignored."""
        if self._row_words is not None:
            self._row_words.mark_dirty(rows)
        if self._forward is not None:
            self._forward.draft.remove(rows)
        for row in rows.tolist():
            self._writer.delete_documents_by_term("row", row)

    def commit(self) -> None:
        """Commits all changes since the last commit; an index sees them after `LexicalIndex.refresh`."""
        self._writer.commit()
        if self._forward is not None:
            self._forward.save()

    def close(self) -> None:
        """Waits for the library's merges and releases the index for another writer."""
        self._writer.wait_merging_threads()

    def _make_document(self, row: int, texts: Mapping[str, str], values: Mapping[str, object]) -> tantivy.Document:
        document = tantivy.Document()
        document.add_integer("row", row)
        for field, text in texts.items():
            if text:
                document.add_text(field, text)
        for name, value in values.items():
            if value is not None:
                _add_values(document, self._fields[name], self._kinds[name], value)
        return document


@final
class ForwardWriter:
    """Writes the forward index along with the lexical index; `save` writes it into `folder`."""

    def __init__(self, draft: ForwardDraft, folder: Path, analyzer: tantivy.TextAnalyzer) -> None:
        self.draft, self._folder = draft, folder
        self._analyzer = analyzer
        self._hashes: dict[str, dict[str, list[int]]] = {field: {} for field in FIELDS}

    def add(self, row: int, texts: Mapping[str, str]) -> None:
        """Adds the texts of the fields of the item at `row`, in the form of `prepare_text`."""
        self.draft.add(row, [self._hash_words(field, texts[field]) for field in FIELDS])

    def save(self) -> None:
        """Writes the former index with all additions and removals."""
        self.draft.build().save(self._folder)

    def _hash_words(self, field: str, text: str) -> list[int]:
        """The hashes of the stems of `text`; each distinct word is stemmed once."""
        hashes = self._hashes[field]
        for word in (all_words := text.split()):
            if word not in hashes:
                hashes[word] = [hash_word(field, stem) for stem in self._analyzer.analyze(word)]
        return [stem_hash for word in all_words for stem_hash in hashes[word]]


def prepare_text(text: str) -> str:
    """`text` as terms with spaces between them, ready for the analyzer to split and stem."""
    return " ".join(terms(text))


_prepare_item_text = functools.lru_cache(_CACHE_SIZE)(prepare_text)
"""The same, kept for texts of items alone: a query is nobody's to keep."""


_make_analyzer = functools.cache(make_analyzer)


@functools.lru_cache(_CACHE_SIZE)
def stem_item_word(language: str, word: str) -> frozenset[str]:
    """The stems of a word of an item by the stemmers of `language`; the last ones are kept."""
    return frozenset(_make_analyzer(language).analyze(prepare_text(word)))


def format_term(value: object) -> str:
    """A value of a filterable column in the form of the index."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def field_name(kinds: Mapping[str, Kind], column: str) -> str:
    """The index's name for a filterable column, since a shop's own name may have any character."""
    return f"column{list(kinds).index(column)}"


def _add_values(document: tantivy.Document, field: str, kind: Kind, value: object) -> None:
    """Adds what an item has in a filterable column: a number, a flag, or its texts."""
    if kind is Kind.NUMBER:
        assert isinstance(value, (int, float))
        if not math.isnan(value):
            document.add_float(field, float(value))
        return
    texts = [format_term(value)] if kind is Kind.FLAG else values_of(value)
    for form in dict.fromkeys(form for text in texts for form in _comparison_forms(text, kind)):
        document.add_text(field, form)


@functools.lru_cache(_CACHE_SIZE)
def _comparison_forms(text: str, kind: Kind) -> tuple[str, ...]:
    """What `text` is compared as: a path as itself and each path above it; nothing for a text without content."""
    if kind is Kind.FLAG:
        return (text,)
    form = comparison_form(text, kind)
    return tuple(filter(None, path_prefixes(form) if kind is Kind.PATH else [form]))


def join_columns(items: pa.Table, columns: Sequence[str]) -> list[str]:
    """The texts of the `columns` that `items` has, joined by blanks, one for each item."""
    parts = [pc.fill_null(join_values(items[c]), "") for c in columns if c in items.column_names]
    texts: list[str] = pc.binary_join_element_wise(*parts, " ").to_pylist() if parts else [""] * len(items)
    return texts
