"""Kinds of simulated shops by name: how each differs from the plain shop, in what its log can teach and what misleads.

A preset changes a few fields of `ShopKind`; several presets together change the fields of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from mmse.core.config import require

EngineKind = Literal["words", "popularity", "mix", "model"]


@dataclass(frozen=True)
class ShopKind:
    """The plain shop, and what may differ from it.

    Without `has_attribute_columns` category, brand, colour and material stand in titles alone. Of a share of concepts,
    `split_words`, sellers hardly use the shoppers' names. `photo_lure` (log odds per unit of looks) is added to a click
    and taken from an order. `engine` finds the candidates. `fashion` is the length of a taste that all shoppers share
    and that turns, as their own taste does; `season` (log odds) is the swing of demand and of materials over the year.
    `sold_out` is the share of items that sell out, those that sell best sooner where `sells_best_first`; `arrival` is
    the share of items that arrive during the log.
    """

    has_attribute_columns: bool = True
    split_words: float = 0.0
    photo_lure: float = 0.0
    engine: EngineKind = "words"
    fashion: float = 0.0
    season: float = 0.0
    sold_out: float = 0.05
    sells_best_first: bool = False
    arrival: float = 0.15

    @property
    def has_calendar(self) -> bool:
        """Whether preferences change with the days."""
        return self.fashion > 0 or self.season > 0


PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "titles_alone": {"has_attribute_columns": False},
    "other_words": {"split_words": 0.8},
    "misleading_photos": {"photo_lure": 2.0},
    "popularity_engine": {"engine": "popularity"},
    "mixed_engine": {"engine": "mix"},
    "model_engine": {"engine": "model"},
    "fashions": {"fashion": 1.5},
    "seasons": {"season": 1.5},
    "short_stock": {"sold_out": 0.5, "sells_best_first": True, "arrival": 0.4},
}


def kind_of(presets: Sequence[str]) -> ShopKind:
    """The kind of shop that the presets make together.

    Raises `ValueError` for an unknown name, and where two of them change the same.
    """
    changes: dict[str, Any] = {}
    for name in presets:
        require(name in PRESETS, "presets", list(presets), f"names among {', '.join(PRESETS)}")
        require(
            not changes.keys() & PRESETS[name].keys(), "presets", list(presets), "presets that change different things"
        )
        changes |= PRESETS[name]
    return ShopKind(**changes)
