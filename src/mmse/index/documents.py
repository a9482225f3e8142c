"""Items as documents of the lexical index: its one writer, and how texts and values stand in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tantivy
from jaxtyping import Int64

from mmse.index.base import Progress
from mmse.index.forward_index import ForwardDraft, hashed
from mmse.index.row_scores import FIELDS, Rows
from mmse.schema.filters import Kind, comparable, path_of, paths_above
from mmse.text.bm25 import words
from mmse.text.tokenizer import MAX_CHARACTERS

_SAY_EVERY = 16_384
_HEAP_BYTES = 256_000_000
_LIVE_HEAP_BYTES = 32_000_000


@final
class LexicalWriter:
    """Adds and removes items; nothing is seen before `commit`, which is all or nothing."""

    def __init__(
        self, index: tantivy.Index, kinds: Mapping[str, Kind], *, live: bool, rows: Rows | None, words: Words | None
    ) -> None:
        """`rows` learns what changes, `words` takes it in."""
        self._writer = index.writer(_LIVE_HEAP_BYTES if live else _HEAP_BYTES, 1)
        self._kinds = dict(kinds)
        self._rows, self._words = rows, words

    def add(
        self,
        rows: Int64[np.ndarray, " n"],
        items: pa.Table,
        attributes: Sequence[str],
        progress: Progress | None = None,
    ) -> None:
        """Takes in `items` under their `rows`; `attributes` names the columns of the field of that name."""
        if self._rows is not None:
            self._rows.touch(rows)
        columns = [["title"], ["brand"], ["category"], attributes]
        texts = dict(zip(FIELDS, (_texts(items, some) for some in columns), strict=True))
        values = {name: items[name].to_pylist() for name in self._kinds if name in items.column_names}
        for place, row in enumerate(rows.tolist()):
            said = {field: readable(text[place]) for field, text in texts.items()}
            self._writer.add_document(self._document(row, said, {name: held[place] for name, held in values.items()}))
            if self._words is not None:
                self._words.add(row, said)
            if progress is not None and place % _SAY_EVERY == 0:
                progress("words indexed", place, len(rows))

    def remove(self, rows: Int64[np.ndarray, " n"]) -> None:
        """Drops the items at `rows`, whichever are held."""
        if self._rows is not None:
            self._rows.touch(rows)
        if self._words is not None:
            self._words.draft.remove(rows)
        for row in rows.tolist():
            self._writer.delete_documents_by_term("row", row)

    def commit(self) -> None:
        """Makes all that was added and removed since the last commit visible to an index that is then refreshed."""
        self._writer.commit()
        if self._words is not None:
            self._words.save()

    def close(self) -> None:
        """Waits for the library's own merging and gives the index free for another writer."""
        self._writer.wait_merging_threads()

    def _document(self, row: int, said: Mapping[str, str], values: Mapping[str, object]) -> tantivy.Document:
        document = tantivy.Document()
        document.add_integer("row", row)
        for field, text in said.items():
            if text:
                document.add_text(field, text)
        for name, value in values.items():
            if value is not None:
                _add_value(document, field_of(self._kinds, name), self._kinds[name], value)
        return document


@final
class Words:
    """What a writer adds, row by row as well; `save` writes it into `folder`."""

    def __init__(self, draft: ForwardDraft, folder: Path, analyzer: tantivy.TextAnalyzer) -> None:
        self.draft, self._folder = draft, folder
        self._analyzer = analyzer
        self._hashes: dict[str, dict[str, list[int]]] = {field: {} for field in FIELDS}

    def add(self, row: int, said: Mapping[str, str]) -> None:
        """Takes in the texts of the fields of the item at `row`, in the form of `readable`."""
        self.draft.add(row, [self._hashed(field, said[field]) for field in FIELDS])

    def save(self) -> None:
        """Writes all that was added over what was there."""
        self.draft.made().save(self._folder)

    def _hashed(self, field: str, text: str) -> list[int]:
        """Each different word is stemmed once."""
        known = self._hashes[field]
        for word in (all_words := text.split()):
            if word not in known:
                known[word] = [hashed(field, stem) for stem in self._analyzer.analyze(word)]
        return [one for word in all_words for one in known[word]]


def readable(text: str) -> str:
    """`text` as words that the analyzer only has to split at spaces and stem: the same words everywhere in mmse."""
    return " ".join(words(text[:MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")))


def term_of(value: object) -> str:
    """A value of a filterable column as the index holds it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def field_of(kinds: Mapping[str, Kind], column: str) -> str:
    """The index's name of a filterable column: a shop's own may hold any character."""
    return f"column{list(kinds).index(column)}"


def _add_value(document: tantivy.Document, field: str, kind: Kind, value: object) -> None:
    if kind is Kind.NUMBER:
        assert isinstance(value, (int, float))
        if not math.isnan(value):
            document.add_float(field, float(value))
        return
    if kind is Kind.PATH:
        for path in paths_above(path_of(str(value))):
            document.add_text(field, path)
    elif text := (term_of(value) if kind is Kind.FLAG else comparable(str(value))):
        document.add_text(field, text)


def _texts(items: pa.Table, columns: Sequence[str]) -> list[str]:
    parts = [pc.fill_null(pc.cast(items[c], pa.string()), "") for c in columns if c in items.column_names]
    joined: list[str] = pc.binary_join_element_wise(*parts, " ").to_pylist() if parts else [""] * len(items)
    return joined
