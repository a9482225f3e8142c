"""What a recipe is: a value that says how a batch becomes a loss, over the same towers and batches as any other."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from torch import Tensor

from mmse.core.config import require
from mmse.core.errors import UsageError
from mmse.schema.stages import Stage

Objective: TypeAlias = Callable[[Any, "Recipe"], Tensor]
"""A loss as a pure function of `objectives.Scored` and the recipe that chose it; a scalar."""

Read: TypeAlias = Literal["retrieved", "unclicked", "clicked", "carted", "ordered"]

OBJECTIVES: dict[str, Objective] = {}
"""The losses that a recipe may name; `objective` adds one."""

_OWN_COMPARISON = ("hinge", "thresholds", "multi_positive")  # built-in losses that choose their negatives themselves


def objective(name: str) -> Callable[[Objective], Objective]:
    """Decorates a loss of one's own, so that a recipe may name it; `UsageError` where the name is another's."""

    def named(function: Objective) -> Objective:
        there = OBJECTIVES.get(name)
        if there is not None and _written_at(there) != _written_at(function):
            raise UsageError(
                f"The loss '{name}' of {_written_at(function)} has the name of {_written_at(there)}.", "Rename it."
            )
        OBJECTIVES[name] = function
        return function

    return named


@dataclass(frozen=True)
class StageWeights:
    """α: how much an item of each stage teaches as a positive. Random items, which nobody met, teach nothing."""

    retrieved: float = 0.0
    unclicked: float = 0.0
    clicked: float = 1.0
    carted: float = 3.0
    ordered: float = 7.0

    def __post_init__(self) -> None:
        for stage in fields(self):
            require(getattr(self, stage.name) >= 0, stage.name, getattr(self, stage.name), "0 or more")
        require(any(self.by_stage), "stage_weights", self.by_stage, "at least one weight above 0")

    @property
    def by_stage(self) -> tuple[float, ...]:
        """The weights in the order of `Stage`, 0 for random items first."""
        return (0.0, self.retrieved, self.unclicked, self.clicked, self.carted, self.ordered)

    @property
    def unclicked_teach(self) -> bool:
        """Whether a request teaches something though nobody clicked."""
        return self.retrieved > 0 or self.unclicked > 0


@dataclass(frozen=True)
class HardNegatives:
    """Negatives from the pool that score highest for a request, added to what each of its items is compared with.

    `n` of them, each with the weight of `weight` drawn items. What scores above the share `guard` of the positive's
    own score is left out, since it may well be as good (0: nothing is; NV-Retriever, arXiv 2407.15831, there
    TopK-PercPos). `mix` is the interval of α in α · positive + (1 − α) · negative, by which they are moved towards the
    positive (MGDSPR, KDD 2021); (0, 0) leaves them as they are.
    """

    n: int = 0
    weight: float = 1.0
    guard: float = 0.95
    mix: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        require(self.n >= 0, "hard.n", self.n, "0 or more")
        require(self.weight > 0, "hard.weight", self.weight, "more than 0")
        require(0 <= self.guard <= 1, "hard.guard", self.guard, "a share between 0 and 1, 0 for no guard")
        low, high = self.mix
        require(0 <= low <= high < 1, "hard.mix", self.mix, "two shares, the lower one first, both below 1")


@dataclass(frozen=True)
class Thresholds:
    """Where the three-part hinge wants scores: ordered above, shown and not ordered below, random below."""

    ordered: float = 0.9
    shown: float = 0.55
    random: float = 0.2


@dataclass(frozen=True)
class Recipe:
    """How a batch becomes a loss; the symbols are those of `objectives`.

    What is learned from: `reads` are the stages that are told apart. An item counts as the highest of them that it
    reached, so that an order is a click to a recipe that reads no orders; below the lowest it is not there at all.
    `stage_weights` are α.

    What an item is compared with: the pool holds `n_random` uniform random items and, by `in_batch`, the other
    requests' items (`shown`), only those clicked or better (`clicked`), or none of them. `logq` corrects for how often
    an item is drawn; `mask_reached` takes out of a request's negatives what its query reached elsewhere in the batch.
    By `own_negatives` the request's own items of any lower stage (`lower`) join the pool, or what was not clicked
    joins it for what was (`unclicked`). `hard` adds hard negatives.

    How: `retrieval` and `ranking` name losses in `OBJECTIVES`; `temperature` is τ, `margin` and `thresholds` are those
    of the hinges. `rank_weight` is λ, 0 for no ranking loss; `rank_margin`, `rank_temperature` are m and τ_r;
    `rank_from` is the lowest stage that takes part in pairs, `use_examination` whether ω counts.

    What is known beside the batch: with `reformulations` a request that took nothing has clicked what its shopper's
    next one took, in other words. With `expected_orders` whatever was clicked or ordered weighs what a click on it is
    worth in orders, α_clicked + (α_ordered − α_clicked) · P(order | click), by a regression on the item's numbers:
    orders are few, and their expectation is there for every click. `conversion` times τ times the log odds of that
    regression joins the score as a view of one number (see `conversion.Conversion`; 0 for none); no loss sees it.

    Beside that: `view_weight` times the retrieval loss of each view alone is added, so that no view leans on another;
    `learn_temperature` makes τ and τ_r parameters that start at these values; `uncertainty` weighs the two
    losses by what training learns of their noise (Kendall et al., CVPR 2018), starting at 1 and λ; `matryoshka` adds
    the same losses for the first so many dimensions of each view (Kusupati et al., NeurIPS 2022).
    """

    retrieval: str = "softmax"
    ranking: str = "pairs"
    reads: tuple[Read, ...] = ("unclicked", "clicked", "carted", "ordered")
    temperature: float = 0.05
    stage_weights: StageWeights = StageWeights()
    n_random: int = 1024
    in_batch: Literal["none", "clicked", "shown"] = "clicked"
    logq: bool = False
    mask_reached: bool = False
    own_negatives: Literal["none", "unclicked", "lower"] = "none"
    hard: HardNegatives = HardNegatives()
    margin: float = 0.1
    thresholds: Thresholds = Thresholds()
    rank_weight: float = 0.3
    rank_margin: float = 0.1
    rank_temperature: float = 0.1
    rank_from: Literal["retrieved", "unclicked"] = "unclicked"
    use_examination: bool = True
    reformulations: bool = False
    expected_orders: bool = False
    conversion: float = 0.0
    view_weight: float = 0.0
    learn_temperature: bool = False
    uncertainty: bool = False
    matryoshka: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for key in ("retrieval", "ranking"):
            close = difflib.get_close_matches(getattr(self, key), OBJECTIVES, n=1)
            nearest = f" (did you mean '{close[0]}'?)" if close else ""
            known = f"one of {', '.join(OBJECTIVES)}{nearest}"
            require(getattr(self, key) in OBJECTIVES, key, getattr(self, key), known)
        require(self.temperature > 0, "temperature", self.temperature, "more than 0")
        require(self.rank_weight >= 0, "rank_weight", self.rank_weight, "0 or more")
        require(self.rank_temperature > 0, "rank_temperature", self.rank_temperature, "more than 0")
        for key in ("conversion", "view_weight"):
            require(getattr(self, key) >= 0, key, getattr(self, key), "0 or more")
        self._check_stages()
        self._check_negatives()
        self._check_additions()

    @property
    def read_as(self) -> tuple[Stage, ...]:
        """What each stage, in the order of `Stage`, counts as to this recipe."""
        read = [Stage[name.upper()] for name in self.reads]
        return tuple(max((r for r in read if r <= stage), default=Stage.RANDOM) for stage in Stage)

    @property
    def lowest_row(self) -> Stage:
        """The lowest stage whose rows a batch may hold; what was retrieved only has none unless the recipe reads it."""
        return Stage.RETRIEVED if "retrieved" in self.reads else Stage.UNCLICKED

    def _check_stages(self) -> None:
        twice = len(set(self.reads)) < len(self.reads)
        require(not twice, "reads", list(self.reads), "each stage once")
        teaches = any(getattr(self.stage_weights, name) > 0 for name in self.reads)
        require(teaches, "reads", list(self.reads), "at least one stage whose weight is above 0")
        if self.rank_from == "retrieved" or self.stage_weights.retrieved > 0:
            needed = "'retrieved' among them, where rank_from or a weight asks for it"
            require("retrieved" in self.reads, "reads", list(self.reads), needed)

    def _check_negatives(self) -> None:
        require(self.n_random >= 0, "n_random", self.n_random, "0 or more")
        some = self.n_random > 0 or self.in_batch != "none"
        require(some, "in_batch", self.in_batch, "'clicked' or 'shown' where n_random is 0: a loss needs negatives")
        if self.retrieval in _OWN_COMPARISON:
            without = f"left out: the loss '{self.retrieval}' chooses its negatives itself"
            require(self.own_negatives == "none", "own_negatives", self.own_negatives, without)
            require(self.hard.n == 0, "hard.n", self.hard.n, without)

    def _check_additions(self) -> None:
        if self.expected_orders or self.conversion > 0:
            needed = "'clicked' and 'ordered' among them, where expected_orders or conversion asks for both"
            require({"clicked", "ordered"} <= set(self.reads), "reads", list(self.reads), needed)
        if self.retrieval == "multi_positive":
            without = "left out: the loss 'multi_positive' weighs stages, not items"
            require(not self.expected_orders, "expected_orders", self.expected_orders, without)
        if self.retrieval in ("hinge", "thresholds"):
            without = f"left out: the loss '{self.retrieval}' has no temperature"
            require(not self.learn_temperature, "learn_temperature", self.learn_temperature, without)
        both = "a recipe with a ranking loss: two losses to weigh"
        require(not self.uncertainty or self.rank_weight > 0, "uncertainty", self.uncertainty, both)
        widths = list(self.matryoshka)
        require(widths == sorted(set(widths)) and min(widths, default=1) >= 1, "matryoshka", widths, "rising widths")


def _written_at(function: Objective) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
