"""How often words, and pairs of neighbours, stand in texts; counts that name no text but its hash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt64

from mmse.text.hashing import digests
from mmse.text.normalise import normalise, word_spans
from mmse.text.terms import fold


class HashedCounts:
    """Numbers by text; the texts are kept as hashes."""

    def __init__(self, hashes: UInt64[np.ndarray, " n"], numbers: Int64[np.ndarray, " n"]) -> None:
        self._hashes, self._numbers = hashes, numbers

    @classmethod
    def of(cls, numbers: Mapping[str, int]) -> HashedCounts:
        """The numbers of some texts."""
        hashes = digests(numbers)
        order = np.argsort(hashes)
        return cls(hashes[order], np.fromiter(numbers.values(), np.int64, len(numbers))[order])

    def get(self, text: str, default: int) -> int:
        """The number of `text`, `default` where it has none."""
        (key,) = digests([text])
        index = int(np.searchsorted(self._hashes, key))
        return int(self._numbers[index]) if index < len(self._hashes) and self._hashes[index] == key else default

    def save(self, folder: Path, name: str) -> None:
        """Writes `NAME.npy` into `folder`."""
        np.save(folder / f"{name}.npy", np.stack([self._hashes, self._numbers.astype(np.uint64)]), allow_pickle=False)

    @classmethod
    def open(cls, folder: Path, name: str) -> HashedCounts:
        """The numbers saved as `name` in `folder`; raises what numpy raises where they cannot be read."""
        hashes, numbers = np.load(folder / f"{name}.npy", allow_pickle=False)
        return cls(hashes.astype(np.uint64), numbers.astype(np.int64))


def count_words(
    text: str, n: int, counts: Counter[str], spellings: Counter[tuple[str, str]] | None, pairs: Counter[str] | None
) -> None:
    """Adds the words of `text` and their pairs, `n` times."""
    normal_text, predecessor = normalise(text), ""
    for start, end in word_spans(normal_text):
        spelling = normal_text[start:end]
        word = fold(spelling)
        counts[word] += n
        if spellings is not None:
            spellings[word, spelling] += n
        if predecessor and pairs is not None:
            pairs[f"{predecessor} {word}"] += n
        predecessor = word


def find_commonest(numbers: Counter[tuple[str, str]]) -> dict[str, str]:
    """The second text with the highest number of each first one."""
    best: dict[str, tuple[int, str]] = {}
    for (key, text), n in numbers.items():
        best[key] = max(best.get(key, (0, "")), (n, text))
    return {key: text for key, (_, text) in best.items()}
