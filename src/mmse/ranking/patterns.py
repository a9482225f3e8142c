"""Query patterns, whole queries in which `*` stands for any words, and a fast search for those that fit a query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mmse.text.normalise import MAX_CHARACTERS, normalise

WILDCARD = "*"


@dataclass(frozen=True)
class Pattern:
    """A query in the form of `normalise`; each `*` stands for any words, or none.

    Matching searches for each part between wildcards once, from left to right, so it is linear in the query.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """The pattern that a person wrote; raises `ValueError`, which tells what a pattern is."""
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"at most {MAX_CHARACTERS:,} characters")
        words: list[str] = []
        for word in normalise(text).split():
            if WILDCARD in word and word != WILDCARD:
                raise ValueError(f"`{WILDCARD}` as a word of its own, with spaces around it")
            if not (word == WILDCARD and words[-1:] == [WILDCARD]):
                words.append(word)
        if not words:
            raise ValueError("at least one word")
        return cls(" ".join(words))

    @cached_property
    def fixed_words(self) -> tuple[str, ...]:
        """The words that a query must have."""
        return tuple(word for word in self.text.split() if word != WILDCARD)

    @cached_property
    def is_exact(self) -> bool:
        """Whether the pattern fits one query only."""
        return len(self.fixed_words) == len(self.text.split())

    @cached_property
    def _parts(self) -> tuple[str, ...]:
        """The texts before, between and after the `*`, each with a space on either side, or empty."""
        parts = f" {self.text} ".split(f" {WILDCARD} ") if not self.is_exact else [self.text]
        return tuple(f" {part.strip()} " if part.strip() else "" for part in parts)

    def matches(self, query: str) -> bool:
        """Whether `query`, in the form of `normalise`, fits the pattern."""
        if self.is_exact:
            return query == self.text
        text = f" {query} "
        head, *middle, tail = self._parts
        if not (text.startswith(head) and text.endswith(tail)):
            return False
        end = max(len(head) - 1, 0)  # neighbouring parts share the space between them
        for part in middle:
            start = text.find(part, end)
            if start < 0:
                return False
            end = start + len(part) - 1
        return len(text) - len(tail) >= end


class PatternIndex:
    """Finds the patterns that fit a query without trying all: exact ones by text, the rest by their rarest word."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        indices: dict[Pattern, list[int]] = {}
        for index, pattern in enumerate(patterns):
            indices.setdefault(pattern, []).append(index)
        self._by_text = {pattern.text: indices[pattern] for pattern in indices if pattern.is_exact}
        self._universal = [index for pattern in indices if not pattern.fixed_words for index in indices[pattern]]
        self._by_word: dict[str, list[tuple[Pattern, list[int]]]] = {}
        wildcard_patterns = [pattern for pattern in indices if pattern.fixed_words and not pattern.is_exact]
        n_patterns = Counter(word for pattern in wildcard_patterns for word in pattern.fixed_words)
        for pattern in wildcard_patterns:
            rarest = min(pattern.fixed_words, key=lambda word: n_patterns[word])
            self._by_word.setdefault(rarest, []).append((pattern, indices[pattern]))

    def find(self, query: str) -> list[int]:
        """The indices of the patterns that fit `query` (in the form of `normalise`), ascending."""
        matches = [*self._universal, *self._by_text.get(query, ())]
        for word in dict.fromkeys(query.split()):
            for pattern, indices in self._by_word.get(word, ()):
                if pattern.matches(query):
                    matches += indices
        return sorted(matches)
