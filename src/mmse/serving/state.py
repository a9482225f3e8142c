"""What one worker process holds while it serves, in one place for the routes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import msgspec

from mmse.catalogue.edits import Edit
from mmse.experiment.assignment import Placed
from mmse.schema.http import LIVE, ArmSaid, ExperimentSaid, ExperimentsAnswer, ServedVersion, Versions
from mmse.serving.batching import Lane
from mmse.serving.config import ServeConfig
from mmse.serving.events.log import EventLog
from mmse.serving.experiments import Watched, needed
from mmse.serving.handlers import Desk
from mmse.serving.model_pool import Fleet, Served
from mmse.serving.observability import metrics
from mmse.serving.versions.site import put_in_service

_SWITCH_S = 0.001
"""How long a thread may keep Python to itself: the default of 5 ms is longer than a search."""
_GARBAGE = (100_000, 50, 100)
"""When Python looks for cycles: a search makes thousands of objects and none, and a look takes as long as a search."""
_HOPEFUL = 0.25
"""The share of a search's time that it may wait before it is begun; more is refused."""


@final
@dataclass(frozen=True)
class House:
    """The versions in service, the lane that searches them, the experiments that run, and where events go."""

    config: ServeConfig
    fleet: Fleet
    lane: Lane
    desk: Desk
    events: EventLog
    experiments: Watched

    @classmethod
    def open(cls, config: ServeConfig) -> House:
        """Opens all that the site serves; raises `ArtifactError` where that cannot be."""
        sys.setswitchinterval(_SWITCH_S)
        gc.set_threshold(*_GARBAGE)
        fleet = Fleet.open(config)
        fleet.start()
        lane = Lane(waiting=config.waiting, together=config.together, wait_ms=config.timeout_ms * _HOPEFUL)
        events, experiments = EventLog(config.events or config.path / "events"), Watched(config.path)
        desk = Desk(fleet, lane, config, events, experiments.running)
        return cls(config, fleet, lane, desk, events, experiments)

    def close(self) -> None:
        """Lets go of everything."""
        self.fleet.stop()
        self.events.close()

    def edit(self, edits: Sequence[Edit]) -> tuple[str, int]:
        """Puts `edits` on the disk for all versions served; gives the live version and its state that has them."""
        with self.fleet.holding() as held:
            applied = self.fleet.site.apply(
                edits, lambda edition: held[edition].retriever.catalogue if edition in held else None
            )
        metrics.edits.inc(len(edits))
        return applied.edition, applied.version

    def serve(self, arm: str, version: str, note: str) -> None:
        """Lets `arm` serve a version that was published; raises `UsageError` where there is no such version."""
        put_in_service(self.fleet.site, arm, version, note)
        self.fleet.look()

    def versions(self) -> Versions:
        """What is served."""
        arms = self.fleet.arms
        served = sorted(set(arms.values()), key=lambda one: one.name)
        problem = self._public(self.fleet.problem) if self.fleet.problem else None
        return Versions(
            live=arms[LIVE].name,
            served=[_said(one, sorted(arm for arm, its in arms.items() if its is one)) for one in served],
            problem=problem,
        )

    def problems(self) -> list[str]:
        """What somebody should look at, none of which stops a search."""
        wrong_with = (self.fleet.problem, self.events.problem, self.experiments.problem, self._unserved())
        found = [self._public(said) for said in wrong_with if said]
        for one in set(self.fleet.arms.values()):
            book = one.retriever.rulebook
            if book is not None and (wrong := book.status().problem):
                found.append(f"Newer rules of version {one.name} are not in use: {self._public(wrong)}")
        return found

    def running(self) -> ExperimentsAnswer:
        """The experiments that run."""
        running = self.experiments.running()
        return ExperimentsAnswer(
            experiments=[_experiment(one) for one in running.experiments],
            holdout=running.holdout,
            problem=self._public(self.experiments.problem) or self._unserved() or None,
        )

    def _unserved(self) -> str:
        """What an experiment needs and nobody serves: its shoppers are in no experiment meanwhile."""
        experiments = [one.experiment for one in self.experiments.running().experiments]
        lacking = sorted(name for name in needed(experiments) if not self.fleet.serves(name))
        return f"An experiment needs '{lacking[0]}', which is not served." if lacking else ""

    def _public(self, said: str) -> str:
        """`said` without where the site lies on this machine's disk, since anybody may read it."""
        return said.replace(f"{self.config.path}/", "")


def _experiment(placed: Placed) -> ExperimentSaid:
    one = placed.experiment
    arms = [
        ArmSaid(name=name, weight=arm.weight, settings=msgspec.to_builtins(arm.settings))
        for name, arm in one.arms.items()
    ]
    return ExperimentSaid(
        name=one.name, layer=one.layer, unit=one.unit, traffic=one.traffic, since=placed.since, note=one.note, arms=arms
    )


def _said(one: Served, arms: list[str]) -> ServedVersion:
    now = one.retriever.snapshot()
    return ServedVersion(
        version=one.name,
        arms=arms,
        fingerprint=one.edition.fingerprint,
        published_at=one.edition.at,
        note=one.edition.note,
        items=len(now),
        catalogue=now.version,
        views=list(one.retriever.encoder.views),
        width=one.retriever.encoder.width,
        has_map=one.atlas is not None,
    )
