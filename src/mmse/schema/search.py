"""What can be asked of a retriever, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mmse.core.errors import UsageError
from mmse.schema.filters import Filter
from mmse.schema.stages import Hit

Channel = Literal["hybrid", "vector", "lexical", "rrf"]
"""How hits are found: both channels under the learned fusion, either alone, or both by reciprocal ranks."""


@dataclass(frozen=True)
class Search:
    """What is asked of a retriever.

    Hits less likely to be clicked than `min_probability` are left out; `target_precision` keeps as many of the
    likeliest hits as are clicked that often on average. `caps` say at most how many of the hits may share a value of a
    column, `boosts` multiply the odds of what a filter lets through.

    `history` are the ids of items that the shopper clicked or ordered, oldest first; given, it stands for what the log
    has of the shopper. Ids that are unknown, or younger than the index, are skipped. Without `explain` hits have no
    `parts` and no `matched`. `facets` are columns whose values are counted over all that was considered; the filter
    holds for them too, so who wants the counts of a column beside a choice in that column asks again without it.
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

    def __post_init__(self) -> None:
        _check(bool(self.query.strip()), "The query is empty.", "Give at least one word.")
        _check(self.k >= 1, f"k is {self.k}, expected at least 1.", "Ask for one hit or more.")
        for name in ("min_probability", "target_precision"):
            share = getattr(self, name)
            _check(share is None or 0 <= share <= 1, f"{name} is {share}, expected 0 to 1.", "Give a share of 1.")
        calibrated = self.channel == "hybrid" or not self.cuts
        _check(calibrated, f"The channel '{self.channel}' gives no probabilities.", "Ask for the channel 'hybrid'.")
        for column, most in self.caps.items():
            _check(most >= 1, f"The cap of '{column}' is {most}, expected at least 1.", "Allow one hit or more.")
        for _, factor in self.boosts:
            _check(0 < factor < float("inf"), f"A boost is {factor}, expected a factor above 0.", "Give such a factor.")

    @property
    def cuts(self) -> bool:
        """Whether hits that are not likely enough are left out."""
        return self.min_probability > 0 or self.target_precision is not None


@dataclass(frozen=True)
class Facet:
    """What the items that were considered hold in one column.

    Of names, paths and flags: how many items hold each value (a path counts at each of its levels, flags are `true` and
    `false`), most first, at most 50 of them. Of numbers: the `low`est, the `high`est, and how many lie in each of ten
    equal steps from one to the other; without a number, `None` and no steps.
    """

    counts: dict[str, int] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    bins: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a search found.

    `query` is the text that was searched for, which a rule may have redirected; `redirect_url` is a page that a rule
    sends this query to. `no_good_match` says that nothing was likely enough. `rules` names the rules that applied,
    `version` is the state of the catalogue. `facets` are by column, over the candidates of both channels that are
    likely enough, of which the hits are the best.
    """

    query: str
    hits: list[Hit]
    no_good_match: bool = False
    redirect_url: str | None = None
    rules: tuple[str, ...] = ()
    version: int = 0
    facets: dict[str, Facet] = field(default_factory=dict)


def _check(holds: bool, cause: str, cure: str) -> None:
    if not holds:
        raise UsageError(cause, cure)
