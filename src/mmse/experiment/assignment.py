"""Who is in which experiment, and in which arm of it: hashed, so that everybody stays where they are.

A layer is 10,000 buckets; a unit (a shopper, a visit, a request) falls into one of them by the layer's own hash.
Experiments of one layer own buckets that no other has, so nobody is in two of them; layers know nothing of each other.
The arm is drawn by a second hash, salted by the experiment, so that more traffic changes nobody's arm. After Tang et
al., "Overlapping Experiment Infrastructure", KDD 2010.

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

from mmse.core.config import build, read_toml, require
from mmse.core.errors import UsageError
from mmse.schema.search import Channel

BUCKETS = 10_000
HOLDOUT = "holdout"
"""The arm of whoever is kept out of all experiments, and the name under which that is logged."""

Unit = Literal["user", "session", "request"]
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SETTINGS = ("serves", "channel", "interleave", "explore")


@dataclass(frozen=True)
class Interleave:
    """Two answers in one list; `beside` is the version or arm of the site that is list b.

    Without `channel` list b is found by the channel of list a.
    """

    beside: str
    method: Literal["team_draft", "balanced"] = "team_draft"
    channel: Channel | None = None


@dataclass(frozen=True)
class Explore:
    """A `share` of the slots is filled at random with what is ranked behind the page, down to rank `pool`."""

    share: float = 0.1
    pool: int = 100

    def __post_init__(self) -> None:
        require(0 < self.share <= 0.9, "share", self.share, "above 0, at most 0.9")
        require(2 <= self.pool <= 1_000, "pool", self.pool, "2 to 1000")


@dataclass(frozen=True)
class Arm:
    """What an arm is served: `serves` is a version, or an arm of the site; None leaves a setting as it is."""

    weight: float = 1.0
    serves: str | None = None
    channel: Channel | None = None
    interleave: Interleave | None = None
    explore: Explore | None = None

    def __post_init__(self) -> None:
        require(0 < self.weight < float("inf"), "weight", self.weight, "above 0")
        alone = self.explore is None or self.interleave is None
        require(alone, "explore", self.explore, "no exploring in an interleaved list: its chances would be unknown")

    @property
    def settings(self) -> dict[str, object]:
        """What it sets."""
        return {name: value for name in _SETTINGS if (value := getattr(self, name)) is not None}

    @property
    def versions(self) -> list[str]:
        """The versions or arms of the site that it needs."""
        return [name for name in (self.serves, self.interleave and self.interleave.beside) if name]


@dataclass(frozen=True)
class Experiment:
    """An experiment as its file says: `traffic` is a share of its layer, `exclude` are units who are never in it."""

    name: str
    arms: dict[str, Arm]
    unit: Unit = "user"
    layer: str = "search"
    traffic: float = 1.0
    salt: str = ""
    exclude: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for what, name in (("name", self.name), ("layer", self.layer), *(("arms", arm) for arm in self.arms)):
            require(bool(_NAME.fullmatch(name)), what, name, "up to 64 letters, digits, '_', '.' and '-'")
        require(self.name != HOLDOUT, "name", self.name, "another name: this one is the site's own")
        require(len(self.arms) >= 2, "arms", list(self.arms), "two arms or more")
        require(1 / BUCKETS <= self.traffic <= 1, "traffic", self.traffic, f"{1 / BUCKETS:g} to 1")

    @property
    def n_buckets(self) -> int:
        """How many buckets of its layer its traffic is."""
        return round(self.traffic * BUCKETS)

    def arm_of(self, unit: str) -> str:
        """The arm that `unit` is in, were it in the experiment."""
        point = fraction(self.salt or self.name, unit) * sum(arm.weight for arm in self.arms.values())
        reached = 0.0
        for name, arm in self.arms.items():
            reached += arm.weight
            if point < reached:
                return name
        return name  # the sum of floats may fall short of their total by a hair


@dataclass(frozen=True)
class Placed:
    """An experiment with the buckets of its layer that it owns, each from and up to but not including."""

    experiment: Experiment
    buckets: tuple[tuple[int, int], ...]
    since: str = ""

    def has(self, unit: str) -> bool:
        """Whether `unit` falls into its buckets."""
        bucket = bucket_of(self.experiment.layer, unit)
        return any(first <= bucket < last for first, last in self.buckets)


@dataclass(frozen=True)
class Running:
    """All experiments that run, and the share of units that is kept out of them."""

    experiments: tuple[Placed, ...] = ()
    holdout: float = 0.0


@dataclass(frozen=True)
class Assignment:
    """The arm of each experiment that a request is in, and what they set between them.

    Who is held out has the arm `holdout` of `holdout`.
    """

    arms: Mapping[str, str] = field(default_factory=dict)
    setting: Arm = field(default_factory=Arm)

    @property
    def arm(self) -> str | None:
        """The arm, where it is in one experiment alone."""
        return next(iter(self.arms.values())) if len(self.arms) == 1 else None


NOBODY = Assignment()


def assign(
    running: Running, *, user_id: str | None = None, session_id: str | None = None, request_id: str | None = None
) -> Assignment:
    """The arms of a request; an experiment whose unit the request does not name is none of its."""
    if not running.experiments and not running.holdout:
        return NOBODY
    units: dict[Unit, str | None] = {"user": user_id, "session": session_id, "request": request_id}
    held = user_id or session_id
    if running.holdout and held and fraction(HOLDOUT, held) < running.holdout:
        return Assignment({HOLDOUT: HOLDOUT})
    arms: dict[str, str] = {}
    settings: dict[str, Any] = {}
    for placed in running.experiments:
        experiment, unit = placed.experiment, units[placed.experiment.unit]
        if unit is None or unit in experiment.exclude or not placed.has(unit):
            continue
        arms[experiment.name] = experiment.arm_of(unit)
        settings |= experiment.arms[arms[experiment.name]].settings
    return Assignment(arms, Arm(**settings)) if arms else NOBODY


def fraction(salt: str, unit: str) -> float:
    """The hash of a unit, from 0 up to 1."""
    return int.from_bytes(sha256(f"{salt}:{unit}".encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64


def bucket_of(layer: str, unit: str) -> int:
    """The bucket of a layer that a unit falls into."""
    return min(int(fraction(f"layer.{layer}", unit) * BUCKETS), BUCKETS - 1)


def read_experiment(path: Path) -> Experiment:
    """The experiment that a TOML file describes; raises `UsageError` naming file and key."""
    said = read_toml(path)
    arms = said.get("arms")
    if isinstance(arms, dict) and all(isinstance(values, dict) for values in arms.values()):
        said["arms"] = {name: _read_arm(values, f"{path} [arms.{name}]") for name, values in arms.items()}
    return build(Experiment, said, str(path))


def _read_arm(values: Mapping[str, Any], where: str) -> Arm:
    parts = {"interleave": Interleave, "explore": Explore}
    read = {
        key: build(parts[key], value, f"{where} {key}") if key in parts and isinstance(value, dict) else value
        for key, value in values.items()
    }
    return build(Arm, read, where)


def started(running: Running, experiment: Experiment, since: str = "") -> Running:
    """`running` with one more; raises `UsageError` where its name runs, its layer is full or two would set the same."""
    for other in (placed.experiment for placed in running.experiments):
        if other.name == experiment.name:
            raise UsageError(f"An experiment '{other.name}' runs.", "Stop it, or choose another name.")
        both = _sets(other) & _sets(experiment)
        if other.layer != experiment.layer and both:
            raise UsageError(
                f"'{experiment.name}' and '{other.name}' would both set {', '.join(sorted(both))} for the same "
                f"shoppers: they are in the layers '{experiment.layer}' and '{other.layer}'.",
                f"Put it into the layer '{other.layer}', where nobody is in two experiments.",
            )
    placed = Placed(experiment, _taken(running, experiment, experiment.n_buckets), since)
    return Running((*running.experiments, placed), running.holdout)


def ramped(running: Running, name: str, traffic: float) -> Running:
    """`running` with more traffic for an experiment, all of whose units keep their arm.

    Raises `UsageError` where that is less than it has, more than its layer has left, or there is no such experiment.
    """
    placed = found(running, name)
    try:
        grown = replace(placed.experiment, traffic=traffic)
    except ValueError as error:
        raise UsageError(f"{error}.", "Give the share of the layer's units, such as 0.5.") from error
    more = grown.n_buckets - sum(last - first for first, last in placed.buckets)
    if more < 0:
        raise UsageError(
            f"'{name}' has {placed.experiment.traffic:.2%} of its layer; less would put shoppers out of it half way.",
            "Stop it and start another under a new name.",
        )
    buckets = _merged((*placed.buckets, *_taken(running, grown, more))) if more else placed.buckets
    changed = Placed(grown, buckets, placed.since)
    return Running(tuple(changed if one is placed else one for one in running.experiments), running.holdout)


def found(running: Running, name: str) -> Placed:
    """The experiment of that name; raises `UsageError` where none runs."""
    for placed in running.experiments:
        if placed.experiment.name == name:
            return placed
    names = ", ".join(placed.experiment.name for placed in running.experiments) or "none"
    raise UsageError(f"No experiment '{name}' runs.", f"Running: {names}.")


def _sets(experiment: Experiment) -> set[str]:
    return {name for arm in experiment.arms.values() for name in arm.settings}


def _taken(running: Running, experiment: Experiment, n: int) -> tuple[tuple[int, int], ...]:
    """The first `n` buckets of its layer that nobody owns."""
    others = sorted(
        limits for one in running.experiments if one.experiment.layer == experiment.layer for limits in one.buckets
    )
    gaps = zip([0, *(last for _, last in others)], [*(first for first, _ in others), BUCKETS], strict=True)
    taken, missing = [], n
    for first, last in gaps:
        if size := min(last - first, missing):
            taken.append((first, first + size))
            missing -= size
    if missing:
        free = (n - missing) / BUCKETS
        raise UsageError(
            f"The layer '{experiment.layer}' has {free:.2%} of its units left, '{experiment.name}' wants "
            f"{n / BUCKETS:.2%} more.",
            "Give it less traffic, stop another experiment, or use another layer.",
        )
    return _merged(taken)


def _merged(ranges: Iterable[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """Ranges in order, those that touch as one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted((first, last) for first, last in ranges):
        if merged and merged[-1][1] == first:
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return tuple(merged)
