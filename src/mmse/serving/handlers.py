"""The searches of one worker: from a request's body to an answer's, through the lane."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import msgspec
import numpy as np
from jaxtyping import Float32

from mmse.core.errors import MmseError, UsageError
from mmse.experiment.assignment import NOBODY, Arm, Assignment, Running, assign
from mmse.schema.filters import Filter
from mmse.schema.http import EmbedRequest, Outcome, SearchBatch, SearchRequest, Vectors
from mmse.schema.search import Answer, Search
from mmse.serving.batching import Lane
from mmse.serving.config import ServeConfig
from mmse.serving.events.log import EventLog, Shown
from mmse.serving.experiment_arms import Mark, Treated, explored, interleaved
from mmse.serving.failures import problem_of
from mmse.serving.model_pool import Fleet, Served
from mmse.serving.observability import metrics
from mmse.serving.observability.tracing import Stage
from mmse.serving.request_context import Call
from mmse.serving.wire import said, search_of


@dataclass(frozen=True)
class _Asked:
    """One request's searches; an error stands for one that does not fit."""

    searches: Sequence[Search | MmseError]
    call: Call


@final
class Desk:
    """Takes requests of any version that is served; `experiments` gives those that run."""

    def __init__(
        self, fleet: Fleet, lane: Lane, config: ServeConfig, events: EventLog, experiments: Callable[[], Running]
    ) -> None:
        self._fleet, self._lane, self._config = fleet, lane, config
        self._events, self._experiments = events, experiments
        self._encoder = msgspec.json.Encoder()

    async def search(self, asked: SearchRequest, call: Call, only: Filter | None = None) -> bytes:
        """The JSON of a `SearchAnswer`; `only` is its filter, where given. Raises `UsageError` and `Refused`.

        Without a version of its own the request is served as the experiments want that it is in.
        """
        assigned = NOBODY if asked.version else self._assigned(asked, call)
        with self._fleet.using(asked.version or assigned.setting.serves) as served:
            treated = await self._treated(served, asked, assigned.setting, call, only)
            body = self._written(served, asked.version, assigned, treated, call)
            if self._config.log_exposures:
                self._expose(served, asked, assigned, treated, call)
        return body

    async def batch(self, asked: SearchBatch, call: Call) -> bytes:
        """The JSON of a `BatchAnswer`; raises `Refused`. Version and deadline are those of its first search.

        The searches of a batch are in no experiment, and no exposure is logged of them: they have one id between them.
        """
        first = asked.searches[0]
        with self._fleet.using(first.version) as served:
            searches = [_searched(one, first, served) for one in asked.searches]
            outcomes = await self._do(served, first, searches, call)
            ready = [
                Outcome(error=problem_of(one, call.request_id))
                if isinstance(one, MmseError)
                else _Ready(answer=msgspec.Raw(self._written(served, first.version, NOBODY, Treated(one), call)))
                for one in outcomes
            ]
        return self._encoder.encode(_Batch(request_id=call.request_id, outcomes=ready))

    async def embed(self, asked: EmbedRequest, call: Call) -> Vectors:
        """The vectors of queries; raises `Refused`."""
        with self._fleet.using(asked.version) as served:
            vectors = await self._lane.do(
                (served, "embed"),
                lambda jobs: [_vectors(served, one) for one in jobs],
                asked,
                timeout_ms=self._config.timeout_ms,
                size=len(asked.queries),
            )
        return Vectors(
            request_id=call.request_id, version=served.name, dimensions=vectors.shape[1], vectors=vectors.tolist()
        )

    def _assigned(self, asked: SearchRequest, call: Call) -> Assignment:
        """The experiments that a request is in; in none where what it would be served is not there any more."""
        assigned = assign(
            self._experiments(), user_id=asked.user_id, session_id=asked.session_id, request_id=call.request_id
        )
        return assigned if all(map(self._fleet.serves, assigned.setting.versions)) else NOBODY

    async def _treated(
        self, served: Served, asked: SearchRequest, setting: Arm, call: Call, only: Filter | None
    ) -> Treated:
        """What the search finds, as the setting wants it shown."""
        deeper = max(asked.k, setting.explore.pool) if setting.explore else asked.k
        answer = await self._answer(served, asked, setting, call, only, deeper)
        if (both := setting.interleave) is not None:
            with self._fleet.using(both.beside) as beside:
                own = replace(setting, channel=both.channel or setting.channel)
                other = await self._answer(beside, asked, own, call, only, deeper)
            return interleaved(answer, other, asked.k, both.method, call.request_id)
        if setting.explore is not None:
            return explored(answer, asked.k, setting.explore, call.request_id)
        return Treated(answer)

    async def _answer(
        self, served: Served, asked: SearchRequest, setting: Arm, call: Call, only: Filter | None, k: int
    ) -> Answer:
        search = search_of(asked, served.retriever.kinds)
        search = replace(search, k=k, filter=only or search.filter, channel=setting.channel or search.channel)
        (outcome,) = await self._do(served, asked, [search], call)
        if isinstance(outcome, MmseError):
            raise outcome
        if outcome.no_good_match:
            metrics.no_good_match.inc()
        if search.cuts:
            metrics.cut_hits.inc(search.k - len(outcome.hits))
        return outcome

    async def _do(
        self, served: Served, asked: SearchRequest, searches: Sequence[Search | MmseError], call: Call
    ) -> Sequence[Answer | MmseError]:
        return await self._lane.do(
            (served, "search"),
            lambda jobs: self._answered(served, jobs),
            _Asked(searches, call),
            timeout_ms=asked.timeout_ms or self._config.timeout_ms,
            size=len(searches),
            since=call.began,
        )

    def _answered(self, served: Served, jobs: Sequence[_Asked]) -> Sequence[Sequence[Answer | MmseError]]:
        """What each job's searches found, all asked at once."""
        searches = [one for job in jobs for one in job.searches if isinstance(one, Search)]
        stages: list[Stage] = []

        def watch(stage: str, seconds: float) -> None:
            stages.append(Stage(stage, time.perf_counter() - seconds, seconds))

        before = served.retriever.lookups
        answers = iter(served.retriever.answers(searches, watch))
        after = served.retriever.lookups
        metrics.query_cache.labels("hit").inc(after.hits - before.hits)
        metrics.query_cache.labels("miss").inc(after.misses - before.misses)
        for one in stages:
            metrics.stages[one.name].observe(one.seconds)
        for job in jobs:
            job.call.stages.extend(stages)
        return [[next(answers) if isinstance(one, Search) else one for one in job.searches] for job in jobs]

    def _written(
        self, served: Served, version: str | None, assigned: Assignment, treated: Treated, call: Call
    ) -> bytes:
        began = time.perf_counter()
        body = self._encoder.encode(
            said(
                treated,
                kinds=served.retriever.kinds,
                request_id=call.request_id,
                version=served.name,
                arm=assigned.arm or self._arm(version, served),
                assignments=assigned.arms,
                took_s=began - call.began,
            )
        )
        seconds = time.perf_counter() - began
        metrics.stages["respond"].observe(seconds)
        call.stages.append(Stage("respond", began, seconds))
        return body

    def _expose(self, served: Served, asked: SearchRequest, assigned: Assignment, treated: Treated, call: Call) -> None:
        """Logs what is shown of an answer."""
        hits = treated.answer.hits[: asked.shown]
        if not hits:
            return
        marks = treated.marks[: len(hits)] or [Mark(propensity=1.0)] * len(hits)
        drawn = [mark.drawn for mark in marks if mark.drawn]
        self._events.record(
            Shown(
                call.request_id,
                time.time(),
                asked.query,
                [hit.item_id for hit in hits],
                user_id=asked.user_id,
                session_id=asked.session_id,
                version=served.name,
                arm=assigned.arm,
                assignments=assigned.arms,
                explored=[mark.explored for mark in marks],
                propensities=[mark.propensity for mark in marks],
                teams=[one.team for one in drawn] or None,
                ranks_a=[one.rank_a for one in drawn] or None,
                ranks_b=[one.rank_b for one in drawn] or None,
            )
        )

    def _arm(self, asked: str | None, served: Served) -> str | None:
        """The arm under which `served` answers: the one asked for, or any that has it."""
        arms = self._fleet.arms
        if asked in arms:
            return asked
        return next((arm for arm, one in arms.items() if one is served), None)


class _Ready(msgspec.Struct, frozen=True):
    """An `Outcome` whose answer is written already."""

    answer: msgspec.Raw
    error: None = None


class _Batch(msgspec.Struct, frozen=True):
    """A `BatchAnswer` of these."""

    request_id: str
    outcomes: list[_Ready | Outcome]


def _searched(one: SearchRequest, first: SearchRequest, served: Served) -> Search | MmseError:
    if one.version != first.version:
        return UsageError("The searches of a batch ask for different versions.", "Send one batch for each version.")
    try:
        return search_of(one, served.retriever.kinds)
    except MmseError as error:
        return error


def _vectors(served: Served, asked: EmbedRequest) -> Float32[np.ndarray, "n width"]:
    users = [asked.user_id] * len(asked.queries)
    return served.retriever.query_vectors(asked.queries, users, tuple(asked.history or ()))
