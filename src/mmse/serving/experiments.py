"""The experiments of a site: `experiments.json`, replaced in one step, which running servers take up at once.

{"running": {"experiments": [{"experiment": {…}, "buckets": [[0, 5000]], "since": "…"}], "holdout": 0.0},
"history": [{"at": "…", "by": "…", "what": "start", "name": "…", "note": "…", "experiment": {…}}]}
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal, final

import msgspec

from mmse.core import locks
from mmse.core.errors import ArtifactError, UsageError
from mmse.core.json_files import read_json, write_json
from mmse.experiment import assignment
from mmse.experiment.assignment import Experiment, ExperimentState
from mmse.serving.versions import site_file
from mmse.serving.versions.site import Site

EXPERIMENTS = "experiments.json"
SCHEMA_VERSION = 1

log = logging.getLogger(__name__)


class ExperimentChange(msgspec.Struct, frozen=True):
    """A change of the experiments of a site; `experiment` is the one that was started, None for other changes."""

    at: str
    by: str
    action: Literal["start", "ramp", "stop", "holdout"] = msgspec.field(name="what")
    name: str
    note: str
    experiment: Experiment | None = None


class ExperimentsRecord(msgspec.Struct, frozen=True):
    """What `experiments.json` holds: the running experiments, and the changes that led there, oldest first."""

    state: ExperimentState = msgspec.field(default_factory=ExperimentState, name="running")
    history: Sequence[ExperimentChange] = ()
    schema_version: int = SCHEMA_VERSION


@final
class ExperimentsWatcher:
    """The running experiments of a site, as the file says at the moment; `problem` says why newer ones are ignored."""

    def __init__(self, site: Path) -> None:
        self._site, self._file, self.problem = site, str(site / EXPERIMENTS), ""
        self._state_stamp: object = None
        self._state = ExperimentState()

    def state(self) -> ExperimentState:
        """The running experiments. Cheap: the file is read when it has changed."""
        try:
            stat = os.stat(self._file)  # noqa: PTH116  every search asks, and a string is quicker than a path
            stamp: object = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except OSError:
            stamp = None
        if stamp != self._state_stamp:
            try:
                self._state, self.problem = read_experiments(self._site).state, ""
            except ArtifactError as error:
                self.problem = error.cause
                log.error("%s What ran goes on.", error.cause)
            self._state_stamp = stamp
        return self._state


def read_experiments(site: Path) -> ExperimentsRecord:
    """The experiments of the site in the folder `site`; raises `ArtifactError` where their file is damaged."""
    path = site / EXPERIMENTS
    if not path.exists():
        return ExperimentsRecord()
    try:
        record = read_json(path, ExperimentsRecord)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise ArtifactError(
            f"{path} is damaged: {error}.",
            "Restore it from a backup; or move it away, which ends all experiments, and start them again.",
        ) from error
    if record.schema_version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {record.schema_version}, this mmse reads {SCHEMA_VERSION}.",
            "Use the mmse that wrote it.",
        )
    return record


def find_described(site: Path, name: str | None, arms: Collection[str]) -> Experiment | None:
    """The experiment `name` of a site, also one that is over; without a name the only one that has all of `arms`.

    None where there is none. Raises `ArtifactError` where the site's file is damaged.
    """
    record = read_experiments(site)
    by_name = {change.experiment.name: change.experiment for change in record.history if change.experiment}
    by_name |= {allocation.experiment.name: allocation.experiment for allocation in record.state.experiments}
    if name is not None:
        return by_name.get(name)
    fitting = [experiment for experiment in by_name.values() if set(arms) <= set(experiment.arms)]
    return fitting[0] if len(fitting) == 1 else None


def start(site: Site, experiment: Experiment, by: str = "") -> ExperimentState:
    """Starts an experiment; raises `UsageError` where a version is not served, or it does not fit those that run."""
    state = site.state()
    served_names = {*state.arms, *(version.name for version in state.versions)}
    if missing_names := required_versions([experiment]) - served_names:
        name, names = min(missing_names), ", ".join(sorted(served_names))
        raise UsageError(
            f"'{experiment.name}' needs '{name}', which {site.path} does not serve.",
            f"Publish it: `mmse versions publish {site.path} RUN --arm {name}`. Served: {names}.",
        )
    change = ExperimentChange(site_file.utc_time(), by, "start", experiment.name, experiment.note, experiment)
    return _apply(site, change, lambda state: assignment.add_experiment(state, experiment, change.at))


def ramp(site: Site, name: str, traffic: float, by: str = "", note: str = "") -> ExperimentState:
    """Gives an experiment more of its layer's traffic; raises `UsageError` where the layer does not have as much."""
    change = ExperimentChange(site_file.utc_time(), by, "ramp", name, note or f"to {traffic:.2%}")
    return _apply(site, change, lambda state: assignment.raise_traffic(state, name, traffic))


def stop(site: Site, name: str, by: str = "", note: str = "") -> ExperimentState:
    """Ends an experiment; its shoppers get the live version. Raises `UsageError` where none of that name runs."""

    def remove(state: ExperimentState) -> ExperimentState:
        removal = assignment.find_experiment(state, name)
        return ExperimentState(
            tuple(allocation for allocation in state.experiments if allocation is not removal), state.holdout
        )

    return _apply(site, ExperimentChange(site_file.utc_time(), by, "stop", name, note), remove)


def hold_out(site: Site, share: float, by: str = "", note: str = "") -> ExperimentState:
    """Keeps a share of shoppers out of all experiments; raises `UsageError` where `share` is none."""
    if not 0 <= share < 1:
        raise UsageError(f"The holdout is {share}, expected 0 to below 1.", "Give a share such as 0.05.")
    change = ExperimentChange(site_file.utc_time(), by, "holdout", assignment.HOLDOUT, note or f"{share:.2%}")
    return _apply(site, change, lambda state: ExperimentState(state.experiments, share))


def require_unused(site: Site, name: str) -> None:
    """Raises `UsageError` where a running experiment serves the version or arm `name`."""
    for allocation in read_experiments(site.path).state.experiments:
        experiment = allocation.experiment
        if name in required_versions([experiment]):
            raise UsageError(
                f"The experiment '{experiment.name}' serves '{name}'.",
                f"Stop it first: `mmse experiment stop {site.path} {experiment.name}`.",
            )


def required_versions(experiments: Collection[Experiment]) -> set[str]:
    """The versions and arms of the site that experiments serve."""
    return {name for experiment in experiments for arm in experiment.arms.values() for name in arm.versions}


def _apply(
    site: Site, change: ExperimentChange, compute_state: Callable[[ExperimentState], ExperimentState]
) -> ExperimentState:
    """Computes the new state from the present one and writes it, with the change at the end of the history."""
    site.require_versions()
    with locks.take_turn(site.path):
        record = read_experiments(site.path)
        state = compute_state(record.state)
        history = [*record.history[-site_file.MAX_HISTORY + 1 :], change]
        write_json(site.path / EXPERIMENTS, ExperimentsRecord(state, history))
    return state
