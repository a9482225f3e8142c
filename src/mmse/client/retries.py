"""When a call is tried again, and how long a caller waits for that."""

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

_REFUSED = frozenset({429, 503})
"""Statuses of a server that did nothing and may do it a little later."""

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a call may take, all tries and pauses together, and how often it is tried again."""

    timeout_s: float
    retries: int

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise UsageError(f"timeout_s is {self.timeout_s}.", "Give the seconds that a call may take, such as 5.")
        if self.retries < 0:
            raise UsageError(f"retries is {self.retries}.", "Give 0 for no second try, or more.")


class Tries:
    """The tries of one call: how much time is left, and whether there is another."""

    def __init__(self, patience: Patience) -> None:
        self._until = time.monotonic() + patience.timeout_s
        self._left = patience.retries
        self._longest_s = _FIRST_PAUSE_S

    def left_s(self) -> float:
        """Seconds until the call must be over; a little more than none, since httpx takes 0 for a mistake."""
        return max(self._until - time.monotonic(), 0.001)

    def pause_s(self, call: Call[Any], reply: httpx.Response | httpx.HTTPError) -> float | None:
        """Seconds to wait before the next try; None where there is none and the reply counts."""
        if not call.repeatable or self._left == 0 or not _may_pass(reply):
            return None
        self._left -= 1
        pause_s = retry_after_s(reply) if isinstance(reply, httpx.Response) else None
        if pause_s is None:
            pause_s = random.uniform(self._longest_s / 2, self._longest_s)  # noqa: S311 - spreads clients, keeps no secret
            self._longest_s = min(self._longest_s * 2, _LONGEST_PAUSE_S)
        return pause_s if pause_s < self._until - time.monotonic() else None


def retry_after_s(response: httpx.Response) -> float | None:
    """Seconds from now that `Retry-After` asks for (a number or a date); None where it is missing or unreadable."""
    said = response.headers.get("Retry-After", "")
    if said.strip().isdecimal():
        return float(said)
    try:
        moment = email.utils.parsedate_to_datetime(said)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max((moment - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)


def _may_pass(reply: httpx.Response | httpx.HTTPError) -> bool:
    if isinstance(reply, httpx.Response):
        return reply.status_code in _REFUSED
    return isinstance(reply, httpx.TransportError) and not isinstance(reply, httpx.TimeoutException)
