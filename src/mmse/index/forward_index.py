"""The forward index: the words of every row, to compute the BM25 score of a few rows without the inverted index.

The inverted index finds the rows that contain a word. Scoring two hundred given rows with it takes as long as a search,
since it reads its lists in windows of rows, and those rows lie in different windows. Here the words are stored row by
row. The scores are Tantivy's: its formula, its rounding of field lengths, its statistics.

`forward_starts.npy` has the index in `forward_words.npy` at which the words of each row begin (64-bit hashes of field
and stem, in the order of the text), `forward_lengths.npy` the field lengths in Tantivy's one-byte code.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8, UInt64

FILES = ("forward_starts.npy", "forward_words.npy", "forward_lengths.npy")
K1: Final = 1.2
B: Final = 0.75

_EXACT = 24
_CODES = np.arange(256 - _EXACT)
_LENGTHS: Int64[np.ndarray, " codes"] = np.concatenate(
    [np.arange(_EXACT), _EXACT + np.where(_CODES < 8, _CODES, (_CODES & 7 | 8) << np.maximum(_CODES // 8 - 1, 0))]
)
"""The field length of each code: Lucene's `SmallFloat.byte4ToInt`, which Tantivy uses, too."""


@dataclass(frozen=True)
class WeightedWord:
    """A word of a query in one field: its hash, the field's number, and the most that it can add to a score."""

    word: int
    field: int
    weight: float


@final
@dataclass(frozen=True)
class ForwardIndex:
    """The words and field lengths of rows `0..n-1`; a row without an item has none."""

    starts: Int64[np.ndarray, " n_plus_1"]
    words: UInt64[np.ndarray, " total"]
    lengths: UInt8[np.ndarray, "n fields"]

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def open(cls, folder: Path) -> ForwardIndex | None:
        """The index that `save` wrote into `folder`, memory-mapped; None where there is none.

        Raises `ValueError` or `OSError` where they are damaged.
        """
        if not (folder / FILES[0]).exists():
            return None
        starts, words, lengths = (_load_array(folder / name) for name in FILES)
        if len(starts) != len(lengths) + 1 or starts[-1] != len(words) or lengths.ndim != 2:
            raise ValueError(f"{FILES[0]} does not fit {FILES[1]} and {FILES[2]}")
        return cls(starts, words, lengths)

    def save(self, folder: Path) -> None:
        """Writes its files into `folder`; a former file is replaced, not changed, as it may be linked or mapped."""
        for name, content in zip(FILES, (self.starts, self.words, self.lengths), strict=True):
            draft = folder / f"{name}.writing"
            with draft.open("wb") as handle:
                np.save(handle, content, allow_pickle=False)
            draft.replace(folder / name)

    def score(
        self,
        query_words: Sequence[WeightedWord],
        rows: Int64[np.ndarray, " m"],
        mean_lengths: Float64[np.ndarray, " fields"],
    ) -> Float32[np.ndarray, " m"]:
        """The BM25 score of each row; `query_words` has each word of each field once."""
        words, fields = np.array([word.word for word in query_words], np.uint64), [word.field for word in query_words]
        weights = np.array([word.weight for word in query_words])
        occurrences = self._find_occurrences(words, rows)
        pairs = occurrences.owner * len(query_words) + occurrences.query_word
        counts = np.bincount(pairs, minlength=len(rows) * len(query_words)).reshape(len(rows), len(query_words))
        lengths = (_LENGTHS[self.lengths.take(rows, axis=0)] / mean_lengths)[:, fields]
        return np.asarray((counts / (counts + K1 * (1 - B + B * lengths))) @ weights, np.float32)

    def count(self, word: int, row: int) -> int:
        """How often `row` contains `word`."""
        return int(np.count_nonzero(self.words[self.starts[row] : self.starts[row + 1]] == np.uint64(word)))

    def contain_phrases(
        self, phrases: Sequence[Sequence[Sequence[int]]], rows: Int64[np.ndarray, " m"]
    ) -> Bool[np.ndarray, " m"]:
        """Which rows contain every phrase. A phrase is a list of runs of words; a row must contain one of them."""
        row_words = self._read_rows(rows)
        holds_all = np.ones(len(rows), bool)
        for phrase in phrases:
            holds_phrase = np.zeros(len(rows), bool)
            for run in phrase:
                holds_phrase[row_words.owner[_find_runs(row_words, np.array(run, np.uint64))]] = True
            holds_all &= holds_phrase
        return holds_all

    def _find_occurrences(self, query_words: UInt64[np.ndarray, " w"], rows: Int64[np.ndarray, " m"]) -> _Occurrences:
        """The occurrences of `query_words` in the rows."""
        row_words = self._read_rows(rows)
        order = np.argsort(query_words)
        positions = np.minimum(np.searchsorted(query_words, row_words.words, sorter=order), len(query_words) - 1)
        query_word = order[positions]
        matches = np.flatnonzero(query_words[query_word] == row_words.words)
        return _Occurrences(row_words.owner[matches], query_word[matches])

    def _read_rows(self, rows: Int64[np.ndarray, " m"]) -> _FlatWords:
        starts, counts = self.starts[rows], self.starts[rows + 1] - self.starts[rows]
        owner = np.repeat(np.arange(len(rows)), counts)
        indices = np.arange(len(owner)) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
        return _FlatWords(owner, self.words.take(indices))


