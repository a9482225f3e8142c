"""One request on its way through the server: its id, when it came in, and how long each stage took."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmse.serving.observability.tracing import Stage


@dataclass(frozen=True)
class Call:
    """`began` is on the clock of `time.perf_counter`; the lane adds to `stages` what it did for it."""

    request_id: str
    began: float
    stages: list[Stage] = field(default_factory=list)
