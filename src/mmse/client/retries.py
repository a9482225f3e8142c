"""Whether a call is tried again, and how long the client waits before that."""

from __future__ import annotations

import datetime
import email.utils
import random
import time
from dataclasses import dataclass
from typing import Any

import httpx

from mmse.client.calls import Call
from mmse.core.errors import UsageError

_RETRY_STATUSES = frozenset({429, 503})
"""Statuses of a server that did nothing and may answer a little later."""

_MIN_PAUSE_S = 0.1
_MAX_PAUSE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How long a call may take with all attempts and pauses, and how often it is tried again."""

    timeout_s: float
    retries: int

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise UsageError(f"timeout_s is {self.timeout_s}.", "Give the seconds that a call may take, such as 5.")
        if self.retries < 0:
            raise UsageError(f"retries is {self.retries}.", "Give 0 for no second attempt, or more.")


class Attempts:
    """The attempts of one call: the time that is left, and whether there is another attempt."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._deadline = time.monotonic() + policy.timeout_s
        self._n_left = policy.retries
        self._max_pause_s = _MIN_PAUSE_S

    def remaining_s(self) -> float:
        """Seconds until the deadline; never 0, which httpx refuses."""
        return max(self._deadline - time.monotonic(), 0.001)

    def pause_s(self, call: Call[Any], reply: httpx.Response | httpx.HTTPError) -> float | None:
        """Seconds to wait before the next attempt; None where this reply is final."""
        if not call.is_repeatable or self._n_left == 0 or not _is_transient(reply):
            return None
        self._n_left -= 1
        pause_s = retry_after_s(reply) if isinstance(reply, httpx.Response) else None
        if pause_s is None:
            pause_s = random.uniform(self._max_pause_s / 2, self._max_pause_s)  # noqa: S311 - spreads clients, keeps no secret
            self._max_pause_s = min(self._max_pause_s * 2, _MAX_PAUSE_S)
        return pause_s if pause_s < self._deadline - time.monotonic() else None


def retry_after_s(response: httpx.Response) -> float | None:
    """Seconds from now that `Retry-After` asks for (a number or a date); None where it is missing or unreadable."""
    header = response.headers.get("Retry-After", "")
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max((moment - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)


def _is_transient(reply: httpx.Response | httpx.HTTPError) -> bool:
    if isinstance(reply, httpx.Response):
        return reply.status_code in _RETRY_STATUSES
    return isinstance(reply, httpx.TransportError) and not isinstance(reply, httpx.TimeoutException)
