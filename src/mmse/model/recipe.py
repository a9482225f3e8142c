"""What a recipe is: a value that says how a batch becomes a loss. All recipes use the same towers and batches."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias

from torch import Tensor

from mmse.core.config import require
from mmse.core.errors import UsageError
from mmse.schema.stages import Stage

Objective: TypeAlias = Callable[[Any, "Recipe"], Tensor]
"""A loss: a pure function of `objectives.BatchScores` and the recipe that names it. Returns a scalar."""

StageName: TypeAlias = Literal["retrieved", "unclicked", "clicked", "carted", "ordered"]

OBJECTIVES: dict[str, Objective] = {}
"""The losses that a recipe may name; `objective` adds one."""

_WITHOUT_OWN_NEGATIVES = ("hinge", "thresholds", "multi_positive")
"""Built-in losses that choose their negatives themselves, so that `own_negatives` and `hard` do not apply."""


def objective(name: str) -> Callable[[Objective], Objective]:
    """Decorates a loss, so that recipes can name it; raises `UsageError` where another loss has the name."""

    def register(function: Objective) -> Objective:
        former = OBJECTIVES.get(name)
        if former is not None and _qualified_name(former) != _qualified_name(function):
            raise UsageError(
                f"The loss '{name}' of {_qualified_name(function)} has the name of {_qualified_name(former)}.",
                "Rename it.",
            )
        OBJECTIVES[name] = function
        return function

    return register


@dataclass(frozen=True)
class StageWeights:
    """α: the weight of an item of each stage as a positive. Random items, which nobody saw, have weight 0."""

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
        """The weights in the order of `Stage`, which starts with 0 for random items."""
        return (0.0, self.retrieved, self.unclicked, self.clicked, self.carted, self.ordered)

    @property
    def teaches_without_click(self) -> bool:
        """Whether a request without a click teaches something."""
        return self.retrieved > 0 or self.unclicked > 0


@dataclass(frozen=True)
class HardNegatives:
    """Hard negatives: the items of the pool that score highest for a request, as further negatives of its items.

    There are `n` of them, and each weighs as much as `weight` drawn items. An item that scores above the share `guard`
    of the positive's own score is left out, since it may be as good as the positive (NV-Retriever, arXiv 2407.15831,
    TopK-PercPos there); 0 leaves none out. `mix` is the interval of α in α · positive + (1 − α) · negative, which moves
    the negatives towards the positive (MGDSPR, KDD 2021); (0, 0) leaves them unchanged.
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
    """The limits of the loss `thresholds`: ordered items score above, items only shown and random ones below."""

    ordered: float = 0.9
    shown: float = 0.55
    random: float = 0.2


