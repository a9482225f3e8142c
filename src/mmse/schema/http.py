"""The bodies of HTTP requests and answers: searches and everything about them. Server and Python client share them.

Answers may gain fields; a client ignores those that it does not know. Requests with unknown fields are refused, because
nobody would notice that a misspelt option was ignored. `http_admin` has the bodies that run a site, `http_events` those
that report what shoppers did.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mmse.schema.search import Channel
from mmse.text.normalise import MAX_CHARACTERS

MAX_K = 1_000
MAX_OFFSET = 10_000
MAX_BATCH = 64
MAX_HISTORY = 200
MAX_FACETS = 16
LIVE = "live"
"""The arm of requests that are in no experiment."""

Text = Annotated[str, Meta(min_length=1, max_length=MAX_CHARACTERS)]
Id = Annotated[str, Meta(min_length=1, max_length=1_000)]
Share = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
History = Annotated[list[Id], Meta(max_length=MAX_HISTORY)]
Team = Literal["a", "b"]


class RequestPart(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The base of all that a request may contain."""


class AnswerPart(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=False):
    """The base of all that an answer may contain."""


class FilterBoost(RequestPart, frozen=True):
    """Multiplies the odds of the items that a filter lets through."""

    filter: Annotated[dict[str, Any], Meta(description="As `filter` of a search.")]
    factor: Annotated[float, Meta(gt=0, le=1_000_000)]


class SearchRequest(RequestPart, frozen=True):
    """A search. Only `query` is needed."""

    query: Annotated[Text, Meta(description="What the shopper typed.", examples=["cordless drill"])]
    k: Annotated[int, Meta(ge=1, le=MAX_K, description="How many hits.")] = 10
    user_id: Annotated[Id | None, Meta(description="A shopper of the log, whose clicks and orders count.")] = None
    history: Annotated[
        History | None,
        Meta(description="Items that the shopper clicked or ordered, oldest first; replaces the history in the log."),
    ] = None
    filter: Annotated[
        dict[str, Any] | None,
        Meta(
            description="Columns and their values, all of which must match; `and`, `or`, `not`; numbers `{from, to}`.",
            examples=[{"brand": ["Bosch", "Makita"], "price": {"to": 100}}],
        ),
    ] = None
    channel: Annotated[Channel, Meta(description="How hits are found.")] = "hybrid"
    min_probability: Annotated[Share, Meta(description="Leaves out hits that are less likely to be clicked.")] = 0.0
    target_precision: Annotated[
        Share | None, Meta(description="As many of the likeliest hits as reach this average click probability.")
    ] = None
    caps: Annotated[
        dict[str, Annotated[int, Meta(ge=1)]],
        Meta(description="The largest number of hits that may share a value of a column.", examples=[{"brand": 2}]),
    ] = {}
    boosts: Annotated[list[FilterBoost], Meta(max_length=32)] = []
    facets: Annotated[
        list[str], Meta(max_length=MAX_FACETS, description="Columns whose values are counted over the candidates.")
    ] = []
    offset: Annotated[
        int, Meta(ge=0, le=MAX_OFFSET, description="So many hits are skipped: page 3 of 24 hits each has offset 48.")
    ] = 0
    sort: Annotated[
        Annotated[str, Meta(min_length=1, max_length=1_000)] | None,
        Meta(
            description="A number by which the relevant hits are ordered; a minus: from high to low.",
            examples=["-rating"],
        ),
    ] = None
    correct: Annotated[
        bool, Meta(description="Corrects misspelt words; `false` searches for the query as it is written.")
    ] = True
    all_variants: Annotated[
        bool, Meta(description="Every item of an `item_group` may be a hit; otherwise only the best of them.")
    ] = False
    explain: Annotated[bool, Meta(description="Adds to each hit the reason why it was found.")] = False
    version: Annotated[
        Name | None, Meta(description="A served version or an arm; the search is then in no experiment. Default: live.")
    ] = None
    session_id: Annotated[Id | None, Meta(description="A visit, for experiments whose unit is the session.")] = None
    shown: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_K)] | None,
        Meta(description="How many of the hits are shown, for a server that logs exposures. Default: all of them."),
    ] = None
    timeout_ms: Annotated[
        Annotated[int, Meta(ge=1, le=60_000)] | None, Meta(description="The answer is 504 after this time.")
    ] = None


class SearchBatch(RequestPart, frozen=True):
    """Several searches at once."""

    searches: Annotated[list[SearchRequest], Meta(min_length=1, max_length=MAX_BATCH)]


class EmbedRequest(RequestPart, frozen=True):
    """Queries to embed, all for one shopper or for none."""

    queries: Annotated[list[Text], Meta(min_length=1, max_length=MAX_BATCH)]
    user_id: Id | None = None
    history: History | None = None
    version: Name | None = None


class Explanation(AnswerPart, frozen=True):
    """Why an item was found: what each view and the query's words add to its score, their sum."""

    parts: dict[str, float]
    matched: tuple[str, ...]
    reason: str


