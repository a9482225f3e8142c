"""The limits that a new version must keep: `[release]` of shop.toml."""

from __future__ import annotations

from dataclasses import dataclass

from mmse.core.config import require

_SHARES = (
    "max_items_gone",
    "max_repriced",
    "max_retitled",
    "max_emptied",
    "max_rejected",
    "max_day_share",
    "min_recall_share",
    "max_recall_loss",
    "max_calibration_error",
    "min_overlap",
    "min_answered",
)


@dataclass(frozen=True)
class ReleaseConfig:
    """`[release]` of shop.toml: what `mmse cycle` refuses to publish. All but the three ratios are shares from 0 to 1.

    Of the catalogue, against the version that is served: the share of its items that may be gone or no longer available
    (`max_items_gone`), how many may be new, as a ratio to the served ones (`max_items_new`), the share that may cost
    more than three times or less than a third (`max_repriced`), that may have another title (`max_retitled`), and by
    how much the share of items with a value of some column may fall (`max_emptied`). Of the log: the share of the rows
    since the last version that may be bad (`max_rejected`); the ratio of odds by which a day's clicks and orders may
    differ from the days before (`max_day_ratio`), and the share of a day from which one item, query or shopper is too
    many (`max_day_share`). Of the answers: the share that the new version finds, in its first 100, of what the served
    one's first 100 have of the test window's clicks and orders (`min_recall_share`); by how much its recall may fall
    below that of the version before it, in its own time (`max_recall_loss`, relative); the ratio of median search times
    (`max_latency_ratio`); the calibration error; the share of the first ten answers to frequent queries that stay
    (`min_overlap`), and of the frequent queries that have an answer still (`min_answered`).
    """

    max_items_gone: float = 0.2
    max_items_new: float = 2.0
    max_repriced: float = 0.1
    max_retitled: float = 0.5
    max_emptied: float = 0.3
    max_rejected: float = 0.1
    max_day_ratio: float = 5.0
    max_day_share: float = 0.25
    min_recall_share: float = 0.7
    max_recall_loss: float = 0.2
    max_latency_ratio: float = 2.0
    max_calibration_error: float = 0.15
    min_overlap: float = 0.1
    min_answered: float = 0.95

    def __post_init__(self) -> None:
        for name in _SHARES:
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a share from 0 to 1")
        for name in ("max_day_ratio", "max_latency_ratio"):
            require(getattr(self, name) > 1, name, getattr(self, name), "a ratio above 1")
        require(self.max_items_new > 0, "max_items_new", self.max_items_new, "a ratio above 0")
