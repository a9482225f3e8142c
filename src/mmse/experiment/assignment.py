"""Assignment: which experiments a shopper is in, and in which arm of each; a hash, so that it never changes.

A layer is 10,000 buckets; a unit (a shopper, a visit, a request) falls into one of them by the layer's own hash.
Experiments of one layer own different buckets, so nobody is in two of them; layers are independent of each other. The
arm is drawn by a second hash, salted by the experiment, so that more traffic changes nobody's arm. After Tang et al.,
"Overlapping Experiment Infrastructure", KDD 2010.

    hash(salt, unit) = the first 8 bytes of SHA-256 of "salt:unit" in UTF-8, as a big-endian number below 2^64
    bucket           = hash("layer." + layer, unit) · 10000 div 2^64
    arm              = the first whose cumulated weight exceeds hash(experiment's salt, unit) / 2^64 · all weights
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import msgspec

from mmse.core.config import build, read_toml, require
from mmse.core.errors import UsageError
from mmse.schema.search import Channel

BUCKETS = 10_000
HOLDOUT = "holdout"
"""The arm of those who are kept out of all experiments, and the experiment's name under which that is logged."""

Unit = Literal["user", "session", "request"]
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SETTINGS = ("serves", "channel", "interleave", "explore")


@dataclass(frozen=True)
class Interleave:
    """Two rankings in one list; `beside` is the version or arm of the site that gives list b.

    `channel` is the channel of list b, by default that of list a.
    """

    beside: str
    method: Literal["team_draft", "balanced"] = "team_draft"
    channel: Channel | None = None


@dataclass(frozen=True)
class Explore:
    """The share `share` of the slots is filled at random with hits from behind the page, down to rank `pool`."""

    share: float = 0.1
    pool: int = 100

    def __post_init__(self) -> None:
        require(0 < self.share <= 0.9, "share", self.share, "above 0, at most 0.9")
        require(2 <= self.pool <= 1_000, "pool", self.pool, "2 to 1000")


@dataclass(frozen=True)
class Arm:
    """The settings of an arm: `serves` is a version, or an arm of the site; None leaves a setting as it is."""

    weight: float = 1.0
    serves: str | None = None
    channel: Channel | None = None
    interleave: Interleave | None = None
    explore: Explore | None = None

    def __post_init__(self) -> None:
        require(0 < self.weight < float("inf"), "weight", self.weight, "above 0")
        compatible = self.explore is None or self.interleave is None
        require(compatible, "explore", self.explore, "no exploring in an interleaved list: its chances are unknown")

    @property
    def settings(self) -> dict[str, object]:
        """The settings that it changes, by name."""
        return {name: value for name in _SETTINGS if (value := getattr(self, name)) is not None}

    @property
    def versions(self) -> list[str]:
        """The versions or arms of the site that it needs."""
        return [name for name in (self.serves, self.interleave and self.interleave.beside) if name]


@dataclass(frozen=True)
class Experiment:
    """An experiment as its file describes it.

    `traffic` is its share of the layer; `exclude` are units that are never in it.
    """

    name: str
    arms: dict[str, Arm]
    unit: Unit = "user"
    layer: str = "search"
    traffic: float = 1.0
    salt: str = ""
    exclude: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for key, name in (("name", self.name), ("layer", self.layer), *(("arms", arm) for arm in self.arms)):
            require(bool(_NAME.fullmatch(name)), key, name, "up to 64 letters, digits, '_', '.' and '-'")
        require(self.name != HOLDOUT, "name", self.name, "another name: this one is the site's own")
        require(len(self.arms) >= 2, "arms", list(self.arms), "two arms or more")
        require(1 / BUCKETS <= self.traffic <= 1, "traffic", self.traffic, f"{1 / BUCKETS:g} to 1")

    @property
    def n_buckets(self) -> int:
        """The number of buckets that its traffic needs."""
        return round(self.traffic * BUCKETS)

    def arm_of(self, unit: str) -> str:
        """The arm of `unit`, if it is in the experiment."""
        point = fraction(self.salt or self.name, unit) * sum(arm.weight for arm in self.arms.values())
        limit = 0.0
        for name, arm in self.arms.items():
            limit += arm.weight
            if point < limit:
                return name
        return name  # a sum of floats may be slightly below the total


