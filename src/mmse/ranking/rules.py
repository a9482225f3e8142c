"""A merchandiser's rules as values, and their effects on a query at a given time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from mmse.ranking.patterns import WILDCARD, Pattern, PatternIndex
from mmse.schema.filters import Filter
from mmse.text.exclusions import Exclusion
from mmse.text.normalise import normalise, words

MAX_PHRASE_WORDS = 5
MAX_EXPANSIONS = 16
"""At most so many phrases of a query are expanded by synonyms; more would search for everything."""


@dataclass(frozen=True)
class RuleHead:
    """The part that every rule has: its name, its queries, and its first and last moment (`None`: no limit)."""

    name: str
    query: Pattern
    start: datetime | None = None
    end: datetime | None = None
    note: str = ""

    def is_active(self, time: datetime) -> bool:
        """Whether the rule holds at `time`, which has a time zone."""
        return (self.start is None or self.start <= time) and (self.end is None or time <= self.end)


@dataclass(frozen=True)
class Pin:
    """The first item goes to `position`, the next item to the next position, and so on; positions count from 1."""

    head: RuleHead
    items: tuple[str, ...]
    position: int


@dataclass(frozen=True)
class Bury:
    """The items, and those that meet `condition`, go behind all other hits."""

    head: RuleHead
    items: tuple[str, ...]
    condition: Filter | None


@dataclass(frozen=True)
class Boost:
    """The odds of each item that meets `condition` are multiplied by `factor`; below 1 it moves down."""

    head: RuleHead
    condition: Filter
    factor: float


@dataclass(frozen=True)
class Synonym:
    """A query with one of `phrases` is searched with the `alternatives` as well, except for that phrase itself.

    For two-way synonyms both hold the same phrases. A phrase is the words of `mmse.text.normalise`, joined by spaces.
    """

    head: RuleHead
    phrases: tuple[str, ...]
    alternatives: tuple[str, ...]


@dataclass(frozen=True)
class Redirect:
    """The query is answered as if it were `target_query`, or the shop is told to show `url`; one of them is `None`."""

    head: RuleHead
    target_query: str | None
    url: str | None


Rule = Pin | Bury | Boost | Synonym | Redirect


@dataclass(frozen=True)
class PinnedItem:
    """An item, its position (from 1), and the name of the rule that pins it."""

    item_id: str
    position: int
    rule: str


@dataclass(frozen=True)
class RuleEffects:
    """What rules, spelling and exclusions make of one query (`mmse.retrieval.interpretation`).

    `query` is the text to search for: the shopper's, or that of a redirect; all other fields are for that text. `rules`
    are the names of the rules that apply, redirects first. `pins` hold each item and each position once. `expansions`
    are phrases of the query (words joined by spaces), each with the phrases to search as alternatives. `corrected_from`
    is the spelling that `query` corrects, `known_form` the form of `query` that the log has. Hits should not have the
    words of `exclusions`. `has_known_word` is false where neither an item nor the log has any of the query's words that
    say something, as numbers beside words and `the` do not. `near_words` are those of the `expansions` that stand for a
    word which nobody knows.
    """

    query: str
    rules: tuple[str, ...] = ()
    pins: tuple[PinnedItem, ...] = ()
    buries: tuple[Bury, ...] = ()
    boosts: tuple[Boost, ...] = ()
    expansions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    redirect_url: str | None = None
    corrected_from: str | None = None
    known_form: str | None = None
    exclusions: tuple[Exclusion, ...] = ()
    has_known_word: bool = True
    near_words: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def text(self) -> str:
        """The text that both channels search for."""
        return self.query if self.known_form is None else self.known_form


class Rules:
    """All rules of a shop, in the order of their file: where two conflict, the earlier one wins."""

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
        self._starts = sorted(rule.head.start for rule in rules if rule.head.start is not None)
        self._ends = sorted(rule.head.end for rule in rules if rule.head.end is not None)

    def __len__(self) -> int:
        return len(self.rules)

    def period(self, time: datetime) -> int:
        """How many starts and ends of rules lie before `time`: within one period all queries mean the same."""
        return bisect_right(self._starts, time) + bisect_left(self._ends, time)

    def find(self, query: str) -> list[Rule]:
        """The rules whose pattern fits `query` (in the form of `normalise`), whatever their dates.

        Synonyms are found by phrase and are not among them.
        """
        return [self._by_query[number] for number in self._index.find(query)]

    def are_for(self, query: str) -> bool:
        """Whether a rule is for `query` in just its spelling, or in a pattern with some of its words."""
        return any(rule.head.query.text != WILDCARD for rule in self.find(normalise(query)))

    def apply(self, query: str, time: datetime) -> RuleEffects:
        """The effects on `query` of the rules that are active at `time`, which has a time zone."""
        if not self.rules:
            return RuleEffects(query)
        query, rules, redirects = self._follow_redirects(query, time)
        rules = [rule for rule in rules if not isinstance(rule, Redirect)]
        expansions, synonyms = self._expand(normalise(query), time)
        return RuleEffects(
            query=query,
            rules=tuple(dict.fromkeys(rule.head.name for rule in (*redirects, *rules, *synonyms))),
            pins=_assign_positions([rule for rule in rules if isinstance(rule, Pin)]),
            buries=tuple(rule for rule in rules if isinstance(rule, Bury)),
            boosts=tuple(rule for rule in rules if isinstance(rule, Boost)),
            expansions=expansions,
            redirect_url=redirects[-1].url if redirects else None,
        )

    def _follow_redirects(self, query: str, time: datetime) -> tuple[str, list[Rule], list[Redirect]]:
        """The query at the end of the redirects, the active rules for it, and the redirects on the way.

        A redirect to the query itself is ignored. Circles were refused when the file was checked.
        """
        redirects: list[Redirect] = []
        while True:
            text = normalise(query)
            rules = [rule for rule in self.find(text) if rule.head.is_active(time)]
            redirect = next((rule for rule in rules if isinstance(rule, Redirect) and rule.target_query != text), None)
            if redirect is not None:
                redirects.append(redirect)
            if redirect is None or redirect.target_query is None:
                return query, rules, redirects
            assert len(redirects) <= len(self.rules)
            query = redirect.target_query

    def _expand(self, query: str, time: datetime) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], list[Synonym]]:
        """The expansions of the query's phrases, and the synonyms that they come from."""
        alternatives: dict[str, dict[str, None]] = {}
        synonyms: list[Synonym] = []
        for phrase in _phrases(words(query), self._longest):
            for rule in self._by_phrase.get(phrase, ()):
                if rule.head.is_active(time) and rule.head.query.matches(query):
                    synonyms.append(rule)
                    alternatives.setdefault(phrase, {}).update(dict.fromkeys(rule.alternatives))
            if len(alternatives) == MAX_EXPANSIONS:
                break
        expansions = ((phrase, tuple(a for a in texts if a != phrase)) for phrase, texts in alternatives.items())
        return tuple(expansions), synonyms


def _assign_positions(pins: Sequence[Pin]) -> tuple[PinnedItem, ...]:
    """Each item once, at the position that its first rule gives it, or at the next free one."""
    by_position: dict[int, PinnedItem] = {}
    item_ids: set[str] = set()
    for pin in pins:
        for position, item_id in enumerate(pin.items, pin.position):
            if item_id not in item_ids:
                while position in by_position:
                    position += 1
                item_ids.add(item_id)
                by_position[position] = PinnedItem(item_id, position, pin.head.name)
    return tuple(by_position[position] for position in sorted(by_position))


def _phrases(text: Sequence[str], longest: int) -> Iterator[str]:
    """All runs of up to `longest` words, in the order in which they begin."""
    for start in range(len(text)):
        for stop in range(start + 1, min(start + longest, len(text)) + 1):
            yield " ".join(text[start:stop])
