"""What every row says, row by row: the BM25 of any few rows without a walk through the inverted index.

The inverted index answers which rows hold a word. To ask it for the score of two hundred given rows takes as long as
to search it, since it reads its lists in windows of rows and those rows lie in different ones. Here a row's words are
read where the row stands. The scores are Tantivy's: its formula, its rounding of field lengths, its statistics.

`forward_starts.npy` says where the words of each row begin in `forward_words.npy` (64-bit hashes of field and stem, in
the order of the text), `forward_lengths.npy` has the field lengths in Tantivy's code of one byte.
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
"""The field length that each code stands for: Lucene's `SmallFloat.byte4ToInt`, which Tantivy uses too."""


@dataclass(frozen=True)
class Weighed:
    """A word of a query in one field: its hash, the field's number, and what the word adds at most."""

    word: int
    field: int
    weight: float


@final
@dataclass(frozen=True)
class Forward:
    """The words and field lengths of rows `0..n-1`; a row without an item has none."""

    starts: Int64[np.ndarray, " n_plus_1"]
    words: UInt64[np.ndarray, " total"]
    lengths: UInt8[np.ndarray, "n fields"]

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def open(cls, folder: Path) -> Forward | None:
        """What `save` wrote into `folder`, memory-mapped; None where it has no such files.

        Raises `ValueError` or `OSError` where they are damaged.
        """
        if not (folder / FILES[0]).exists():
            return None
        starts, words, lengths = (_mapped(folder / name) for name in FILES)
        if len(starts) != len(lengths) + 1 or starts[-1] != len(words) or lengths.ndim != 2:
            raise ValueError(f"{FILES[0]} does not fit {FILES[1]} and {FILES[2]}")
        return cls(starts, words, lengths)

    def save(self, folder: Path) -> None:
        """Writes its files into `folder`, each in place of a former one, which may be linked elsewhere or mapped."""
        for name, content in zip(FILES, (self.starts, self.words, self.lengths), strict=True):
            draft = folder / f"{name}.writing"
            with draft.open("wb") as handle:
                np.save(handle, content, allow_pickle=False)
            draft.replace(folder / name)

    def scores(
        self, asked: Sequence[Weighed], rows: Int64[np.ndarray, " m"], mean_lengths: Float64[np.ndarray, " fields"]
    ) -> Float32[np.ndarray, " m"]:
        """The BM25 score of each row; `asked` has each word of each field once."""
        words, fields = np.array([one.word for one in asked], np.uint64), [one.field for one in asked]
        weights = np.array([one.weight for one in asked])
        held = self._held(words, rows)
        pairs = held.owner * len(asked) + held.which
        counts = np.bincount(pairs, minlength=len(rows) * len(asked)).reshape(len(rows), len(asked))
        lengths = (_LENGTHS[self.lengths.take(rows, axis=0)] / mean_lengths)[:, fields]
        return np.asarray((counts / (counts + K1 * (1 - B + B * lengths))) @ weights, np.float32)

    def times(self, word: int, row: int) -> int:
        """How often `word` stands in `row`."""
        return int(np.count_nonzero(self.words[self.starts[row] : self.starts[row + 1]] == np.uint64(word)))

    def holds(
        self, phrases: Sequence[Sequence[Sequence[int]]], rows: Int64[np.ndarray, " m"]
    ) -> Bool[np.ndarray, " m"]:
        """Which rows hold every phrase; each is given as runs of words, one of which must stand there in one piece."""
        said = self._said(rows)
        every = np.ones(len(rows), bool)
        for phrase in phrases:
            one = np.zeros(len(rows), bool)
            for run in phrase:
                one[said.owner[_runs(said, np.array(run, np.uint64))]] = True
            every &= one
        return every

    def _held(self, wanted: UInt64[np.ndarray, " w"], rows: Int64[np.ndarray, " m"]) -> _Held:
        """Where the `wanted` words stand in the rows."""
        said = self._said(rows)
        order = np.argsort(wanted)
        places = np.minimum(np.searchsorted(wanted, said.words, sorter=order), len(wanted) - 1)
        which = order[places]
        there = np.flatnonzero(wanted[which] == said.words)
        return _Held(said.owner[there], which[there])

    def _said(self, rows: Int64[np.ndarray, " m"]) -> _Said:
        first, counts = self.starts[rows], self.starts[rows + 1] - self.starts[rows]
        owner = np.repeat(np.arange(len(rows)), counts)
        inside = np.arange(len(owner)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        return _Said(owner, self.words.take(inside))


@dataclass(frozen=True)
class _Said:
    """The words of some rows in a line, and which of the rows each belongs to."""

    owner: Int64[np.ndarray, " t"]
    words: UInt64[np.ndarray, " t"]


@dataclass(frozen=True)
class _Held:
    """Occurrences of wanted words: in which of the rows, and which of the words."""

    owner: Int64[np.ndarray, " h"]
    which: Int64[np.ndarray, " h"]


@final
class ForwardDraft:
    """Gathers the words of rows that are added, over those of a former index."""

    def __init__(self, former: Forward | None, fields: int) -> None:
        self._former, self._fields = former, fields
        self._gone = np.empty(0, np.int64)
        self._rows, self._counts, self._words = array("q"), array("q"), array("Q")

    def add(self, row: int, fields: Sequence[Sequence[int]]) -> None:
        """Takes in the hashes of the words of each field of the item at `row`."""
        self._rows.append(row)
        for words in fields:
            self._counts.append(len(words))
            self._words.extend(words)

    def remove(self, rows: Int64[np.ndarray, " m"]) -> None:
        """Forgets what was held of `rows`."""
        self._gone = np.union1d(self._gone, rows)
        kept = ~np.isin(np.frombuffer(self._rows, np.int64), rows) if len(self._rows) else np.ones(0, bool)
        if not kept.all():
            counts = _ints(self._counts).reshape(-1, self._fields)
            words = np.repeat(kept, counts.sum(axis=1))
            self._rows = array("q", _ints(self._rows)[kept].tolist())
            self._counts = array("q", counts[kept].ravel().tolist())
            self._words = array("Q", np.frombuffer(self._words, np.uint64)[words].tolist())

    def made(self) -> Forward:
        """The former index with what was added and without what was removed."""
        rows, counts = _ints(self._rows), _ints(self._counts).reshape(-1, self._fields)
        words = np.frombuffer(self._words, np.uint64) if len(self._words) else np.empty(0, np.uint64)
        former = self._former or Forward(np.zeros(1, np.int64), words[:0], np.empty((0, self._fields), np.uint8))
        n = max(len(former), int(rows.max(initial=-1)) + 1)
        first, per_row, lengths = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros((n, self._fields), np.uint8)
        kept = np.setdiff1d(np.arange(len(former)), self._gone, assume_unique=True)
        first[kept], per_row[kept] = former.starts[kept], np.diff(former.starts)[kept]
        lengths[kept] = former.lengths[kept]
        totals = counts.sum(axis=1)
        first[rows], per_row[rows] = len(former.words) + np.cumsum(totals) - totals, totals
        lengths[rows] = np.searchsorted(_LENGTHS, counts, side="right") - 1
        starts = np.zeros(n + 1, np.int64)
        np.cumsum(per_row, out=starts[1:])
        places = np.arange(starts[-1]) + np.repeat(first - starts[:-1], per_row)
        return Forward(starts, np.concatenate([former.words, words])[places], lengths)


def remove(folder: Path) -> None:
    """Removes what `save` wrote into `folder`, if it is there; what has it open keeps it."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def hashed(field: str, stem: str) -> int:
    """The word of `field` that `stem` is, as `Forward` holds it: the same on every machine."""
    said = f"{field} {stem}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "little")


def length_of(code: int) -> float:
    """The field length that Tantivy counts with, for its code."""
    return float(_LENGTHS[code])


def _runs(said: _Said, run: UInt64[np.ndarray, " r"]) -> Int64[np.ndarray, " f"]:
    """Where the words of `run` begin to stand one after the other in one row."""
    last = len(said.words) - len(run) + 1
    if last <= 0:
        return np.empty(0, np.int64)
    met = said.owner[:last] == said.owner[len(run) - 1 :]
    for place, word in enumerate(run):
        met &= said.words[place : place + last] == word
    return np.flatnonzero(met)


def _ints(numbers: array[int]) -> Int64[np.ndarray, " n"]:
    return np.frombuffer(numbers, np.int64) if len(numbers) else np.empty(0, np.int64)


def _mapped(path: Path) -> np.ndarray:
    small = path.stat().st_size <= 4_096  # an empty array cannot be mapped
    return np.asarray(np.load(path, mmap_mode=None if small else "r", allow_pickle=False))
