"""A simulated shop over time: a log of its past, and shoppers that come after it in rounds.

The first `log_days` are the log that the shop's own engine made; each round after them has `round_days`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from mmse.core.artifact import reason_to_make, write_folder
from mmse.core.config import plain_values, require
from mmse.core.progress import Progress, silent
from mmse.lab.simulator.behaviour import Behaviour
from mmse.lab.simulator.preferences import Preferences
from mmse.lab.simulator.shoppers import SimulatedRequests
from mmse.lab.simulator.simulate import KIND, SimulatedWorld, SimulatorConfig, build_world, calibrate, simulate_requests


@dataclass(frozen=True)
class OnlineConfig:
    """The days of the log, and the number and the days of the rounds after it.

    `requests_a_day` holds for log and rounds alike; it replaces the days and requests of `market`, the simulator's
    config.
    """

    market: SimulatorConfig = field(default_factory=SimulatorConfig)
    log_days: int = 30
    round_days: int = 21
    rounds: int = 2
    requests_a_day: int = 3_000

    def __post_init__(self) -> None:
        require(self.log_days >= 1, "log_days", self.log_days, "1 or more")
        require(self.round_days >= 1, "round_days", self.round_days, "1 or more")
        require(self.rounds >= 1, "rounds", self.rounds, "1 or more")
        require(self.requests_a_day >= 10, "requests_a_day", self.requests_a_day, "10 or more")

    @property
    def days(self) -> int:
        """The days of the log and of all rounds."""
        return self.log_days + self.rounds * self.round_days

    def to_simulator(self) -> SimulatorConfig:
        """The simulator's config for all these days."""
        behaviour = replace(self.market.behaviour, days=self.days)
        return replace(self.market, n_requests=self.requests_a_day * self.days, behaviour=behaviour)


@dataclass(frozen=True)
class OnlineShop:
    """A shop with its shoppers, who act by `preferences`; the requests of `world` are those of all days."""

    config: OnlineConfig
    world: SimulatedWorld
    preferences: Preferences

    @property
    def behaviour(self) -> Behaviour:
        """How shoppers use a page."""
        return self.config.market.behaviour

    def timestamp(self, day: float) -> float:
        """The seconds since 1970 of a time in days after the log's start."""
        return float(np.datetime64(self.behaviour.start, "s").astype(np.int64)) + day * 86_400

    def round_rows(self, number: int) -> Int64[np.ndarray, " n"]:
        """The rows of a round's requests; rounds count from 1, 0 is the log."""
        start = 0 if number == 0 else self.config.log_days + (number - 1) * self.config.round_days
        end = self.config.log_days + number * self.config.round_days
        time = self.world.requests.time
        return np.flatnonzero((time >= start) & (time < end))


def open_shop(config: OnlineConfig, folder: Path, progress: Progress = silent) -> OnlineShop:
    """The shop of `config`; writes its items and its log into `folder` unless they are there.

    Raises `OutputError` where it cannot be written, `ArtifactError` where `folder` holds something else.
    """
    simulator = config.to_simulator()
    world = build_world(simulator, progress)
    log_rows = np.flatnonzero(world.requests.time < config.log_days)
    log_world = replace(world, requests=_select(world.requests, log_rows))
    values = plain_values(config)
    if reason_to_make(folder, KIND, values, {}):
        with write_folder(folder, kind=KIND, config=values, inputs={}) as draft:
            simulate_requests(log_world, simulator.behaviour, simulator.seed, draft, progress)
    return OnlineShop(config, world, calibrate(log_world, simulator.behaviour, simulator.seed))


def _select(requests: SimulatedRequests, rows: Int64[np.ndarray, " n"]) -> SimulatedRequests:
    return SimulatedRequests(*(getattr(requests, column.name)[rows] for column in fields(requests)))