class Allocation(msgspec.Struct, frozen=True):
    """An experiment that runs, with the buckets of its layer that it owns, as ranges without their end."""

    experiment: Experiment
    buckets: tuple[tuple[int, int], ...]
    started_at: str = msgspec.field(default="", name="since")

    def has(self, unit: str) -> bool:
        """Whether `unit` falls into its buckets."""
        bucket = bucket_of(self.experiment.layer, unit)
        return any(start <= bucket < end for start, end in self.buckets)


@dataclass(frozen=True)
class ExperimentState:
    """All experiments that run, and the share of units that is kept out of all of them."""

    experiments: tuple[Allocation, ...] = ()
    holdout: float = 0.0


@dataclass(frozen=True)
class Assignment:
    """The arm of each experiment that a request is in, and the settings of all these arms together.

    A request that is held out has the arm `holdout` of the experiment `holdout`.
    """

    arms: Mapping[str, str] = field(default_factory=dict)
    setting: Arm = field(default_factory=Arm)

    @property
    def arm(self) -> str | None:
        """The arm, if the request is in exactly one experiment."""
        return next(iter(self.arms.values())) if len(self.arms) == 1 else None


NO_ASSIGNMENT = Assignment()


def assign(
    state: ExperimentState, *, user_id: str | None = None, session_id: str | None = None, request_id: str | None = None
) -> Assignment:
    """The arms of a request; it is in no experiment whose unit it does not name."""
    if not state.experiments and not state.holdout:
        return NO_ASSIGNMENT
    units: dict[Unit, str | None] = {"user": user_id, "session": session_id, "request": request_id}
    holdout_unit = user_id or session_id
    if state.holdout and holdout_unit and fraction(HOLDOUT, holdout_unit) < state.holdout:
        return Assignment({HOLDOUT: HOLDOUT})
    arms: dict[str, str] = {}
    settings: dict[str, Any] = {}
    for allocation in state.experiments:
        experiment, unit = allocation.experiment, units[allocation.experiment.unit]
        if unit is None or unit in experiment.exclude or not allocation.has(unit):
            continue
        arms[experiment.name] = experiment.arm_of(unit)
        settings |= experiment.arms[arms[experiment.name]].settings
    return Assignment(arms, Arm(**settings)) if arms else NO_ASSIGNMENT


