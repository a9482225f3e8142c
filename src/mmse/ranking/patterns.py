"""Query patterns: a whole query in which `*` stands for any words, and which of ten thousand fit a query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mmse.text.tokenizer import MAX_CHARACTERS, normalise

ANY = "*"


@dataclass(frozen=True)
class Pattern:
    """A query in the form of `normalise`, with `*` where any words may stand, or none.

    Matching looks for each fixed part once, from left to right, so it is linear in the query, whatever both hold.
    """

    text: str

    @classmethod
    def of(cls, said: str) -> Pattern:
        """The pattern that a person wrote; raises `ValueError` saying what a pattern is."""
        if len(said) > MAX_CHARACTERS:
            raise ValueError(f"at most {MAX_CHARACTERS:,} characters")
        words: list[str] = []
        for word in normalise(said).split():
            if ANY in word and word != ANY:
                raise ValueError(f"`{ANY}` as a word of its own, with spaces around it")
            if not (word == ANY and words[-1:] == [ANY]):
                words.append(word)
        if not words:
            raise ValueError("at least one word")
        return cls(" ".join(words))

    @cached_property
    def fixed(self) -> tuple[str, ...]:
        """The words that a query must have."""
        return tuple(word for word in self.text.split() if word != ANY)

    @cached_property
    def is_exact(self) -> bool:
        """Whether it fits one query only."""
        return len(self.fixed) == len(self.text.split())

    @cached_property
    def _parts(self) -> tuple[str, ...]:
        """What stands before, between and after the `*`, with a space on either side; empty where nothing does."""
        parts = f" {self.text} ".split(f" {ANY} ") if not self.is_exact else [self.text]
        return tuple(f" {part.strip()} " if part.strip() else "" for part in parts)

    def matches(self, query: str) -> bool:
        """Whether `query`, in the form of `normalise`, fits."""
        if self.is_exact:
            return query == self.text
        padded = f" {query} "
        head, *middle, tail = self._parts
        if not (padded.startswith(head) and padded.endswith(tail)):
            return False
        at = max(len(head) - 1, 0)  # neighbours share the space between them
        for part in middle:
            found = padded.find(part, at)
            if found < 0:
                return False
            at = found + len(part) - 1
        return len(padded) - len(tail) >= at


class PatternIndex:
    """Finds the patterns that fit a query without trying all: exact ones by text, others by their rarest fixed word."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        numbers: dict[Pattern, list[int]] = {}
        for number, pattern in enumerate(patterns):
            numbers.setdefault(pattern, []).append(number)
        self._exact = {pattern.text: those for pattern, those in numbers.items() if pattern.is_exact}
        self._always = [n for pattern, those in numbers.items() if not pattern.fixed for n in those]
        self._by_word: dict[str, list[tuple[Pattern, list[int]]]] = {}
        wild = [pattern for pattern in numbers if pattern.fixed and not pattern.is_exact]
        having = Counter(word for pattern in wild for word in pattern.fixed)
        for pattern in wild:
            rarest = min(pattern.fixed, key=lambda word: having[word])
            self._by_word.setdefault(rarest, []).append((pattern, numbers[pattern]))

    def matching(self, query: str) -> list[int]:
        """The places in the sequence of the patterns that fit `query` (in the form of `normalise`), ascending."""
        found = [*self._always, *self._exact.get(query, ())]
        for word in dict.fromkeys(query.split()):
            for pattern, numbers in self._by_word.get(word, ()):
                if pattern.matches(query):
                    found += numbers
        return sorted(found)