class SearchHit(AnswerPart, frozen=True):
    """A hit. `probability` is that of a click by a shopper who looks at it, null where nothing tells it.

    Nothing tells it where the channel is not calibrated, or the log is one of clicks or of orders alone. `explored`
    and `propensity` (the probability that the item got this rank) are present where slots are filled at random, `team`,
    `rank_a` and `rank_b` where two rankings are interleaved. `variants` are the ids of the other items of its
    `item_group` that the search found, best first.
    """

    rank: int
    item_id: str
    title: str
    score: float
    probability: float | None
    moved_by: tuple[str, ...]
    item: dict[str, Any]
    variants: tuple[str, ...] = ()
    explanation: Explanation | None = None
    explored: bool | msgspec.UnsetType = msgspec.UNSET
    propensity: float | msgspec.UnsetType = msgspec.UNSET
    team: Team | msgspec.UnsetType = msgspec.UNSET
    rank_a: int | msgspec.UnsetType | None = msgspec.UNSET
    rank_b: int | msgspec.UnsetType | None = msgspec.UNSET


class FacetValue(AnswerPart, frozen=True):
    """A value of a column and how many of the candidates have it."""

    value: str
    count: int


class FacetBin(AnswerPart, frozen=True):
    """An interval of a number and how many of the candidates lie in it."""

    low: float
    high: float
    count: int


class FacetCounts(AnswerPart, frozen=True):
    """A column over the candidates of a search: `values` by falling count, or `bins` of a number from low to high.

    Where `exact`, a search with a filter on a value finds as many items as were counted, otherwise as many or more.
    """

    column: str
    kind: Literal["name", "path", "number", "flag"]
    values: list[FacetValue] = []
    bins: list[FacetBin] = []
    exact: bool = False


class SearchAnswer(AnswerPart, frozen=True):
    """The hits of a search. `version` names model and index, `catalogue` counts the edits of the items.

    `assignments` has the arm of each experiment that the request is in. `arm` is the arm of the experiment where it is
    in just one, otherwise the site's arm whose version answers. `notes` say which values of the filter, or which
    code, no item has. `query` is what was searched for, `corrected_from` what was written, where that was corrected.
    """

    request_id: str
    version: str
    arm: str | None
    catalogue: int
    query: str
    hits: list[SearchHit]
    no_good_match: bool
    redirect_url: str | None
    rules: tuple[str, ...]
    facets: list[FacetCounts]
    took_ms: float
    assignments: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    corrected_from: str | None = None


class Problem(AnswerPart, frozen=True):
    """An error: a `code` for programs, the cause and the cure for people."""

    code: str
    message: str
    cure: str
    request_id: str


class Failure(AnswerPart, frozen=True):
    """The answer to every request that fails."""

    error: Problem


class BatchOutcome(AnswerPart, frozen=True):
    """One search of a batch: its answer, or its own error."""

    answer: SearchAnswer | None = None
    error: Problem | None = None


class BatchAnswer(AnswerPart, frozen=True):
    """The outcomes of a batch, in the order of its searches."""

    request_id: str
    outcomes: list[BatchOutcome]


class EmbedAnswer(AnswerPart, frozen=True):
    """Fused vectors of queries: their inner product with an item's vector is its score by the vector channel."""

    request_id: str
    version: str
    dimensions: int
    vectors: list[list[float]]


class FilterColumn(AnswerPart, frozen=True):
    """A column that can be filtered by and counted."""

    name: str
    kind: Literal["name", "path", "number", "flag"]


class SuggestedText(AnswerPart, frozen=True):
    """A text to search for: a popular query, a brand or a category."""

    text: str
    source: Literal["query", "brand", "category"]


class SuggestAnswer(AnswerPart, frozen=True):
    """Completions of what was typed, the best first."""

    version: str
    suggestions: list[SuggestedText]


class CatalogueAnswer(AnswerPart, frozen=True):
    """The columns and the size of the live version; `examples` are queries of its log."""

    version: str
    items: int
    columns: list[FilterColumn]
    examples: list[str]


class MapRegion(AnswerPart, frozen=True):
    """A category's name on the map, at the point where its items are densest.

    `weight` is its share of the drawn items, `level` its depth in the tree.
    """

    name: str
    x: float
    y: float
    weight: float
    level: int


class MapAnswer(AnswerPart, frozen=True):
    """The drawn items as parallel lists; `x` and `y` are from -1 to 1, `category` is an index into `categories`."""

    version: str
    item_id: list[str]
    title: list[str]
    x: list[float]
    y: list[float]
    category: list[int]
    categories: list[str]
    regions: list[MapRegion]


class MapPoint(AnswerPart, frozen=True):
    """A query's point on the map: `share` of its neighbours' weight lies there, `spread` is their distance from it."""

    version: str
    query: str
    x: float
    y: float
    share: float
    spread: float


class Health(AnswerPart, frozen=True):
    """Whether the process lives and is ready for searches; `problems` need attention but do not stop it."""

    live: bool
    ready: bool
    version: str | None
    problems: list[str]
