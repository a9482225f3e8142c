"""Recipes: a name for what is learned from a batch. A recipe is a value, over the same towers and batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mmse.config import require


@dataclass(frozen=True)
class Recipe:
    """How a batch becomes a loss; the symbols are those of `objectives`.

    `stage_weights` are α for unclicked, clicked and ordered items. The pool of negatives holds `n_random`
    uniform random items and, by `in_batch`, the other requests' items (`shown`), only those clicked or ordered
    (`clicked`), or none of them. `logq` corrects for how often an item is drawn; `mask_reached` takes out of a
    request's negatives what its query reached elsewhere in the batch. `rank_weight` is λ.
    """

    temperature: float = 0.05
    stage_weights: tuple[float, float, float] = (0.0, 1.0, 7.0)
    n_random: int = 1024
    in_batch: Literal["none", "clicked", "shown"] = "clicked"
    logq: bool = False
    mask_reached: bool = False
    rank_weight: float = 0.3
    rank_margin: float = 0.1
    rank_temperature: float = 0.1

    def __post_init__(self) -> None:
        require(self.temperature > 0, "temperature", self.temperature, "more than 0")
        weights = self.stage_weights
        good = len(weights) == 3 and all(w >= 0 for w in weights) and max(weights) > 0
        require(good, "stage_weights", weights, "three weights >= 0 (unclicked, clicked, ordered), not all 0")
        require(self.n_random >= 0, "n_random", self.n_random, "0 or more")
        some = self.n_random > 0 or self.in_batch != "none"
        require(some, "in_batch", self.in_batch, "'clicked' or 'shown' where n_random is 0: a loss needs negatives")
        require(self.rank_weight >= 0, "rank_weight", self.rank_weight, "0 or more")
        require(self.rank_temperature > 0, "rank_temperature", self.rank_temperature, "more than 0")


RECIPES: dict[str, Recipe] = {
    # Wang et al., Learning Multi-Stage Multi-Grained Semantic Embeddings for E-Commerce Search, WWW 2023, in our
    # reading: the paper's weights, temperature and λ are not published with the abstract.
    # The formula's logQ correction and false-negative masks are off: against a uniform catalogue the model learns what
    # the engine chose to show, against what others clicked it learns taste (docs/log.md has the measurements).
    "mmse": Recipe(),
    # The same with the formula as it is written.
    "mmse_logq": Recipe(in_batch="shown", logq=True, mask_reached=True),
    # Huang et al., Learning Deep Structured Semantic Models for Web Search using Clickthrough Data, CIKM 2013:
    # softmax of clicked-or-ordered items. Where we differ: the negatives are the batch's, not four random items.
    "dssm": Recipe(
        stage_weights=(0.0, 1.0, 1.0), n_random=0, in_batch="clicked", logq=False, mask_reached=False, rank_weight=0.0
    ),
}
