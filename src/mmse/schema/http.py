"""What is said over HTTP: the bodies of requests and answers, one set for the server and for the Python client.

Answers may gain fields; a client ignores those that it does not know. Requests with unknown fields are refused, since a
misspelt option that is ignored is a wrong answer that nobody sees.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mmse.schema.search import Channel
from mmse.text.tokenizer import MAX_CHARACTERS

MAX_K = 1_000
MAX_BATCH = 64
MAX_HISTORY = 200
MAX_FACETS = 16
MAX_EDITS = 10_000
MAX_EVENTS = 10_000
LIVE = "live"
"""The arm that serves whoever is in no experiment."""

Text = Annotated[str, Meta(min_length=1, max_length=MAX_CHARACTERS)]
Id = Annotated[str, Meta(min_length=1, max_length=1_000)]
Share = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
History = Annotated[list[Id], Meta(max_length=MAX_HISTORY)]
Moment = Annotated[float, Meta(ge=0, le=1e11)]
"""Seconds since 1970."""

Position = Annotated[int, Meta(ge=1, le=100_000)]
Chance = Annotated[float, Meta(gt=0, le=1)]
Team = Literal["a", "b"]


class Asked(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Part of a request."""


class Boost(Asked, frozen=True):
    """Multiplies the odds of the items that a filter lets through."""

    filter: Annotated[dict[str, Any], Meta(description="As `filter` of a search.")]
    factor: Annotated[float, Meta(gt=0, le=1_000_000)]


class SearchRequest(Asked, frozen=True):
    """A search. Only `query` is needed."""

    query: Annotated[Text, Meta(description="What the shopper typed.", examples=["cordless drill"])]
    k: Annotated[int, Meta(ge=1, le=MAX_K, description="How many hits.")] = 10
    user_id: Annotated[Id | None, Meta(description="A shopper of the log: what they clicked and ordered counts.")] = (
        None
    )
    history: Annotated[
        History | None,
        Meta(description="Items the shopper clicked or ordered, oldest first, in place of what the log has of them."),
    ] = None
    filter: Annotated[
        dict[str, Any] | None,
        Meta(
            description="Columns and their values, joined by `and`; `and`, `or`, `not`; numbers `{from, to}`.",
            examples=[{"brand": ["Bosch", "Makita"], "price": {"to": 100}}],
        ),
    ] = None
    channel: Annotated[Channel, Meta(description="How hits are found.")] = "hybrid"
    min_probability: Annotated[Share, Meta(description="Leaves out hits less likely to be clicked.")] = 0.0
    target_precision: Annotated[
        Share | None, Meta(description="As many of the likeliest hits as are clicked that often on average.")
    ] = None
    caps: Annotated[
        dict[str, Annotated[int, Meta(ge=1)]],
        Meta(description="At most so many hits may share a value of a column.", examples=[{"brand": 2}]),
    ] = {}
    boosts: Annotated[list[Boost], Meta(max_length=32)] = []
    facets: Annotated[
        list[str], Meta(max_length=MAX_FACETS, description="Columns whose values are counted among what was found.")
    ] = []
    explain: Annotated[bool, Meta(description="Says of each hit why it was found.")] = False
    version: Annotated[
        Name | None,
        Meta(description="A version, or an arm, that is served; the search is in no experiment then. Default: live."),
    ] = None
    session_id: Annotated[Id | None, Meta(description="A visit, for experiments whose unit is the session.")] = None
    shown: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_K)] | None,
        Meta(description="How many of the hits are shown, for a server that logs exposures. Default: all of them."),
    ] = None
    timeout_ms: Annotated[
        Annotated[int, Meta(ge=1, le=60_000)] | None, Meta(description="After so long the answer is 504.")
    ] = None


class SearchBatch(Asked, frozen=True):
    """Several searches at once."""

    searches: Annotated[list[SearchRequest], Meta(min_length=1, max_length=MAX_BATCH)]


class EmbedRequest(Asked, frozen=True):
    """Queries to be embedded, all for one shopper or for none."""

    queries: Annotated[list[Text], Meta(min_length=1, max_length=MAX_BATCH)]
    user_id: Id | None = None
    history: History | None = None
    version: Name | None = None


class ItemValues(Asked, frozen=True):
    """Some columns of an item, the others stay."""

    item_id: Id
    values: dict[str, Any]


