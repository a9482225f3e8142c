"""What a log teaches and what it cannot, in three lines: each log learns what it can, and says what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

ENOUGH_POSITIONS = 2
NO_LOG = (
    "No log: the model is adapted to the catalogue's own words; nothing is measured.",
    "Not learned: which items fit a query; what shoppers like; how likely a click is; who looks at which position.",
    "For these, serve the run from a site, log what it shows (docs/your_shop.md), and name that log in [events].",
)
"""The three lines of a shop without a log."""


@dataclass(frozen=True)
class LogTotals:
    """How much a log has of what is learned from. `n_clicked` and `n_ordered` are items of requests.

    `n_unclicked` counts shown items that nobody clicked, `n_explored` clicks in slots that were filled at random.
    """

    n_users: int
    n_shown: int
    n_unclicked: int
    n_clicked: int
    n_ordered: int
    n_explored: int
    n_positions: int
    n_requests: int = 0
    n_queries: int = 0


class Lesson(NamedTuple):
    """Something that a log may teach, whether it does, and if not: why, and what to log for it."""

    subject: str
    is_learned: bool
    obstacle: str
    wish: str = ""


def lessons(totals: LogTotals) -> list[str]:
    """Three lines: what is learned, what cannot be, and what to log for the rest."""
    all_lessons = _all_lessons(totals)
    subjects = [lesson.subject for lesson in all_lessons if lesson.is_learned]
    gaps = [f"{lesson.subject} ({lesson.obstacle})" for lesson in all_lessons if not lesson.is_learned]
    wishes = dict.fromkeys(lesson.wish for lesson in all_lessons if lesson.wish and not lesson.is_learned)
    return [
        f"Learned: {'; '.join(subjects) or 'nothing'}.",
        f"Not learned: {'; '.join(gaps) or 'nothing is missing'}.",
        f"For the rest, log {'; '.join(wishes)}." if wishes else "The log has all that can be learned from.",
    ]


def _all_lessons(totals: LogTotals) -> list[Lesson]:
    takes = totals.n_clicked + totals.n_ordered > 0
    compares = totals.n_unclicked > 0 and takes
    pages = "every item that a request showed, with its position"
    several = totals.n_positions >= ENOUGH_POSITIONS
    return [
        Lesson("which items fit a query", takes, "nothing was clicked or ordered", "clicks and orders"),
        Lesson("how likely a click is", compares, "no shown item was left unclicked", pages),
        Lesson("who looks at which position", compares and several, "it takes unclicked items and positions", pages),
        Lesson("orders apart from clicks", totals.n_ordered > 0, "the log has no order", "orders"),
        Lesson("what a shopper likes", totals.n_users > 0, "no row has a user_id", "a user_id"),
        Lesson(
            "what the old engine hid",
            totals.n_explored > 0,
            "no slot was filled at random",
            "a few slots filled at random (explored)",
        ),
    ]
