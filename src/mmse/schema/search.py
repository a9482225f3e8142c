"""A search, and the answer to it: what goes into a retriever and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mmse.core.errors import UsageError
from mmse.schema.filters import Filter

Channel = Literal["hybrid", "vector", "lexical", "rrf"]
"""Which channels find the hits: both under the learned fusion, either alone, or both by reciprocal ranks."""


@dataclass(frozen=True)
class Search:
    """A query to a retriever, and how it is to be answered.

    Hits less likely to be clicked than `min_probability` are left out; `target_precision` keeps as many of the
    likeliest hits as are clicked that often on average. `caps` limit how many hits may share a value of a column.
    `boosts` multiply the odds of the items that meet a filter.

    `history` are the ids of items that the shopper clicked or ordered, oldest first; it replaces what the log has of
    the shopper. Ids that are unknown, or newer than the index, are skipped. Without `explain` hits have no `parts` and
    no `matched`. `facets` are columns whose values are counted over all candidates. The filter holds for facets too: to
    count a column without the filter on that column, search again without it.

    `offset` hits are skipped: the answers for `k` and several offsets are parts of one list. `sort` is a column of
    numbers, such as `price`, or with a minus `-rating` from high to low: the relevant hits are ordered by it. These are
    the likely enough ones of the first 1,000; without a cut-off, those at least a quarter as likely as the likeliest.
    Without `correct` the query is searched for as it is written. Of the items with one `item_group` only the best is a
    hit, unless `all_variants` asks for all of them.
    """

    query: str
    k: int = 10
    user_id: str | None = None
    filter: Filter | None = None
    channel: Channel = "hybrid"
    min_probability: float = 0.0
    target_precision: float | None = None
    caps: Mapping[str, int] = field(default_factory=dict)
    boosts: tuple[tuple[Filter, float], ...] = ()
    history: tuple[str, ...] = ()
    explain: bool = True
    facets: tuple[str, ...] = ()
    offset: int = 0
    sort: str | None = None
    correct: bool = True
    all_variants: bool = False

    def __post_init__(self) -> None:
        _check(bool(self.query.strip()), "The query is empty.", "Give at least one word.")
        _check(self.k >= 1, f"k is {self.k}, expected at least 1.", "Ask for one hit or more.")
        _check(self.offset >= 0, f"offset is {self.offset}, expected at least 0.", "Skip no hits or more.")
        for name in ("min_probability", "target_precision"):
            share = getattr(self, name)
            _check(share is None or 0 <= share <= 1, f"{name} is {share}, expected 0 to 1.", "Give a share of 1.")
        has_probabilities = self.channel == "hybrid" or not self.cuts
        _check(
            has_probabilities, f"The channel '{self.channel}' gives no probabilities.", "Ask for the channel 'hybrid'."
        )
        for column, cap in self.caps.items():
            _check(cap >= 1, f"The cap of '{column}' is {cap}, expected at least 1.", "Allow one hit or more.")
        for _, factor in self.boosts:
            _check(0 < factor < float("inf"), f"A boost is {factor}, expected a factor above 0.", "Give such a factor.")

    @property
    def cuts(self) -> bool:
        """Whether hits that are not likely enough are left out."""
        return self.min_probability > 0 or self.target_precision is not None


WORDS_PART = "words"
"""The part of a score that is of the query's words; the other parts are of views."""
MEMORY_PART = "memory"
"""The part of what shoppers took before, after the same query and of the item at all; only in shops that remember."""


@dataclass(frozen=True)
class Hit:
    """One item that a query found.

    `score` is the fused score; `parts` holds the share of each view, of the query's words and of what is remembered in
    it (they add up to `score`). `probability` is that a shopper who looks at the item clicks it, `None` where the
    channel is not calibrated. `matched` are the query's words that the item's text has, `named` its brand and category
    where the query names them (the words weigh by these fields; nothing is filtered). `moved_by` tells in words which
    rules, caps and guards moved it. `phrases` says in words what parts mean. A hit without an explanation has neither
    `parts` nor `matched` nor `named`. `variants` are the ids of the other items of its `item_group` that the search
    found, best first.
    """

    rank: int
    item_id: str
    title: str
    score: float
    probability: float | None
    parts: dict[str, float]
    matched: tuple[str, ...]
    moved_by: tuple[str, ...]
    item: dict[str, object]
    phrases: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    named: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()

    @classmethod
    def unchecked(cls, **fields: object) -> Hit:
        """A hit from all its `fields`, four times as fast as the constructor, which sets them one by one."""
        assert len(fields) == len(cls.__dataclass_fields__)
        hit = object.__new__(cls)
        hit.__dict__.update(fields)
        return hit

    @property
    def reason(self) -> str:
        """Why the item is a hit: the query's words that it has, what of it is named, the largest part, what moved it.

        For a hit without an explanation only what moved it.
        """
        if not self.parts:
            return "; ".join(self.moved_by)
        part, share = max(self.parts.items(), key=lambda named_share: named_share[1])
        positive_sum = sum(max(value, 0.0) for value in self.parts.values())
        phrase = f"{self.phrases.get(part, part)} {share / positive_sum:.0%}" if positive_sum > 0 else "nothing close"
        words = f"has {', '.join(self.matched)}" if self.matched else "no word in common"
        names = (f"{' and '.join(self.named)} named",) if self.named else ()
        return "; ".join((words, *names, phrase, *self.moved_by))


@dataclass(frozen=True)
class Facet:
    """The values of one column among the candidates; items of one `item_group` count once for each value.

    Of names, paths and flags: how many items hold each value (a path counts at each of its levels, flags are `true` and
    `false`), most first, at most 50 of them. Of numbers: the `low`est, the `high`est, and how many lie in each of ten
    equal bins from one to the other; without a number, `None` and no bins. Where `exact`, a search with a filter on a
    value finds so many items; otherwise it finds so many or more.
    """

    counts: dict[str, int] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    bins: tuple[int, ...] = ()
    exact: bool = False


@dataclass(frozen=True)
class Answer:
    """The hits of a search, best first.

    `query` is the text that was searched for, to which a rule may have redirected; `redirect_url` is a page that a rule
    redirects this query to. `no_good_match` is true where nothing was likely enough. `rules` names the rules that
    applied, `version` is the state of the catalogue. `facets` are by column, over the candidates for the first 100 hits
    that are likely enough, whatever `k` and `offset` are. `notes` say which values of the filter, which code or which
    words no item has. `corrected_from` is the query as it was written, where its spelling was corrected.
    """

    query: str
    hits: list[Hit]
    no_good_match: bool = False
    redirect_url: str | None = None
    rules: tuple[str, ...] = ()
    version: int = 0
    facets: dict[str, Facet] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    corrected_from: str | None = None


def _check(holds: bool, cause: str, cure: str) -> None:
    if not holds:
        raise UsageError(cause, cure)
