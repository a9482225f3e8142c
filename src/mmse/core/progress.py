"""How long-running work reports its progress."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with the name of a part of the work, how much of it is done, and how much there is in all."""


def silent(part: str, n_done: int, n_total: int) -> None:
    """Reports to nobody."""
