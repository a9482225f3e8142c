"""How long work reports how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with the name of a part of the work, how much of it is done, and how much there is."""


def silent(part: str, done: int, total: int) -> None:
    """Reports to nobody."""
