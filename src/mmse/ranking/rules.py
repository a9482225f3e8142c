"""A merchandiser's rules as values, and which of them apply to a query at a moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from mmse.ranking.patterns import Pattern, PatternIndex
from mmse.schema.filters import Filter
from mmse.text.bm25 import words
from mmse.text.tokenizer import normalise

MAX_PHRASE_WORDS = 5
MAX_EXPANSIONS = 16
"""Phrases of one query that are looked up further as their synonyms: more would search for everything."""


@dataclass(frozen=True)
class Head:
    """What every rule has: its name, the queries it is for, and from when until when (both included, `None`: open)."""

    name: str
    query: Pattern
    start: datetime | None = None
    end: datetime | None = None
    note: str = ""

    def awake(self, now: datetime) -> bool:
        """Whether the rule holds at `now`, a moment with its zone."""
        return (self.start is None or self.start <= now) and (self.end is None or now <= self.end)


@dataclass(frozen=True)
class Pin:
    """The items stand at `place`, the next, and so on; places count from 1."""

    head: Head
    items: tuple[str, ...]
    place: int


@dataclass(frozen=True)
class Bury:
    """The items, and those that meet `where`, stand after everything else."""

    head: Head
    items: tuple[str, ...]
    where: Filter | None


@dataclass(frozen=True)
class Boost:
    """The odds that an item which meets `where` is relevant are multiplied by `factor`; below 1 pushes down."""

    head: Head
    where: Filter
    factor: float


@dataclass(frozen=True)
class Synonym:
    """A query that says one of `phrases` is searched with `also`, too, but for that phrase itself.

    Two-way synonyms have the same phrases in both. Phrases are the words of `mmse.text.bm25`, joined by spaces.
    """

    head: Head
    phrases: tuple[str, ...]
    also: tuple[str, ...]


@dataclass(frozen=True)
class Redirect:
    """The query is answered as if it were `to`, or the shop is told to show `url`; one of them is `None`."""

    head: Head
    to: str | None
    url: str | None


Rule = Pin | Bury | Boost | Synonym | Redirect


@dataclass(frozen=True)
class PinnedItem:
    """An item, the place it must have (from 1), and the name of the rule that says so."""

    item_id: str
    place: int
    rule: str


@dataclass(frozen=True)
class Applied:
    """What the rules make of one query.

    `query` is the text to search for: what was asked, or where a redirect leads; all else is said of that text.
    `rules` are the names of the rules that apply, redirects first. `pins` hold each item and each place
    once. `expansions` are phrases of the query (words joined by spaces) with what else to search in their place.
    """

    query: str
    rules: tuple[str, ...] = ()
    pins: tuple[PinnedItem, ...] = ()
    buries: tuple[Bury, ...] = ()
    boosts: tuple[Boost, ...] = ()
    expansions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    redirect_url: str | None = None


class Rules:
    """All rules of a shop, in the order of their file: where two disagree, the earlier one wins."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self.rules = tuple(rules)
        self._by_query = [rule for rule in rules if not isinstance(rule, Synonym)]
        self._index = PatternIndex([rule.head.query for rule in self._by_query])
        self._by_phrase: dict[str, list[Synonym]] = {}
        for rule in rules:
            if isinstance(rule, Synonym):
                for phrase in rule.phrases:
                    self._by_phrase.setdefault(phrase, []).append(rule)
        self._longest = max((phrase.count(" ") + 1 for phrase in self._by_phrase), default=0)

    def __len__(self) -> int:
        return len(self.rules)

    def matching(self, query: str) -> list[Rule]:
        """The rules whose pattern fits `query` (in the form of `normalise`), asleep ones too.

        Synonyms go by phrase and are not among them.
        """
        return [self._by_query[number] for number in self._index.matching(query)]

    def for_query(self, query: str, now: datetime) -> Applied:
        """What the rules that are awake at `now` (a moment with its zone) make of `query`."""
        if not self.rules:
            return Applied(query)
        query, awake, redirects = self._redirected(query, now)
        acting = [rule for rule in awake if not isinstance(rule, Redirect)]
        expansions, synonyms = self._expanded(normalise(query), now)
        return Applied(
            query=query,
            rules=tuple(dict.fromkeys(rule.head.name for rule in (*redirects, *acting, *synonyms))),
            pins=_pinned([rule for rule in acting if isinstance(rule, Pin)]),
            buries=tuple(rule for rule in acting if isinstance(rule, Bury)),
            boosts=tuple(rule for rule in acting if isinstance(rule, Boost)),
            expansions=expansions,
            redirect_url=redirects[-1].url if redirects else None,
        )

    def _redirected(self, query: str, now: datetime) -> tuple[str, list[Rule], list[Redirect]]:
        """Where the redirects lead, the rules awake there, and the redirects followed.

        A redirect that leads to the query itself is none. The file was checked to have no circle of them.
        """
        followed: list[Redirect] = []
        while True:
            text = normalise(query)
            awake = [rule for rule in self.matching(text) if rule.head.awake(now)]
            onward = next((rule for rule in awake if isinstance(rule, Redirect) and rule.to != text), None)
            if onward is not None:
                followed.append(onward)
            if onward is None or onward.to is None:
                return query, awake, followed
            assert len(followed) <= len(self.rules)
            query = onward.to

    def _expanded(self, query: str, now: datetime) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], list[Synonym]]:
        found: dict[str, dict[str, None]] = {}
        used: list[Synonym] = []
        for phrase in _phrases(words(query), self._longest):
            for rule in self._by_phrase.get(phrase, ()):
                if rule.head.awake(now) and rule.head.query.matches(query):
                    used.append(rule)
                    found.setdefault(phrase, {}).update(dict.fromkeys(rule.also))
            if len(found) == MAX_EXPANSIONS:
                break
        return tuple((phrase, tuple(a for a in also if a != phrase)) for phrase, also in found.items()), used


def _pinned(pins: Sequence[Pin]) -> tuple[PinnedItem, ...]:
    """Each item once, at the place its first rule gives it, or the next one free."""
    by_place: dict[int, PinnedItem] = {}
    seen: set[str] = set()
    for pin in pins:
        for wanted, item in enumerate(pin.items, pin.place):
            if item not in seen:
                place = wanted
                while place in by_place:
                    place += 1
                seen.add(item)
                by_place[place] = PinnedItem(item, place, pin.head.name)
    return tuple(by_place[place] for place in sorted(by_place))


def _phrases(text: Sequence[str], longest: int) -> Iterator[str]:
    """All runs of up to `longest` words, in the order in which they begin."""
    for start in range(len(text)):
        for stop in range(start + 1, min(start + longest, len(text)) + 1):
            yield " ".join(text[start:stop])