class ItemEdits(Asked, frozen=True):
    """Edits of the catalogue, taken in all or none: first `upsert`, then `change`, then `delete`."""

    upsert: Annotated[
        list[dict[str, Any]],
        Meta(
            max_length=MAX_EDITS,
            description="Whole items, new or in place of the one with the same item_id.",
            examples=[[{"item_id": "kettle-1", "title": "Red enamel kettle", "price": 24.5}]],
        ),
    ] = []
    change: Annotated[list[ItemValues], Meta(max_length=MAX_EDITS)] = []
    delete: Annotated[list[Id], Meta(max_length=MAX_EDITS)] = []


class Exposure(Asked, frozen=True, tag="exposure", tag_field="type"):
    """Items that were shown for a request, first place first; lists beside `items` are as long as it."""

    request_id: Id
    query: Text
    items: Annotated[list[Id], Meta(min_length=1, max_length=MAX_K)]
    first_position: Annotated[Position, Meta(description="Of the first of `items`: on page two, not 1.")] = 1
    user_id: Id | None = None
    session_id: Id | None = None
    version: Name | None = None
    arm: Name | None = None
    assignments: Annotated[dict[Name, Name], Meta(description="The arm of each experiment, as the answer said.")] = {}
    explored: Annotated[
        list[Annotated[int, Meta(ge=0)]],
        Meta(max_length=MAX_K, description="Places in `items`, from 0, that were filled at random."),
    ] = []
    propensities: Annotated[
        list[Chance | None] | None, Meta(description="The chance of each item to stand there, before it was drawn.")
    ] = None
    teams: Annotated[list[Team | None] | None, Meta(description="Which of two interleaved lists each is from.")] = None
    ranks_a: list[Position | None] | None = None
    ranks_b: list[Position | None] | None = None
    timestamp: Annotated[Moment | None, Meta(description="Seconds since 1970. Default: now.")] = None


class Click(Asked, frozen=True, tag="click", tag_field="type"):
    """An item of a request was clicked."""

    request_id: Id
    item_id: Id
    position: Position | None = None
    timestamp: Moment | None = None


class Cart(Asked, frozen=True, tag="cart", tag_field="type"):
    """An item of a request was put into the cart."""

    request_id: Id
    item_id: Id
    timestamp: Moment | None = None


class Order(Asked, frozen=True, tag="order", tag_field="type"):
    """An item of a request was ordered."""

    request_id: Id
    item_id: Id
    price: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    timestamp: Moment | None = None


class Events(Asked, frozen=True):
    """What shoppers saw and did."""

    events: Annotated[list[Exposure | Click | Cart | Order], Meta(min_length=1, max_length=MAX_EVENTS)]


class Units(Asked, frozen=True):
    """Whose arms are asked for; a unit that is not named is in no experiment of its kind."""

    user_id: Id | None = None
    session_id: Id | None = None
    request_id: Id | None = None


class AssignmentsRequest(Asked, frozen=True):
    """Whose arms are asked for."""

    units: Annotated[list[Units], Meta(min_length=1, max_length=1_000)]


class LiveVersion(Asked, frozen=True):
    """The version that an arm is to serve from now on."""

    version: Name
    arm: Name = LIVE
    note: Annotated[str, Meta(max_length=1_000)] = ""


class Said(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=False):
    """Part of an answer."""


class Explanation(Said, frozen=True):
    """Why an item was found: the share of each view and of the query's words in its score (they add up to it)."""

    parts: dict[str, float]
    matched: tuple[str, ...]
    reason: str


class FoundItem(Said, frozen=True):
    """A hit. `probability` is that of a click by a shopper who looks, null where the channel is not calibrated.

    `explored` and `propensity` (the chance that it had to stand there) are there where slots are filled at random;
    `team`, `rank_a` and `rank_b` where two rankings are interleaved.
    """

    rank: int
    item_id: str
    title: str
    score: float
    probability: float | None
    moved_by: tuple[str, ...]
    item: dict[str, Any]
    explanation: Explanation | None = None
    explored: bool | msgspec.UnsetType = msgspec.UNSET
    propensity: float | msgspec.UnsetType = msgspec.UNSET
    team: Team | msgspec.UnsetType = msgspec.UNSET
    rank_a: int | msgspec.UnsetType | None = msgspec.UNSET
    rank_b: int | msgspec.UnsetType | None = msgspec.UNSET


class FacetValue(Said, frozen=True):
    """A value of a column and how many of the candidates have it."""

    value: str
    count: int


class Bin(Said, frozen=True):
    """A stretch of a number's range and how many of the candidates lie in it."""

    low: float
    high: float
    count: int


