"""The bodies of `v1/events`: what shoppers saw and did."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from mmse.schema.http import MAX_K, AnswerPart, Id, Name, RequestPart, Team, Text

MAX_EVENTS = 10_000

Moment = Annotated[float, Meta(ge=0, le=1e11)]
"""Seconds since 1970."""

Position = Annotated[int, Meta(ge=1, le=100_000)]
Propensity = Annotated[float, Meta(gt=0, le=1)]


class Exposure(RequestPart, frozen=True, tag="exposure", tag_field="type"):
    """The items that were shown for a request, in order; the lists that go with `items` are as long as it is."""

    request_id: Id
    query: Text
    items: Annotated[list[Id], Meta(min_length=1, max_length=MAX_K)]
    first_position: Annotated[
        Position, Meta(description="The position of the first of `items`; on page two it is not 1.")
    ] = 1
    user_id: Id | None = None
    session_id: Id | None = None
    version: Name | None = None
    arm: Name | None = None
    assignments: Annotated[dict[Name, Name], Meta(description="The arm of each experiment, as in the answer.")] = field(
        default_factory=dict
    )
    explored: Annotated[
        list[Annotated[int, Meta(ge=0)]],
        Meta(max_length=MAX_K, description="Indices in `items`, from 0, that were filled at random."),
    ] = field(default_factory=list)
    propensities: Annotated[
        list[Propensity | None] | None, Meta(description="The probability with which each item was drawn for its slot.")
    ] = None
    teams: Annotated[
        list[Team | None] | None, Meta(description="The one of two interleaved lists that each item is from.")
    ] = None
    ranks_a: list[Position | None] | None = None
    ranks_b: list[Position | None] | None = None
    timestamp: Annotated[Moment | None, Meta(description="Seconds since 1970. Default: now.")] = None


class Click(RequestPart, frozen=True, tag="click", tag_field="type"):
    """An item of a request was clicked."""

    request_id: Id
    item_id: Id
    position: Position | None = None
    timestamp: Moment | None = None


class Cart(RequestPart, frozen=True, tag="cart", tag_field="type"):
    """An item of a request was put into the cart."""

    request_id: Id
    item_id: Id
    timestamp: Moment | None = None


class Order(RequestPart, frozen=True, tag="order", tag_field="type"):
    """An item of a request was ordered."""

    request_id: Id
    item_id: Id
    price: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    timestamp: Moment | None = None


class EventBatch(RequestPart, frozen=True):
    """Reports what shoppers saw and did."""

    events: Annotated[list[Exposure | Click | Cart | Order], Meta(min_length=1, max_length=MAX_EVENTS)]


class EventsAnswer(AnswerPart, frozen=True):
    """The events are on the disk."""

    request_id: str
    accepted: int