def fraction(salt: str, unit: str) -> float:
    """The hash of a unit, from 0 to below 1."""
    return int.from_bytes(sha256(f"{salt}:{unit}".encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64


def bucket_of(layer: str, unit: str) -> int:
    """The bucket of a layer that a unit falls into."""
    return min(int(fraction(f"layer.{layer}", unit) * BUCKETS), BUCKETS - 1)


def read_experiment(path: Path) -> Experiment:
    """The experiment that a TOML file describes; raises `UsageError` naming file and key."""
    content = read_toml(path)
    arms = content.get("arms")
    if isinstance(arms, dict) and all(isinstance(values, dict) for values in arms.values()):
        content["arms"] = {name: _read_arm(values, f"{path} [arms.{name}]") for name, values in arms.items()}
    return build(Experiment, content, str(path))


def _read_arm(values: Mapping[str, Any], source: str) -> Arm:
    parts = {"interleave": Interleave, "explore": Explore}
    fields = {
        key: build(parts[key], value, f"{source} {key}") if key in parts and isinstance(value, dict) else value
        for key, value in values.items()
    }
    return build(Arm, fields, source)


def add_experiment(state: ExperimentState, experiment: Experiment, started_at: str = "") -> ExperimentState:
    """`state` with one more experiment.

    Raises `UsageError` if an experiment of that name runs, if its layer is full, or if an experiment of another layer
    changes the same setting.
    """
    for active in (allocation.experiment for allocation in state.experiments):
        if active.name == experiment.name:
            raise UsageError(f"An experiment '{active.name}' runs.", "Stop it, or choose another name.")
        conflicts = _setting_names(active) & _setting_names(experiment)
        if active.layer != experiment.layer and conflicts:
            raise UsageError(
                f"'{experiment.name}' and '{active.name}' would both set {', '.join(sorted(conflicts))} for the same "
                f"shoppers: they are in the layers '{experiment.layer}' and '{active.layer}'.",
                f"Put it into the layer '{active.layer}': there nobody is in two experiments.",
            )
    allocation = Allocation(experiment, _free_buckets(state, experiment, experiment.n_buckets), started_at)
    return ExperimentState((*state.experiments, allocation), state.holdout)


def raise_traffic(state: ExperimentState, name: str, traffic: float) -> ExperimentState:
    """`state` with more traffic for an experiment; all its units keep their arm.

    Raises `UsageError` if there is no such experiment, or if `traffic` is less than it has, or more than its layer has.
    """
    allocation = find_experiment(state, name)
    try:
        experiment = replace(allocation.experiment, traffic=traffic)
    except ValueError as error:
        raise UsageError(f"{error}.", "Give the share of the layer's units, such as 0.5.") from error
    n_missing = experiment.n_buckets - sum(end - start for start, end in allocation.buckets)
    if n_missing < 0:
        raise UsageError(
            f"'{name}' has {allocation.experiment.traffic:.2%} of its layer; "
            "less would put shoppers out of it half way.",
            "Stop it and start another under a new name.",
        )
    buckets = allocation.buckets
    if n_missing:
        buckets = _merge_ranges((*buckets, *_free_buckets(state, experiment, n_missing)))
    larger = Allocation(experiment, buckets, allocation.started_at)
    return ExperimentState(tuple(larger if a is allocation else a for a in state.experiments), state.holdout)


def find_experiment(state: ExperimentState, name: str) -> Allocation:
    """The experiment called `name`; raises `UsageError` if none runs."""
    for allocation in state.experiments:
        if allocation.experiment.name == name:
            return allocation
    names = ", ".join(allocation.experiment.name for allocation in state.experiments) or "none"
    raise UsageError(f"No experiment '{name}' runs.", f"Running: {names}.")


def _setting_names(experiment: Experiment) -> set[str]:
    return {name for arm in experiment.arms.values() for name in arm.settings}


def _free_buckets(state: ExperimentState, experiment: Experiment, n: int) -> tuple[tuple[int, int], ...]:
    """The first `n` buckets of the experiment's layer that nobody owns."""
    owned_ranges = sorted(
        bucket_range
        for allocation in state.experiments
        if allocation.experiment.layer == experiment.layer
        for bucket_range in allocation.buckets
    )
    gaps = zip([0, *(end for _, end in owned_ranges)], [*(start for start, _ in owned_ranges), BUCKETS], strict=True)
    ranges, n_missing = [], n
    for start, end in gaps:
        if size := min(end - start, n_missing):
            ranges.append((start, start + size))
            n_missing -= size
    if n_missing:
        free = (n - n_missing) / BUCKETS
        raise UsageError(
            f"The layer '{experiment.layer}' has {free:.2%} of its units left, '{experiment.name}' wants "
            f"{n / BUCKETS:.2%} more.",
            "Give it less traffic, stop another experiment, or use another layer.",
        )
    return _merge_ranges(ranges)


def _merge_ranges(ranges: Iterable[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """Ranges in order; those that touch become one."""
    result: list[tuple[int, int]] = []
    for start, end in sorted((start, end) for start, end in ranges):
        if result and result[-1][1] == start:
            result[-1] = (result[-1][0], end)
        else:
            result.append((start, end))
    return tuple(result)