class FacetCounts(Said, frozen=True):
    """A column over the candidates of a search: `values` most first, or `bins` of a number from low to high."""

    column: str
    kind: Literal["name", "path", "number", "flag"]
    values: list[FacetValue] = []
    bins: list[Bin] = []


class SearchAnswer(Said, frozen=True):
    """What a search found. `version` is of model and index, `catalogue` counts the edits of the items in it.

    `assignments` are the arms of the experiments that the request is in; `arm` is that of the one experiment that it is
    in, or the site's arm whose version answers.
    """

    request_id: str
    version: str
    arm: str | None
    catalogue: int
    query: str
    hits: list[FoundItem]
    no_good_match: bool
    redirect_url: str | None
    rules: tuple[str, ...]
    facets: list[FacetCounts]
    took_ms: float
    assignments: dict[str, str] = {}


class Problem(Said, frozen=True):
    """What went wrong: a `code` for programs, the cause and the cure for people."""

    code: str
    message: str
    cure: str
    request_id: str


class Failure(Said, frozen=True):
    """The one shape of every error."""

    error: Problem


class Outcome(Said, frozen=True):
    """One search of a batch: its answer, or what was wrong with it alone."""

    answer: SearchAnswer | None = None
    error: Problem | None = None


class BatchAnswer(Said, frozen=True):
    """The outcomes of a batch, in its order."""

    request_id: str
    outcomes: list[Outcome]


class Vectors(Said, frozen=True):
    """Fused vectors of queries: their inner product with an item's vector is its score by the vector channel."""

    request_id: str
    version: str
    dimensions: int
    vectors: list[list[float]]


class Edited(Said, frozen=True):
    """Edits that are on the disk: `catalogue` is the state of the live version that has them."""

    request_id: str
    applied: int
    version: str
    catalogue: int


class Item(Said, frozen=True):
    """An item as it is in the live version."""

    version: str
    catalogue: int
    item: dict[str, Any]


class Accepted(Said, frozen=True):
    """Events that are on the disk."""

    request_id: str
    accepted: int


class ServedVersion(Said, frozen=True):
    """A version that is served: by which arms, since when, how many items it has and how many edits."""

    version: str
    arms: list[str]
    fingerprint: str
    published_at: str
    note: str
    items: int
    catalogue: int
    views: list[str]
    width: int
    has_map: bool


class Versions(Said, frozen=True):
    """What is served; `problem` says why something newer is not."""

    live: str
    served: list[ServedVersion]
    problem: str | None


class ArmSaid(Said, frozen=True):
    """An arm of an experiment, and what its shoppers are served."""

    name: str
    weight: float
    settings: dict[str, Any]


class ExperimentSaid(Said, frozen=True):
    """An experiment that runs: who is in it, and what its arms are served."""

    name: str
    layer: str
    unit: Literal["user", "session", "request"]
    traffic: float
    since: str
    note: str
    arms: list[ArmSaid]


class ExperimentsAnswer(Said, frozen=True):
    """What runs; `problem` says why something newer does not."""

    experiments: list[ExperimentSaid]
    holdout: float
    problem: str | None


class AssignmentsAnswer(Said, frozen=True):
    """The arms of each unit, by experiment, in the order in which they were asked for."""

    request_id: str
    assignments: list[dict[str, str]]


class Column(Said, frozen=True):
    """A column that can be filtered by and counted."""

    name: str
    kind: Literal["name", "path", "number", "flag"]


class CatalogueAnswer(Said, frozen=True):
    """What can be asked of the live version; `examples` are queries of its log."""

    version: str
    items: int
    columns: list[Column]
    examples: list[str]


class Region(Said, frozen=True):
    """A name on the map, where the category of that name is densest: its share of the drawn items, and its depth."""

    name: str
    x: float
    y: float
    weight: float
    level: int


class MapAnswer(Said, frozen=True):
    """Drawn items as parallel lists, places from -1 to 1; `category` is the place of each one's in `categories`."""

    version: str
    item_id: list[str]
    title: list[str]
    x: list[float]
    y: list[float]
    category: list[int]
    categories: list[str]
    regions: list[Region]


class MapPlace(Said, frozen=True):
    """Where a query belongs on the map: `share` of what it is like lies there, `spread` says how far all of it."""

    version: str
    query: str
    x: float
    y: float
    share: float
    spread: float


class Health(Said, frozen=True):
    """Whether the process lives and is ready for searches; `problems` are things to look at that stop nothing."""

    live: bool
    ready: bool
    version: str | None
    problems: list[str]
