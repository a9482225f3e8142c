"""Answers the searches of one worker: from the body of a request to the body of its response, in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, final

import msgspec
import numpy as np
from jaxtyping import Float32

from mmse.core.errors import MmseError, UsageError
from mmse.experiment.assignment import NO_ASSIGNMENT, Arm, Assignment, ExperimentState, assign
from mmse.schema.filters import Filter
from mmse.schema.http import BatchOutcome, EmbedAnswer, EmbedRequest, SearchBatch, SearchRequest
from mmse.schema.search import Answer, Search
from mmse.serving.answer_cache import EncodedAnswer, answer_key
from mmse.serving.batching import MicroBatcher
from mmse.serving.config import ServeConfig
from mmse.serving.costs import HEAVY_COST, TURN_COST, check_costs, search_cost, split_by_cost
from mmse.serving.events.log import EventLog
from mmse.serving.events.rows import ExposureRecord
from mmse.serving.experiment_arms import ArmAnswer, Placement, explore_answer, interleave_answers
from mmse.serving.failures import to_problem
from mmse.serving.model_pool import LoadedVersion, ModelPool
from mmse.serving.observability import metrics
from mmse.serving.observability.tracing import Span
from mmse.serving.request_context import RequestContext
from mmse.serving.wire import build_answer, build_search

_WAIT_SHARE = 0.25
"""The share of its deadline that a search may wait for its turn; one that would wait longer is refused at once."""


class _BatchKey(NamedTuple):
    """What the jobs of one batch have in common."""

    version: LoadedVersion
    task: Literal["search", "embed"]


@dataclass(frozen=True, slots=True)
class _SearchJob:
    """The searches of one request; an error stands for a search that does not fit the catalogue."""

    searches: Sequence[Search | MmseError]
    context: RequestContext


@final
class SearchHandler:
    """Answers requests with any version in service; `experiments` gives the experiments that run."""

    def __init__(
        self, models: ModelPool, config: ServeConfig, events: EventLog, experiments: Callable[[], ExperimentState]
    ) -> None:
        self._models, self._config = models, config
        self._events, self._experiments = events, experiments
        self._encoder = msgspec.json.Encoder()
        self._batcher: MicroBatcher[_BatchKey, Any, Any] = MicroBatcher(
            _run_batch,
            queue_size=config.queue_size,
            max_batch=config.max_batch,
            wait_ms=config.timeout_ms * _WAIT_SHARE,
            max_cost=TURN_COST,
        )

    @property
    def is_full(self) -> bool:
        """Whether it refuses searches at present."""
        return self._batcher.is_full

    async def search(self, request: SearchRequest, context: RequestContext, condition: Filter | None = None) -> bytes:
        """The JSON of a `SearchAnswer`; `condition`, where given, is the filter. Raises `UsageError`, `RequestError`.

        A request that names no version is served what its experiments want.
        """
        assignment = NO_ASSIGNMENT if request.version else self._assign(request, context)
        with self._models.lease(request.version or assignment.setting.serves) as version:
            answer = await self._find(version, request, assignment.setting, context, condition)
            body = self._send(version, request.version, assignment, answer, context)
            if self._config.log_exposures:
                self._log_exposure(version, request, assignment, answer, context)
        if answer.answer.no_good_match:
            metrics.no_good_match.inc()
        if request.min_probability or request.target_precision is not None:
            metrics.cut_hits.inc(max(request.k - len(answer.item_ids), 0))
        return body

    async def _find(
        self,
        version: LoadedVersion,
        request: SearchRequest,
        setting: Arm,
        context: RequestContext,
        condition: Filter | None,
    ) -> EncodedAnswer:
        """The answer to a request, from the cache of its version where that has it."""
        key = answer_key(request, setting, condition) if self._config.answer_cache_mb else None
        if key is None:
            return self._encode(version, await self._search_arm(version, request, setting, context, condition), context)
        state = version.retriever.state()
        answer = version.answers.get(key, state)
        metrics.answer_cache.labels("hit" if answer else "miss").inc()
        if answer is not None:
            metrics.answer_cache_saved_seconds.inc(answer.seconds)
            return answer
        start_s = time.perf_counter()
        arm_answer = await self._search_arm(version, request, setting, context, condition)
        answer = self._encode(version, arm_answer, context, time.perf_counter() - start_s)
        if version.retriever.state() == state:
            version.answers.put(key, state, answer)
        return answer

    async def search_batch(self, batch: SearchBatch, context: RequestContext) -> bytes:
        """The JSON of a `BatchAnswer`; raises `RequestError`. Version and deadline are those of its first search.

        The searches of a batch are in no experiment, and no exposure is logged of them: they share one id.
        """
        first_request = batch.searches[0]
        with self._models.lease(first_request.version) as version:
            searches = [_parse_search(request, first_request.version, version) for request in batch.searches]
            costs = [search_cost(search) if isinstance(search, Search) else 0.0 for search in searches]
            check_costs(costs)
            outcomes: list[_EncodedOutcome | BatchOutcome] = []
            for part in split_by_cost(costs, self._config.max_batch):
                results = await self._run(
                    version, first_request, searches[part], context, sum(costs[part]), is_admitted=bool(outcomes)
                )
                outcomes += [
                    self._encode_outcome(version, first_request.version, result, context) for result in results
                ]
        return self._encoder.encode(_EncodedBatch(context.request_id, outcomes))

    def _encode_outcome(
        self, version: LoadedVersion, requested_name: str | None, result: Answer | MmseError, context: RequestContext
    ) -> _EncodedOutcome | BatchOutcome:
        if isinstance(result, MmseError):
            return BatchOutcome(error=to_problem(result, context.request_id))
        answer = self._encode(version, ArmAnswer(result), context)
        body = self._send(version, requested_name, NO_ASSIGNMENT, answer, context)
        return _EncodedOutcome(msgspec.Raw(body))

    async def embed(self, request: EmbedRequest, context: RequestContext) -> EmbedAnswer:
        """The vectors of queries; raises `RequestError`."""
        with self._models.lease(request.version) as version:
            vectors: Float32[np.ndarray, "n width"] = await self._batcher.submit(
                _BatchKey(version, "embed"),
                request,
                timeout_ms=self._config.timeout_ms,
                size=len(request.queries),
                is_heavy=len(request.queries) > self._config.max_batch,
            )
        return EmbedAnswer(
            request_id=context.request_id, version=version.name, dimensions=vectors.shape[1], vectors=vectors.tolist()
        )

    def _assign(self, request: SearchRequest, context: RequestContext) -> Assignment:
        """The experiments that a request is in; none where one of them needs a version that is not served."""
        assignment = assign(
            self._experiments(), user_id=request.user_id, session_id=request.session_id, request_id=context.request_id
        )
        return assignment if all(map(self._models.has, assignment.setting.versions)) else NO_ASSIGNMENT

    async def _search_arm(
        self,
        version: LoadedVersion,
        request: SearchRequest,
        setting: Arm,
        context: RequestContext,
        condition: Filter | None,
    ) -> ArmAnswer:
        """The answer to a search, as the setting of its arm wants it."""
        if request.sort:  # an order of the shopper's own is no ranking to compare
            return ArmAnswer(await self._search_one(version, request, setting, context, condition, request.k))
        interleave, n_skipped, is_first_page = setting.interleave, request.offset, request.offset == 0
        if interleave is not None:  # both lists from their first places on, since a page depends on all before it
            request = msgspec.structs.replace(request, k=request.offset + request.k, offset=0)
        depth = max(request.k, setting.explore.pool) if setting.explore and is_first_page else request.k
        answer = await self._search_one(version, request, setting, context, condition, depth)
        if interleave is not None:
            setting_b = replace(setting, channel=interleave.channel or setting.channel)
            with self._models.lease(interleave.beside) as version_b:
                answer_b = await self._search_one(version_b, request, setting_b, context, condition, depth)
            arm_answer = interleave_answers(
                answer, answer_b, request.k, interleave.method, context.request_id, all_variants=request.all_variants
            )
            return arm_answer.skip(n_skipped)
        if setting.explore is not None and is_first_page:
            return explore_answer(answer, request.k, setting.explore, context.request_id)
        return ArmAnswer(answer)

    async def _search_one(
        self,
        version: LoadedVersion,
        request: SearchRequest,
        setting: Arm,
        context: RequestContext,
        condition: Filter | None,
        k: int,
    ) -> Answer:
        search = build_search(request, version.retriever.kinds)
        search = replace(search, k=k, filter=condition or search.filter, channel=setting.channel or search.channel)
        cost = search_cost(search)
        check_costs([cost])
        (result,) = await self._run(version, request, [search], context, cost)
        if isinstance(result, MmseError):
            raise result
        return result

    async def _run(
        self,
        version: LoadedVersion,
        request: SearchRequest,
        searches: Sequence[Search | MmseError],
        context: RequestContext,
        cost: float,
        *,
        is_admitted: bool = False,
    ) -> Sequence[Answer | MmseError]:
        """The answers of `searches` in turn with those of other requests, by the deadline of `request`."""
        answers: Sequence[Answer | MmseError] = await self._batcher.submit(
            _BatchKey(version, "search"),
            _SearchJob(searches, context),
            timeout_ms=request.timeout_ms or self._config.timeout_ms,
            size=len(searches),
            cost=max(cost, 1.0),
            is_heavy=cost > HEAVY_COST,
            is_admitted=is_admitted,
            start_s=context.start_s,
        )
        return answers

    @staticmethod
    def _encode(
        version: LoadedVersion, arm_answer: ArmAnswer, context: RequestContext, seconds: float = 0.0
    ) -> EncodedAnswer:
        """An answer that took `seconds`, its hits as JSON."""
        start_s = time.perf_counter()
        answer = build_answer(arm_answer, kinds=version.retriever.kinds, version=version.name)
        encoded_answer = EncodedAnswer.of(answer, arm_answer.placements, seconds)
        seconds_of_json = time.perf_counter() - start_s
        metrics.spans["respond"].observe(seconds_of_json)
        context.spans.append(Span("respond", start_s, seconds_of_json))
        return encoded_answer

    def _send(
        self,
        version: LoadedVersion,
        requested_name: str | None,
        assignment: Assignment,
        answer: EncodedAnswer,
        context: RequestContext,
    ) -> bytes:
        """The JSON of a `SearchAnswer` to this request."""
        body = msgspec.structs.replace(
            answer.answer,
            request_id=context.request_id,
            arm=assignment.arm or self._arm_name(requested_name, version),
            assignments=dict(assignment.arms),
            took_ms=round((time.perf_counter() - context.start_s) * 1000, 3),
        )
        return self._encoder.encode(body)

    def _log_exposure(
        self,
        version: LoadedVersion,
        request: SearchRequest,
        assignment: Assignment,
        answer: EncodedAnswer,
        context: RequestContext,
    ) -> None:
        """Logs the hits of an answer that are shown."""
        item_ids = list(answer.item_ids[: request.shown])
        if not item_ids:
            return
        placements = answer.placements[: len(item_ids)] or [Placement(propensity=1.0)] * len(item_ids)
        interleaved_items = [placement.source for placement in placements if placement.source]
        self._events.record(
            ExposureRecord(
                context.request_id,
                time.time(),
                request.query,
                item_ids,
                first_position=answer.first_position,
                user_id=request.user_id,
                session_id=request.session_id,
                version=version.name,
                arm=assignment.arm,
                assignments=assignment.arms,
                explored=[placement.explored for placement in placements],
                propensities=[placement.propensity for placement in placements],
                teams=[item.team for item in interleaved_items] or None,
                ranks_a=[item.rank_a for item in interleaved_items] or None,
                ranks_b=[item.rank_b for item in interleaved_items] or None,
            )
        )

    def _arm_name(self, requested_name: str | None, version: LoadedVersion) -> str | None:
        """The arm under which `version` answers: the requested one, or any that serves it."""
        arms = self._models.arms
        if requested_name in arms:
            return requested_name
        return next((arm for arm, arm_version in arms.items() if arm_version is version), None)


class _EncodedOutcome(msgspec.Struct, frozen=True):
    """A `BatchOutcome` whose answer is JSON already."""

    answer: msgspec.Raw
    error: None = None


class _EncodedBatch(msgspec.Struct, frozen=True):
    """A `BatchAnswer` of such outcomes."""

    request_id: str
    outcomes: list[_EncodedOutcome | BatchOutcome]


def _run_batch(key: _BatchKey, jobs: Sequence[Any]) -> Sequence[Any]:
    """The result of each job: the answers of a `_SearchJob`, or the vectors of an `EmbedRequest`."""
    if key.task == "embed":
        return [_embed(key.version, request) for request in jobs]
    return _search_jobs(key.version, jobs)


def _search_jobs(version: LoadedVersion, jobs: Sequence[_SearchJob]) -> Sequence[Sequence[Answer | MmseError]]:
    """The answers of each job's searches, from one call of the retriever."""
    searches = [search for job in jobs for search in job.searches if isinstance(search, Search)]
    spans: list[Span] = []

    def watch(name: str, seconds: float) -> None:
        spans.append(Span(name, time.perf_counter() - seconds, seconds))

    earlier_lookups = version.retriever.lookups
    answers = iter(version.retriever.answers(searches, watch))
    lookups = version.retriever.lookups
    metrics.query_cache.labels("hit").inc(lookups.hits - earlier_lookups.hits)
    metrics.query_cache.labels("miss").inc(lookups.misses - earlier_lookups.misses)
    for span in spans:
        metrics.spans[span.name].observe(span.seconds)
    for job in jobs:
        job.context.spans.extend(spans)
    return [[next(answers) if isinstance(search, Search) else search for search in job.searches] for job in jobs]


def _embed(version: LoadedVersion, request: EmbedRequest) -> Float32[np.ndarray, "n width"]:
    users = [request.user_id] * len(request.queries)
    return version.retriever.query_vectors(request.queries, users, tuple(request.history or ()))


def _parse_search(request: SearchRequest, batch_version: str | None, version: LoadedVersion) -> Search | MmseError:
    """A search of a batch, or what is wrong with it."""
    if request.version != batch_version:
        return UsageError("The searches of a batch ask for different versions.", "Send one batch for each version.")
    try:
        return build_search(request, version.retriever.kinds)
    except MmseError as error:
        return error