@dataclass(frozen=True)
class Recipe:
    """How a batch becomes a loss; the symbols are those of `objectives`.

    Positives: `reads` are the stages that the recipe distinguishes. An item counts as the highest of them that it
    reached, so an order counts as a click for a recipe that does not read orders; an item below the lowest of them is
    dropped. `stage_weights` are α.

    Negatives: the pool holds `n_random` uniform random items and, by `in_batch`, all items of the other requests
    (`shown`), only those clicked or better (`clicked`), or none. `logq` corrects for how often an item is drawn;
    `mask_reached` removes from a request's negatives the items that its query reached elsewhere in the batch.
    `own_negatives` adds the request's own items of lower stages (`lower`), or for clicked items those that were not
    clicked (`unclicked`). `hard` adds hard negatives.

    Losses: `retrieval` and `ranking` name losses in `OBJECTIVES`; `temperature` is τ, `margin` and `thresholds` are
    those of the hinges. `rank_weight` is λ, 0 for no ranking loss; `rank_margin`, `rank_temperature` are m and τ_r;
    `rank_from` is the lowest stage that takes part in pairs, `use_examination` says whether ω counts.

    Knowledge from outside the batch: with `reformulations`, a request without a click or an order gets as clicks the
    items that the shopper took after the next, reworded request. With `expected_orders`, an item that was clicked or
    ordered has the weight α_clicked + (α_ordered − α_clicked) · P(order | click), from a regression on the item's
    numbers: orders are few, and this gives every click its expected orders. `conversion` times τ times the log odds of
    that regression is added to the score as a view of one number (see `conversion.Conversion`; 0 for none); no loss
    sees it.

    Further options: `view_weight` times the retrieval loss of each view alone is added, so that no view depends on
    another; `learn_temperature` makes τ and τ_r parameters that start at these values; `uncertainty` weighs the two
    losses by their learned noise (Kendall et al., CVPR 2018), starting at 1 and λ; `matryoshka` adds the same losses
    for the leading dimensions of each view, once per width (Kusupati et al., NeurIPS 2022).
    """

    retrieval: str = "softmax"
    ranking: str = "pairs"
    reads: tuple[StageName, ...] = ("unclicked", "clicked", "carted", "ordered")
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
            options = f"one of {', '.join(OBJECTIVES)}{nearest}"
            require(getattr(self, key) in OBJECTIVES, key, getattr(self, key), options)
        require(self.temperature > 0, "temperature", self.temperature, "more than 0")
        require(self.rank_weight >= 0, "rank_weight", self.rank_weight, "0 or more")
        require(self.rank_temperature > 0, "rank_temperature", self.rank_temperature, "more than 0")
        for key in ("conversion", "view_weight"):
            require(getattr(self, key) >= 0, key, getattr(self, key), "0 or more")
        self._check_stages()
        self._check_negatives()
        self._check_additions()

    def aim(self, goal: float) -> Recipe:
        """The recipe for a shop that wants clicks (`goal` 0), orders (1), or something between.

        What a cart and an order weigh beside a click, and the conversion, go with the goal.
        """
        weights = self.stage_weights
        carted, ordered = (
            weights.clicked + goal * (weight - weights.clicked) for weight in (weights.carted, weights.ordered)
        )
        aimed_weights = replace(weights, carted=carted, ordered=ordered)
        return replace(self, stage_weights=aimed_weights, conversion=goal * self.conversion)

    @property
    def stage_map(self) -> tuple[Stage, ...]:
        """The stage that each stage, in the order of `Stage`, counts as in this recipe."""
        stages = [Stage[name.upper()] for name in self.reads]
        return tuple(max((r for r in stages if r <= stage), default=Stage.RANDOM) for stage in Stage)

    @property
    def lowest_stage(self) -> Stage:
        """The lowest stage whose rows a batch may hold: `RETRIEVED` only where the recipe reads it."""
        return Stage.RETRIEVED if "retrieved" in self.reads else Stage.UNCLICKED

    def _check_stages(self) -> None:
        has_repeats = len(set(self.reads)) < len(self.reads)
        require(not has_repeats, "reads", list(self.reads), "each stage once")
        teaches = any(getattr(self.stage_weights, name) > 0 for name in self.reads)
        require(teaches, "reads", list(self.reads), "at least one stage whose weight is above 0")
        if self.rank_from == "retrieved" or self.stage_weights.retrieved > 0:
            expectation = "'retrieved' among them, where rank_from or a weight asks for it"
            require("retrieved" in self.reads, "reads", list(self.reads), expectation)

    def _check_negatives(self) -> None:
        require(self.n_random >= 0, "n_random", self.n_random, "0 or more")
        has_negatives = self.n_random > 0 or self.in_batch != "none"
        require(
            has_negatives, "in_batch", self.in_batch, "'clicked' or 'shown' where n_random is 0: a loss needs negatives"
        )
        if self.retrieval in _WITHOUT_OWN_NEGATIVES:
            expectation = f"left out: the loss '{self.retrieval}' chooses its negatives itself"
            require(self.own_negatives == "none", "own_negatives", self.own_negatives, expectation)
            require(self.hard.n == 0, "hard.n", self.hard.n, expectation)

    def _check_additions(self) -> None:
        if self.expected_orders or self.conversion > 0:
            expectation = "'clicked' and 'ordered' among them, where expected_orders or conversion asks for both"
            require({"clicked", "ordered"} <= set(self.reads), "reads", list(self.reads), expectation)
        if self.retrieval == "multi_positive":
            expectation = "left out: the loss 'multi_positive' weighs stages, not items"
            require(not self.expected_orders, "expected_orders", self.expected_orders, expectation)
        if self.retrieval in ("hinge", "thresholds"):
            expectation = f"left out: the loss '{self.retrieval}' has no temperature"
            require(not self.learn_temperature, "learn_temperature", self.learn_temperature, expectation)
        expectation = "a recipe with a ranking loss: two losses to weigh"
        require(not self.uncertainty or self.rank_weight > 0, "uncertainty", self.uncertainty, expectation)
        widths = list(self.matryoshka)
        require(widths == sorted(set(widths)) and min(widths, default=1) >= 1, "matryoshka", widths, "rising widths")


def _qualified_name(function: Objective) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
