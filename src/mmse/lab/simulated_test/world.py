"""A simulated shop whose time goes on: a log of its past, and shoppers still to come.

What was before `log_days` is the log that its production engine made; every round after that has `round_days`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from mmse.core.artifact import reason_to_make, writing
from mmse.core.config import plain, require
from mmse.lab.simulator.behaviour import Behaviour
from mmse.lab.simulator.preferences import Preferences
from mmse.lab.simulator.shoppers import Requests
from mmse.lab.simulator.simulate import KIND, MarketConfig, Progress, World, calibrate, make_world, run


@dataclass(frozen=True)
class OnlineConfig:
    """How much of a simulated shop's time is past, and how many rounds of how many days are to come.

    `requests_a_day` hold for past and future alike; days and requests of `market` are set from here.
    """

    market: MarketConfig = field(default_factory=MarketConfig)
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
        """Past and future together."""
        return self.log_days + self.rounds * self.round_days

    def to_market(self) -> MarketConfig:
        """The shop over all its days."""
        behaviour = replace(self.market.behaviour, days=self.days)
        return replace(self.market, n_requests=self.requests_a_day * self.days, behaviour=behaviour)


@dataclass(frozen=True)
class Shop:
    """A shop with its shoppers, who behave by `preferences`; `requests` are those of all its days."""

    config: OnlineConfig
    world: World
    preferences: Preferences

    @property
    def behaviour(self) -> Behaviour:
        """How pages are looked at."""
        return self.config.market.behaviour

    def moment(self, days: float) -> float:
        """A moment that is so many days after the log's start, in seconds since 1970."""
        return float(np.datetime64(self.behaviour.start, "s").astype(np.int64)) + days * 86_400

    def round_of(self, number: int) -> Int64[np.ndarray, " n"]:
        """The rows of the requests of a round, from 1 on; 0 is the log."""
        first = 0 if number == 0 else self.config.log_days + (number - 1) * self.config.round_days
        last = self.config.log_days + number * self.config.round_days
        time = self.world.requests.time
        return np.flatnonzero((time >= first) & (time < last))


def open_shop(config: OnlineConfig, folder: Path, progress: Progress | None = None) -> Shop:
    """The shop of `config`; its items and its log are written into `folder` unless they are there.

    Raises `OutputError` where it cannot be written, `ArtifactError` where `folder` holds something else.
    """
    market = config.to_market()
    world = make_world(market, progress)
    past = replace(world, requests=_some(world.requests, np.flatnonzero(world.requests.time < config.log_days)))
    said = plain(config)
    if reason_to_make(folder, KIND, said, {}):
        with writing(folder, kind=KIND, config=said, inputs={}) as draft:
            run(past, market.behaviour, market.seed, draft, progress)
    return Shop(config, world, calibrate(past, market.behaviour, market.seed))


def _some(requests: Requests, rows: Int64[np.ndarray, " n"]) -> Requests:
    return Requests(*(getattr(requests, name)[rows] for name in ("intent", "shopper", "text", "time")))
