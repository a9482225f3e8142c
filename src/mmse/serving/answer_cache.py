"""Answers that a worker keeps, so that a search that comes again costs no more than sending its answer.

An answer is kept as the JSON of its hits and facets, with what its exposure is logged from. All answers of a cache are
of one state of the catalogue and of its rules (`Retriever.state`): with another state it begins anew. Searches for a
shopper are not kept, nor those whose slots an experiment fills by request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import msgspec

from mmse.experiment.assignment import Arm
from mmse.schema.filters import Filter
from mmse.schema.http import SearchAnswer, SearchRequest
from mmse.serving.experiment_arms import Placement

LARGEST_SHARE = 0.05
"""No answer takes more of the cache than this."""
_ENTRY_BYTES = 1_000
"""What an answer takes besides its JSON, about."""
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class EncodedAnswer:
    """An answer that can be sent under any request id: in `answer` hits and facets are JSON already.

    `item_ids` are those of the hits, the first at `first_position`; `placements` say how each came to its slot, where
    an experiment changed their order. `seconds` is what it took to find them, `n_bytes` the size of the JSON.
    """

    answer: SearchAnswer
    item_ids: Sequence[str]
    first_position: int
    placements: Sequence[Placement]
    seconds: float
    n_bytes: int

    @classmethod
    def of(cls, answer: SearchAnswer, placements: Sequence[Placement], seconds: float) -> EncodedAnswer:
        """`answer` with its hits and facets as JSON."""
        hits, facets = _encoder.encode(answer.hits), _encoder.encode(answer.facets)
        return cls(
            # an encoder writes a Raw as it is
            answer=msgspec.structs.replace(answer, hits=msgspec.Raw(hits), facets=msgspec.Raw(facets)),
            item_ids=[hit.item_id for hit in answer.hits],
            first_position=answer.hits[0].rank if answer.hits else 1,
            placements=placements,
            seconds=seconds,
            n_bytes=len(hits) + len(facets),
        )


def answer_key(request: SearchRequest, arm: Arm, condition: Filter | None) -> Hashable | None:
    """What requests with one answer have in common; None where the answer is for this request alone."""
    is_personal = request.user_id is not None or bool(request.history)
    if is_personal or arm.interleave is not None or arm.explore is not None:
        return None
    common = msgspec.structs.replace(request, version=None, session_id=None, shown=None, timeout_ms=None)
    return _encoder.encode(common), arm.channel, condition


@final
class AnswerCache:
    """The answers of one version, at most `capacity` bytes of them; the least recently used one goes first.

    It is for one thread, the event loop's.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._state: Hashable = None
        self._answers: OrderedDict[Hashable, EncodedAnswer] = OrderedDict()
        self._n_bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: Hashable, state: Hashable) -> EncodedAnswer | None:
        """The answer that was kept of `key` in this `state`, or None."""
        if state != self._state:
            self._begin(state)
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: Hashable, state: Hashable, answer: EncodedAnswer) -> None:
        """Keeps `answer`, which was found while the `state` was this one from beginning to end."""
        n_bytes = answer.n_bytes + _ENTRY_BYTES
        if n_bytes > LARGEST_SHARE * self._capacity:
            return
        if state != self._state:
            self._begin(state)
        former = self._answers.pop(key, None)
        self._n_bytes += n_bytes - (former.n_bytes + _ENTRY_BYTES if former else 0)
        self._answers[key] = answer
        while self._n_bytes > self._capacity:
            _, oldest = self._answers.popitem(last=False)
            self._n_bytes -= oldest.n_bytes + _ENTRY_BYTES

    def _begin(self, state: Hashable) -> None:
        self._answers.clear()
        self._n_bytes, self._state = 0, state
