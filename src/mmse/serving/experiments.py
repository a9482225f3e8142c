"""The experiments of a site: `experiments.json`, replaced in one step, which running servers take up at once.

{"running": {"experiments": [{"experiment": {…}, "buckets": [[0, 5000]], "since": "…"}], "holdout": 0.0},
"history": [{"at": "…", "by": "…", "what": "start", "name": "…", "note": "…", "experiment": {…}}]}
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, final

import msgspec

from mmse.core import locks
from mmse.core.errors import ArtifactError, UsageError
from mmse.experiment import assignment
from mmse.experiment.assignment import Experiment, Running
from mmse.serving.versions import site_file as sitefile
from mmse.serving.versions.site import Site

EXPERIMENTS = "experiments.json"
SCHEMA_VERSION = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """What was done about the experiments of a site; `experiment` is as it was then."""

    at: str
    by: str
    what: Literal["start", "ramp", "stop", "holdout"]
    name: str
    note: str
    experiment: Experiment | None = None


@dataclass(frozen=True)
class Experiments:
    """What `experiments.json` holds: what runs, and the steps to it, oldest first."""

    running: Running = field(default_factory=Running)
    history: Sequence[Step] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION


@final
class Watched:
    """The experiments of a site as they are now; `problem` says why newer ones are not in force."""

    def __init__(self, site: Path) -> None:
        self._site, self._file, self.problem = site, str(site / EXPERIMENTS), ""
        self._seen: object = None
        self._running = Running()

    def running(self) -> Running:
        """What runs. Cheap: the file is read when it has changed."""
        try:
            stat = os.stat(self._file)  # noqa: PTH116  asked by every search, and a string is quicker
            seen: object = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except OSError:
            seen = None
        if seen != self._seen:
            try:
                self._running, self.problem = read(self._site).running, ""
            except ArtifactError as error:
                self.problem = error.cause
                log.error("%s What ran goes on.", error.cause)
            self._seen = seen
        return self._running


def read(site: Path) -> Experiments:
    """The experiments of the site in the folder `site`; raises `ArtifactError` where their file is damaged."""
    path = site / EXPERIMENTS
    if not path.exists():
        return Experiments()
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Experiments)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise ArtifactError(
            f"{path} is damaged: {error}.",
            "Restore it from a backup; or move it away, which ends all experiments, and start them again.",
        ) from error
    if found.schema_version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {found.schema_version}, this mmse reads {SCHEMA_VERSION}.",
            "Use the mmse that wrote it.",
        )
    return found


def start(site: Site, experiment: Experiment, by: str = "") -> Running:
    """Begins an experiment; raises `UsageError` where a version is not served, or it does not fit those that run."""
    lacking = needed([experiment]) - {*site.state().arms, *(one.name for one in site.state().editions)}
    if lacking:
        served = ", ".join(sorted({*site.state().arms, *(one.name for one in site.state().editions)}))
        raise UsageError(
            f"'{experiment.name}' needs '{min(lacking)}', which {site.path} does not serve.",
            f"Publish it: `mmse versions publish {site.path} RUN --arm {min(lacking)}`. Served: {served}.",
        )
    step = Step(sitefile.now(), by, "start", experiment.name, experiment.note, experiment)
    return _change(site, step, lambda running: assignment.started(running, experiment, step.at))


def ramp(site: Site, name: str, traffic: float, by: str = "", note: str = "") -> Running:
    """Gives an experiment more of its layer's traffic; raises `UsageError` where that is not to be had."""
    step = Step(sitefile.now(), by, "ramp", name, note or f"to {traffic:.2%}")
    return _change(site, step, lambda running: assignment.ramped(running, name, traffic))


def stop(site: Site, name: str, by: str = "", note: str = "") -> Running:
    """Ends an experiment; its shoppers are served what is live. Raises `UsageError` where none of that name runs."""

    def without(running: Running) -> Running:
        over = assignment.found(running, name)
        return Running(tuple(one for one in running.experiments if one is not over), running.holdout)

    return _change(site, Step(sitefile.now(), by, "stop", name, note), without)


def hold_out(site: Site, share: float, by: str = "", note: str = "") -> Running:
    """Keeps a share of shoppers out of all experiments; raises `UsageError` for no share."""
    if not 0 <= share < 1:
        raise UsageError(f"The holdout is {share}, expected 0 to below 1.", "Give a share such as 0.05.")
    step = Step(sitefile.now(), by, "holdout", assignment.HOLDOUT, note or f"{share:.2%}")
    return _change(site, step, lambda running: Running(running.experiments, share))


def require_unneeded(site: Site, name: str) -> None:
    """Raises `UsageError` where a running experiment serves the version or arm `name`."""
    for placed in read(site.path).running.experiments:
        if name in needed([placed.experiment]):
            raise UsageError(
                f"The experiment '{placed.experiment.name}' serves '{name}'.",
                f"Stop it first: `mmse experiment stop {site.path} {placed.experiment.name}`.",
            )


def needed(experiments: Collection[Experiment]) -> set[str]:
    """The versions and arms of the site that experiments serve."""
    return {name for one in experiments for arm in one.arms.values() for name in arm.versions}


def _change(site: Site, step: Step, change: Callable[[Running], Running]) -> Running:
    site.require_versions()
    with locks.turn(site.path):
        now = read(site.path)
        running = change(now.running)
        history = [*now.history[-sitefile.MAX_HISTORY + 1 :], step]
        sitefile.write(site.path / EXPERIMENTS, Experiments(running, history))
    return running
