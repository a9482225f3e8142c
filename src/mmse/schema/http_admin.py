"""The bodies of the routes that run a site: edits of items, versions, experiments and assignments."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from mmse.schema.http import LIVE, AnswerPart, Id, Name, RequestPart

MAX_EDITS = 10_000


class ItemValues(RequestPart, frozen=True):
    """Some columns of an item; the others stay."""

    item_id: Id
    values: dict[str, Any]


class ItemEdits(RequestPart, frozen=True):
    """Edits of the catalogue, of which all are applied or none: first `upsert`, then `change`, then `delete`."""

    upsert: Annotated[
        list[dict[str, Any]],
        Meta(
            max_length=MAX_EDITS,
            description="Whole items, new or replacing the one with the same item_id.",
            examples=[[{"item_id": "kettle-1", "title": "Red enamel kettle", "price": 24.5}]],
        ),
    ] = field(default_factory=list)
    change: Annotated[list[ItemValues], Meta(max_length=MAX_EDITS)] = field(default_factory=list)
    delete: Annotated[list[Id], Meta(max_length=MAX_EDITS)] = field(default_factory=list)


class EditAnswer(AnswerPart, frozen=True):
    """Edits are on the disk; `catalogue` is the state of the live version that has them."""

    request_id: str
    applied: int
    version: str
    catalogue: int


class ItemAnswer(AnswerPart, frozen=True):
    """An item as it is in the live version."""

    version: str
    catalogue: int
    item: dict[str, Any]


class SetLiveRequest(RequestPart, frozen=True):
    """Makes an arm serve a version from now on."""

    version: Name
    arm: Name = LIVE
    note: Annotated[str, Meta(max_length=1_000)] = ""


class VersionStatus(AnswerPart, frozen=True):
    """A served version: its arms, when it was published, how many items it has, how many edits (`catalogue`)."""

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


class VersionsAnswer(AnswerPart, frozen=True):
    """The served versions; `problem` says why a newer one is not served."""

    live: str
    served: list[VersionStatus]
    problem: str | None


class ArmStatus(AnswerPart, frozen=True):
    """An arm of an experiment, and the settings of its searches."""

    name: str
    weight: float
    settings: dict[str, Any]


class ExperimentStatus(AnswerPart, frozen=True):
    """A running experiment: the requests in it, and its arms."""

    name: str
    layer: str
    unit: Literal["user", "session", "request"]
    traffic: float
    since: str
    note: str
    arms: list[ArmStatus]


class ExperimentsAnswer(AnswerPart, frozen=True):
    """The running experiments; `problem` says why a newer file of experiments is not in force."""

    experiments: list[ExperimentStatus]
    holdout: float
    problem: str | None


class UnitIds(RequestPart, frozen=True):
    """The ids of a request; without the id of a unit it is in no experiment on that unit."""

    user_id: Id | None = None
    session_id: Id | None = None
    request_id: Id | None = None


class AssignmentsRequest(RequestPart, frozen=True):
    """Asks for the arms of each of `units`."""

    units: Annotated[list[UnitIds], Meta(min_length=1, max_length=1_000)]


class AssignmentsAnswer(AnswerPart, frozen=True):
    """The arms of each unit by experiment, in the order of the request."""

    request_id: str
    assignments: list[dict[str, str]]
