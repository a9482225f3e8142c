"""The searches of one worker: from a request's body to an answer's, through the lane."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import msgspec
import numpy as np
from jaxtyping import Float32

from mmse.api import EmbedRequest, Outcome, SearchBatch, SearchRequest, Vectors
from mmse.errors import MmseError, UsageError
from mmse.filters import Filter
from mmse.search import Answer, Search
from mmse.serving import metrics
from mmse.serving.call import Call
from mmse.serving.config import ServeConfig
from mmse.serving.failures import problem_of
from mmse.serving.fleet import Fleet, Served
from mmse.serving.lane import Lane
from mmse.serving.tracing import Stage
from mmse.serving.translate import said, search_of


@dataclass(frozen=True)
class _Asked:
    """One request's searches (an error stands for one that does not fit), and what its answer has to name."""

    searches: Sequence[Search | MmseError]
    arm: str | None
    call: Call


@final
class Desk:
    """Takes requests of any version that is served."""

    def __init__(self, fleet: Fleet, lane: Lane, config: ServeConfig) -> None:
        self._fleet, self._lane, self._config = fleet, lane, config
        self._encoder = msgspec.json.Encoder()

    async def search(self, asked: SearchRequest, call: Call, only: Filter | None = None) -> bytes:
        """The JSON of a `SearchAnswer`; `only` is its filter, where given. Raises `UsageError` and `Refused`."""
        with self._fleet.using(asked.version) as served:
            search = search_of(asked, served.retriever.kinds)
            if only is not None:
                search = replace(search, filter=only)
            (outcome,) = await self._do(served, asked, [search], call)
        if isinstance(outcome, MmseError):
            raise outcome
        return outcome

    async def batch(self, asked: SearchBatch, call: Call) -> bytes:
        """The JSON of a `BatchAnswer`; raises `Refused`. Version and deadline are those of its first search."""
        first = asked.searches[0]
        with self._fleet.using(first.version) as served:
            searches = [_searched(one, first, served) for one in asked.searches]
            outcomes = await self._do(served, first, searches, call)
        ready = [
            Outcome(error=problem_of(one, call.request_id)) if isinstance(one, MmseError)
            else _Ready(answer=msgspec.Raw(one))
            for one in outcomes
        ]  # fmt: skip
        return self._encoder.encode(_Batch(request_id=call.request_id, outcomes=ready))

    async def embed(self, asked: EmbedRequest, call: Call) -> Vectors:
        """The vectors of queries; raises `Refused`."""
        with self._fleet.using(asked.version) as served:
            vectors = await self._lane.do(
                (served, "embed"), lambda jobs: [_vectors(served, one) for one in jobs], asked,
                timeout_ms=self._config.timeout_ms, size=len(asked.queries),
            )  # fmt: skip
        return Vectors(
            request_id=call.request_id, version=served.name, dimensions=vectors.shape[1], vectors=vectors.tolist()
        )

    async def _do(
        self, served: Served, asked: SearchRequest, searches: Sequence[Search | MmseError], call: Call
    ) -> Sequence[bytes | MmseError]:
        return await self._lane.do(
            (served, "search"), lambda jobs: self._answered(served, jobs),
            _Asked(searches, self._arm(asked.version, served), call),
            timeout_ms=asked.timeout_ms or self._config.timeout_ms, size=len(searches), since=call.began,
        )  # fmt: skip

    def _answered(self, served: Served, jobs: Sequence[_Asked]) -> Sequence[Sequence[bytes | MmseError]]:
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
        return [
            [self._written(served, job, one, next(answers)) if isinstance(one, Search) else one for one in job.searches]
            for job in jobs
        ]

    def _written(self, served: Served, job: _Asked, search: Search, answer: Answer | MmseError) -> bytes | MmseError:
        if isinstance(answer, MmseError):
            return answer
        began = time.perf_counter()
        if answer.no_good_match:
            metrics.no_good_match.inc()
        if search.cuts:
            metrics.cut_hits.inc(search.k - len(answer.hits))
        body = self._encoder.encode(
            said(
                answer, kinds=served.retriever.kinds, request_id=job.call.request_id, version=served.name,
                arm=job.arm, took_s=began - job.call.began,
            )
        )  # fmt: skip
        seconds = time.perf_counter() - began
        metrics.stages["respond"].observe(seconds)
        job.call.stages.append(Stage("respond", began, seconds))
        return body

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