@dataclass(frozen=True)
class _FlatWords:
    """The words of some rows, one after the other, and the index of the row that each belongs to."""

    owner: Int64[np.ndarray, " t"]
    words: UInt64[np.ndarray, " t"]


@dataclass(frozen=True)
class _Occurrences:
    """Occurrences of query words: the index of the row, and the index of the query word."""

    owner: Int64[np.ndarray, " h"]
    query_word: Int64[np.ndarray, " h"]


@final
class ForwardDraft:
    """Collects the words of added rows, on top of a `former` index."""

    def __init__(self, former: ForwardIndex | None, fields: int) -> None:
        self._former, self._fields = former, fields
        self._removed_rows = np.empty(0, np.int64)
        self._rows, self._counts, self._words = array("q"), array("q"), array("Q")

    def add(self, row: int, fields: Sequence[Sequence[int]]) -> None:
        """Adds the item at `row`, as the hashes of the words of each field."""
        self._rows.append(row)
        for words in fields:
            self._counts.append(len(words))
            self._words.extend(words)

    def remove(self, rows: Int64[np.ndarray, " m"]) -> None:
        """Removes the words of `rows`."""
        self._removed_rows = np.union1d(self._removed_rows, rows)
        is_kept = ~np.isin(np.frombuffer(self._rows, np.int64), rows) if len(self._rows) else np.ones(0, bool)
        if not is_kept.all():
            counts = _to_array(self._counts).reshape(-1, self._fields)
            words = np.repeat(is_kept, counts.sum(axis=1))
            self._rows = array("q", _to_array(self._rows)[is_kept].tolist())
            self._counts = array("q", counts[is_kept].ravel().tolist())
            self._words = array("Q", np.frombuffer(self._words, np.uint64)[words].tolist())

    def build(self) -> ForwardIndex:
        """The former index with all additions and removals."""
        rows, counts = _to_array(self._rows), _to_array(self._counts).reshape(-1, self._fields)
        words = np.frombuffer(self._words, np.uint64) if len(self._words) else np.empty(0, np.uint64)
        former = self._former or ForwardIndex(np.zeros(1, np.int64), words[:0], np.empty((0, self._fields), np.uint8))
        n = max(len(former), int(rows.max(initial=-1)) + 1)
        starts_by_row, per_row, lengths = (
            np.zeros(n, np.int64),
            np.zeros(n, np.int64),
            np.zeros((n, self._fields), np.uint8),
        )
        former_rows = np.setdiff1d(np.arange(len(former)), self._removed_rows, assume_unique=True)
        starts_by_row[former_rows], per_row[former_rows] = (
            former.starts[former_rows],
            np.diff(former.starts)[former_rows],
        )
        lengths[former_rows] = former.lengths[former_rows]
        totals = counts.sum(axis=1)
        starts_by_row[rows], per_row[rows] = len(former.words) + np.cumsum(totals) - totals, totals
        lengths[rows] = np.searchsorted(_LENGTHS, counts, side="right") - 1
        starts = np.zeros(n + 1, np.int64)
        np.cumsum(per_row, out=starts[1:])
        indices = np.arange(starts[-1]) + np.repeat(starts_by_row - starts[:-1], per_row)
        return ForwardIndex(starts, np.concatenate([former.words, words])[indices], lengths)


def remove_files(folder: Path) -> None:
    """Removes the files of `ForwardIndex.save` from `folder`, if there are any; an open index keeps its data."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def hash_word(field: str, stem: str) -> int:
    """The hash of `stem` in `field`, as in `ForwardIndex`; the same on every machine."""
    text = f"{field} {stem}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def decode_length(code: int) -> float:
    """The field length that Tantivy uses for a length with this code."""
    return float(_LENGTHS[code])


def round_length(length: int) -> float:
    """The field length that Tantivy uses for `length` words."""
    return float(_LENGTHS[np.searchsorted(_LENGTHS, length, side="right") - 1])


def _find_runs(row_words: _FlatWords, run: UInt64[np.ndarray, " r"]) -> Int64[np.ndarray, " f"]:
    """The indices at which the words of `run` follow one another within one row."""
    n_starts = len(row_words.words) - len(run) + 1
    if n_starts <= 0:
        return np.empty(0, np.int64)
    is_run = row_words.owner[:n_starts] == row_words.owner[len(run) - 1 :]
    for i, word in enumerate(run):
        is_run &= row_words.words[i : i + n_starts] == word
    return np.flatnonzero(is_run)


def _to_array(numbers: array[int]) -> Int64[np.ndarray, " n"]:
    return np.frombuffer(numbers, np.int64) if len(numbers) else np.empty(0, np.int64)


def _load_array(path: Path) -> np.ndarray:
    small = path.stat().st_size <= 4_096  # an empty array cannot be mapped
    return np.asarray(np.load(path, mmap_mode=None if small else "r", allow_pickle=False))
