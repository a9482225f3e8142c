"""What one worker process holds while it serves, for the routes to use."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, final

import msgspec

from mmse.catalogue.edits import Edit
from mmse.experiment.assignment import Allocation
from mmse.schema.http import LIVE
from mmse.schema.http_admin import ArmStatus, ExperimentsAnswer, ExperimentStatus, VersionsAnswer, VersionStatus
from mmse.schema.user_ids import UserSalt
from mmse.serving.config import ServeConfig
from mmse.serving.events.log import EventLog
from mmse.serving.experiments import ExperimentsWatcher, required_versions
from mmse.serving.handlers import SearchHandler
from mmse.serving.model_pool import LoadedVersion, ModelPool
from mmse.serving.observability import metrics
from mmse.serving.tokens import Tokens
from mmse.serving.versions.site import put_in_service
from mmse.serving.versions.site_file import EVENTS

_ID_NAMES = ("user_id", "session_id")
_Part = TypeVar("_Part", bound=msgspec.Struct)
_SWITCH_S = 0.001
"""How long a thread may keep the interpreter to itself: the default of 5 ms is longer than a search."""
_GC_THRESHOLDS = (100_000, 50, 100)
"""When Python looks for cycles: a search makes thousands of objects and no cycle, and a look takes as long as it."""


log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class ServerState:
    """The versions in service, the handler of searches, the log of events, experiments, tokens, and the salt of ids."""

    config: ServeConfig
    models: ModelPool
    handler: SearchHandler
    events: EventLog
    experiments: ExperimentsWatcher
    tokens: Tokens
    salt: UserSalt | None = None

    @classmethod
    def open(cls, config: ServeConfig) -> ServerState:
        """Loads all that the site serves; raises `ArtifactError` where it cannot."""
        salt = UserSalt.read(config.user_salt_file) if config.user_salt_file else None
        sys.setswitchinterval(_SWITCH_S)
        gc.set_threshold(*_GC_THRESHOLDS)
        models = ModelPool.open(config)
        models.start()
        events, experiments = EventLog(config.events or config.path / EVENTS), ExperimentsWatcher(config.path)
        handler = SearchHandler(models, config, events, experiments.state)
        tokens = Tokens(config.token, config.token_file, config.look_every_s)
        server = cls(config, models, handler, events, experiments, tokens, salt)
        for version in set(models.arms.values()):
            if problem := server._salt_problem(version):
                log.warning("%s", problem)
        return server

    def close(self) -> None:
        """Stops its threads and closes its files."""
        self.models.stop()
        self.events.close()

    def hash_ids(self, part: _Part) -> _Part:
        """A part of a request with hashes in place of its shopper and visit, where the server has a salt."""
        if self.salt is None:
            return part
        ids = {name: self.salt.hash_id(getattr(part, name)) for name in _ID_NAMES if getattr(part, name, None)}
        return msgspec.structs.replace(part, **ids) if ids else part

    def edit(self, edits: Sequence[Edit]) -> tuple[str, int]:
        """Puts `edits` on the disk for all versions served; gives the name and the catalogue state of the live one."""
        with self.models.lease_all() as versions:
            result = self.models.site.apply(
                edits,
                lambda site_version: versions[site_version].retriever.catalogue if site_version in versions else None,
            )
        metrics.edits.inc(len(edits))
        return result.version, result.catalogue_version

    def serve_version(self, arm: str, version: str, note: str) -> None:
        """Lets `arm` serve a published version; raises `UsageError` where there is no such version."""
        put_in_service(self.models.site, arm, version, note)
        self.models.reload()

    def describe_versions(self) -> VersionsAnswer:
        """The versions in service."""
        arms = self.models.arms
        versions = sorted(set(arms.values()), key=lambda version: version.name)
        return VersionsAnswer(
            live=arms[LIVE].name,
            served=[
                _describe_version(version, sorted(arm for arm, arm_version in arms.items() if arm_version is version))
                for version in versions
            ],
            problem=self._hide_path(self.models.problem) if self.models.problem else None,
        )

    def list_problems(self) -> list[str]:
        """Problems for an operator to look at; none of them stops a search."""
        problems = [self.models.problem, self.events.problem, self.experiments.problem, self._missing_version()]
        problems += [self.tokens.problem, *self.models.content.problems]
        for version in set(self.models.arms.values()):
            if version.retriever.catalogue is not None:
                problems.append(version.retriever.catalogue.problem)
            if version.read_only_reason:
                problems.append(f"Version {version.name} takes no edits: {version.read_only_reason}")
            problems.append(self._salt_problem(version))
            rulebook = version.retriever.rulebook
            if rulebook is not None and (problem := rulebook.status().problem):
                problems.append(f"Newer rules of version {version.name} are not in use: {problem}")
        return [self._hide_path(problem) for problem in problems if problem]

    def describe_experiments(self) -> ExperimentsAnswer:
        """The experiments that run."""
        state = self.experiments.state()
        return ExperimentsAnswer(
            experiments=[_describe_experiment(allocation) for allocation in state.experiments],
            holdout=state.holdout,
            problem=self._hide_path(self.experiments.problem) or self._missing_version() or None,
        )

    def _salt_problem(self, version: LoadedVersion) -> str:
        """What keeps a version from knowing any shopper, or ""."""
        fingerprint = self.salt.fingerprint if self.salt else ""
        if fingerprint == version.user_salt or not version.retriever.history.n_users:
            return ""
        cure = "so it knows no shopper: serve it with the --user-salt-file of its [mine] user_salt_file."
        if not version.user_salt:
            return f"The ids of version {version.name} are not hashed, and this server hashes them, {cure}"
        other = "another salt" if fingerprint else "a salt, and this server has none"
        return f"The ids of version {version.name} are hashed with {other}, {cure}"

    def _missing_version(self) -> str:
        """The problem of an experiment whose version is not served, or "": its shoppers are in no experiment then."""
        experiments = [allocation.experiment for allocation in self.experiments.state().experiments]
        missing_names = sorted(name for name in required_versions(experiments) if not self.models.has(name))
        return f"An experiment needs '{missing_names[0]}', which is not served." if missing_names else ""

    def _hide_path(self, problem: str) -> str:
        """`problem` without the path of the site on this machine, since anybody may read it."""
        return problem.replace(f"{self.config.path}/", "")


def _describe_experiment(allocation: Allocation) -> ExperimentStatus:
    experiment = allocation.experiment
    return ExperimentStatus(
        name=experiment.name,
        layer=experiment.layer,
        unit=experiment.unit,
        traffic=experiment.traffic,
        since=allocation.started_at,
        note=experiment.note,
        arms=[
            ArmStatus(name=name, weight=arm.weight, settings=msgspec.to_builtins(arm.settings))
            for name, arm in experiment.arms.items()
        ],
    )


def _describe_version(version: LoadedVersion, arms: list[str]) -> VersionStatus:
    snapshot = version.retriever.snapshot()
    return VersionStatus(
        version=version.name,
        arms=arms,
        fingerprint=version.site_version.fingerprint,
        published_at=version.site_version.at,
        note=version.site_version.note,
        items=len(snapshot),
        catalogue=snapshot.version,
        views=list(version.retriever.encoder.views),
        width=version.retriever.encoder.width,
        has_map=version.catalogue_map is not None,
    )
