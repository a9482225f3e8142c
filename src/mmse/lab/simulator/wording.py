"""The words of sellers and shoppers: every concept has several names, and each side prefers some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LEAK = 0.05
"""How often a side uses a name of the other side, of what it would without a split."""


@dataclass(frozen=True)
class Wording:
    """`names` in one flat array, the names of concept `c` together from `starts[c]`; -1 is no concept and no name.

    `sellers` and `shoppers` are, per concept, the cumulative probability of its names.
    """

    names: pa.StringArray
    starts: Int[np.ndarray, " n_concepts"]
    sellers: Float[np.ndarray, "n_concepts width"]
    shoppers: Float[np.ndarray, "n_concepts width"]

    @classmethod
    def of(
        cls, concepts: Sequence[tuple[str, ...]], gap: float, rng: np.random.Generator, *, split: float = 0.0
    ) -> Wording:
        """Draws each side's favourites once per concept; names that are written first are likelier.

        `gap` 0 gives both sides the same, 1 draws them independently. Of a share of concepts, `split`, each side has
        names of its own and hardly uses the other's.
        """
        counts = np.fromiter(map(len, concepts), np.int64, len(concepts))
        exists = np.arange(counts.max()) < counts[:, None]
        sellers = _shares(exists, rng)
        shoppers = (1 - gap) * sellers + gap * _shares(exists, rng)
        if split > 0:
            sellers, shoppers = _split_names(sellers, shoppers, counts, split, rng.spawn(1)[0])
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        names = pa.array(list(chain.from_iterable(concepts)), pa.string())
        return cls(names, starts, np.cumsum(sellers, axis=1), np.cumsum(shoppers, axis=1))

    def choose(
        self,
        concepts: Int[np.ndarray, "*shape"],
        favourites: Float[np.ndarray, "n_concepts width"],
        rng: np.random.Generator,
    ) -> Int[np.ndarray, "*shape"]:
        """A name for each concept, drawn by `favourites` (`sellers` or `shoppers`)."""
        limits = favourites[concepts]
        uniform = rng.random(concepts.shape)[..., None]
        choice = (uniform > limits[..., :-1]).sum(axis=-1)
        return np.where(concepts < 0, -1, self.starts[concepts] + choice)

    def join(self, names: Int[np.ndarray, "n slots"], keys: Float[np.ndarray, "n slots"]) -> pa.StringArray:
        """One text per row: its names in ascending order of their keys, -1 left out."""
        in_order = np.take_along_axis(names, np.argsort(keys, axis=1, kind="stable"), axis=1)
        columns = [self.names.take(pa.array(column, mask=column < 0)) for column in in_order.T]
        return pc.binary_join_element_wise(*columns, " ", null_handling="skip")


def misspell(texts: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Each text with one typing error: a letter missing, doubled, swapped with the next, or replaced."""
    offsets = rng.random(len(texts))
    errors = rng.integers(0, 4, len(texts))
    letters = rng.integers(0, len(LETTERS), len(texts))
    draws = zip(texts, offsets.tolist(), errors.tolist(), letters.tolist(), strict=True)
    return [_mistype(text, int(offset * len(text)), error, LETTERS[letter]) for text, offset, error, letter in draws]


def invent_names(count: int, rng: np.random.Generator) -> list[str]:
    """Distinct pronounceable names, for brands and sellers."""
    onsets = np.array(["b", "br", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "v", "z", "h"])
    vowels = np.array(["a", "e", "i", "o", "u", "ea", "io"])
    ends = np.array(["n", "x", "ra", "lo", "s", "ta", "vo", "k", "ma", "l", "ria", "do"])
    names: dict[str, None] = {}
    while len(names) < count:
        n = 2 * count
        parts = [rng.choice(part, n) for part in (onsets, vowels, onsets, vowels, ends)]
        for name in map("".join, zip(*parts, strict=True)):
            names.setdefault(name.capitalize())
    return list(names)[:count]


def _shares(exists: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "n_concepts width"]:
    usual = 1.0 / np.arange(1, exists.shape[1] + 1) ** 2
    weights = np.where(exists, (rng.gamma(0.8, size=exists.shape) + 0.05) * usual, 0.0)
    shares: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return shares


def _split_names(
    sellers: Float[np.ndarray, "n_concepts width"],
    shoppers: Float[np.ndarray, "n_concepts width"],
    counts: Int[np.ndarray, " n_concepts"],
    share: float,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "n_concepts width"], Float[np.ndarray, "n_concepts width"]]:
    """The shares of names after a `share` of the concepts with several names gave some to each side alone."""
    is_split = (rng.random(len(counts)) < share) & (counts > 1)
    scores = np.where(np.arange(sellers.shape[1]) < counts[:, None], rng.random(sellers.shape), np.inf)
    is_sellers = np.argsort(np.argsort(scores, axis=1), axis=1) < ((counts + 1) // 2)[:, None]
    sides = []
    for shares, is_own in ((sellers, is_sellers), (shoppers, ~is_sellers)):
        weights = np.where(is_split[:, None] & ~is_own, LEAK * shares, shares)
        sides.append(weights / weights.sum(axis=1, keepdims=True))
    return sides[0], sides[1]


def _mistype(text: str, index: int, error: int, letter: str) -> str:
    """`text` with an error at `index`: 0 drops the letter, 1 doubles it, 2 swaps it with the next, 3 replaces it."""
    head, char, tail = text[:index], text[index], text[index + 1 :]
    if char == " ":
        return head + tail if tail else text
    replacement = {0: "", 1: char + char, 2: tail[:1] + char, 3: letter}[error]
    return (head + replacement + (tail[1:] if error == 2 else tail)).strip()
