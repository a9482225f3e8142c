"""The recipes by name: ours, those of other papers, ablations of ours, and a user's own.

Training, `mmse recipes` and `docs/recipes.md` all read `BUILT_IN`. Its notes on a paper are our reading of it:
equations use the symbols of `objectives`, and numbers that a paper does not give are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from mmse.core.config import build, plain_values
from mmse.core.plugins import import_object
from mmse.model.objectives import BatchScores
from mmse.model.recipe import OBJECTIVES, HardNegatives, Objective, Recipe, StageWeights, Thresholds, objective
from mmse.model.views import VIEWS

__all__ = [
    "ABLATIONS",
    "BUILT_IN",
    "OBJECTIVES",
    "RECIPES",
    "BatchScores",
    "BuiltInRecipe",
    "HardNegatives",
    "Objective",
    "Recipe",
    "StageWeights",
    "Thresholds",
    "objective",
    "override",
]


@dataclass(frozen=True)
class BuiltInRecipe:
    """A recipe and its source: the paper, its objective, and where we differ from it."""

    recipe: Recipe
    paper: str
    equation: str
    differs: str


_EQUAL_WEIGHTS = StageWeights(clicked=1.0, carted=1.0, ordered=1.0)

BUILT_IN: dict[str, BuiltInRecipe] = {
    "mmse": BuiltInRecipe(
        Recipe(
            stage_weights=StageWeights(carted=20.0, ordered=60.0),
            expected_orders=True,
            conversion=0.5,
            view_weight=1.0,
            reformulations=True,
            rank_weight=8.0,
            rank_margin=0.0,
            rank_temperature=0.05,
        ),
        "Ours, from the paper of mmse_paper",
        "L = L_ret + Σ_v L_ret(view v alone) + λ·L_rank,  α_i = 1 + 59·P(order | click on i);  "
        "served: s + τ/2·(log odds of an order after a click on i, less their mean)",
        "Four additions to mmse_paper, each with its line among the ablations: the expected orders of a click instead "
        "of the few orders themselves, a view of one number for how well an item sells after a click, a retrieval loss "
        "for every view alone, and the items taken after a reworded search as clicks of the search before it. The "
        "ranking loss weighs about as much as one of the retrieval losses.",
    ),
    "mmse_paper": BuiltInRecipe(
        Recipe(),
        "Wang et al., Learning Multi-Stage Multi-Grained Semantic Embeddings for E-Commerce Search, WWW 2023 "
        "Companion, arXiv 2303.11009",
        "L = L_ret + λ·L_rank;  "
        "L_ret = Σ_i α_{c(i)} · −log( e^{s_i/τ} / (e^{s_i/τ} + Σ_n e^{s_n/τ}) );  "
        "L_rank = Σ_i α_{c(i)} · mean_{a,b: c(a) > c(b)} ω_b · softplus( (m·(ℓ(a)−ℓ(b)) − (s_a−s_b)) / τ_r )",
        "Our reading of the abstract: weights, temperatures and λ are ours. log Q and the mask of what a query reached "
        "elsewhere are left out: with them the model learns which items the engine chose to show.",
    ),
    "mmse_logq": BuiltInRecipe(
        Recipe(in_batch="shown", logq=True, mask_reached=True),
        "The same paper as mmse_paper",
        "L_ret with e^{s_n/τ − log Q(n)} for every negative, over shown items of the batch and random ones",
        "The formula as we read it, with log Q and the mask.",
    ),
    "weighted_softmax": BuiltInRecipe(
        Recipe(stage_weights=StageWeights(carted=5.0, ordered=15.0), rank_weight=0.0),
        "No paper: the baseline that a graded objective has to beat",
        "Σ_i α_{c(i)} · −log( e^{s_i/τ} / (e^{s_i/τ} + Σ_n e^{s_n/τ}) ),  α: clicked 1, ordered 15",
        "Order weights of 3, 7, 15 and 30, each with and without log Q (Yi et al., RecSys 2019), were tried on a "
        "validation window of a shop that is in no table; log Q lost in every pair.",
    ),
    "dssm": BuiltInRecipe(
        Recipe(reads=("unclicked", "clicked"), stage_weights=_EQUAL_WEIGHTS, n_random=0, rank_weight=0.0),
        "Huang et al., Learning Deep Structured Semantic Models for Web Search using Clickthrough Data, CIKM 2013",
        "Σ_{i clicked} −log( e^{s_i/τ} / (e^{s_i/τ} + Σ_n e^{s_n/τ}) )",
        "The negatives are what the batch's other requests clicked, not four random items; an order counts as a click. "
        "Unclicked items are read only so that they are no negatives of the request that showed them.",
    ),
    "semantic_product_search": BuiltInRecipe(
        Recipe(
            retrieval="thresholds",
            reads=("unclicked", "ordered"),
            stage_weights=StageWeights(unclicked=1.0, clicked=1.0, carted=1.0, ordered=1.0),
            in_batch="none",
            rank_weight=0.0,
        ),
        "Nigam et al., Semantic Product Search, KDD 2019, arXiv 1907.00937",
        "Σ_ordered max(0, 0.9 − s)² + Σ_shown max(0, s − 0.55)² + Σ_random max(0, s − 0.2)²",
        "The similarity is the fused one, in [−1, 1]. Random items come as one pool of the batch, averaged and "
        "weighing as much as the request's own items together. Every request is trained on, also without an order. "
        "The towers are ours: no hashed n-grams of words beside the subwords.",
    ),
    "dpsr": BuiltInRecipe(
        Recipe(
            retrieval="hinge", reads=("unclicked", "clicked"), stage_weights=_EQUAL_WEIGHTS, margin=0.1, rank_weight=0.0
        ),
        "Zhang et al., Towards Personalized and Semantic Retrieval, SIGIR 2020, arXiv 2006.02282",
        "Σ_{i clicked} Σ_n max(0, δ − s_i + s_n),  δ = 0.1, n random and from the batch",
        "One score, fused by gates, in the place of query heads fused by an attention with a temperature; the mix of "
        "random and batch negatives is that of the pool, and the sum over it a mean.",
    ),
    "mgdspr": BuiltInRecipe(
        Recipe(
            reads=("unclicked", "clicked"),
            stage_weights=_EQUAL_WEIGHTS,
            rank_weight=0.0,
            hard=HardNegatives(n=32, guard=0.0, mix=(0.4, 0.6)),
        ),
        "Li et al., Embedding-based Product Retrieval in Taobao Search, KDD 2021, arXiv 2106.09297",
        "Σ_{i clicked} −log( e^{s_i/τ} / (e^{s_i/τ} + Σ_n e^{s_n/τ} + Σ_h e^{s(α·i + (1−α)·h)/τ}) ),  "
        "h the hardest of the pool, α in [0.4, 0.6]",
        "α is laid evenly over its interval, from the hardest negative on, in the place of a draw; the pool stands for "
        "the full softmax; τ, the interval and the number of hard negatives are ours; the query's six grains are our "
        "towers, and its click logs are not smoothed by relevance.",
    ),
    "moppr": BuiltInRecipe(
        Recipe(
            retrieval="multi_positive",
            reads=("unclicked", "clicked", "ordered"),
            rank_weight=0.0,
            stage_weights=StageWeights(unclicked=1.0, clicked=1.0, carted=0.0, ordered=1.0),
        ),
        "Zheng et al., Multi-Objective Personalized Product Retrieval in Taobao Search, 2022, arXiv 2210.04170",
        "Σ_{o: shown, clicked, ordered} γ_o · mean_{i: c(i) ≥ o} "
        "−log( e^{s_i/τ} / (e^{s_i/τ} + Σ_{j: c(j) < o} e^{s_j/τ} + Σ_n e^{s_n/τ}) )",
        "Three of its four objectives: relevance needs a model of its own. The γ are equal, which is ours.",
    ),
    "h_infonce": BuiltInRecipe(
        Recipe(own_negatives="lower", stage_weights=_EQUAL_WEIGHTS, rank_weight=0.0),
        "Xie et al., CroPS: Improving Dense Retrieval with Cross-Perspective Positive Samples in Short-Video Search, "
        "AAAI 2026, arXiv 2511.15443",
        "Σ_i −log( e^{s_i/τ} / (e^{s_i/τ} + Σ_{j: c(j) < c(i)} e^{s_j/τ} + Σ_n e^{s_n/τ}) )",
        "The levels are our stages, the lower items those of the same request; what was only shown is a negative and "
        "no positive. No positives from reformulated queries, recommendations or language models.",
    ),
}


class _Recipes(dict[str, Recipe]):
    """The built-in recipes; `module:NAME` is looked up in a user's module, which may be in the current folder."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (
            isinstance(name, str) and ":" in name and _import_recipe(name) is not None
        )

    def __missing__(self, name: str) -> Recipe:
        if ":" not in name:
            raise KeyError(name)
        return _import_recipe(name)


RECIPES: dict[str, Recipe] = _Recipes({name: entry.recipe for name, entry in BUILT_IN.items()})
"""The recipe of a name. Iterating gives the built-in names only; `module:NAME` can be looked up as well."""

ABLATIONS: dict[str, dict[str, Any]] = {
    "without_conversion": {"objective": {"conversion": 0.0}},
    "without_expected_orders": {
        "objective": {"expected_orders": False, "stage_weights": {"carted": 3.0, "ordered": 7.0}}
    },
    "without_view_losses": {"objective": {"view_weight": 0.0}},
    "without_reformulations": {"objective": {"reformulations": False}},
    "without_ranking": {"objective": {"rank_weight": 0.0}},
    "without_stage_weights": {
        "objective": {"expected_orders": False, "stage_weights": {"clicked": 1.0, "carted": 1.0, "ordered": 1.0}}
    },
    "with_unclicked": {"objective": {"stage_weights": {"unclicked": 0.1}}},
    "unclicked_as_negatives": {"objective": {"own_negatives": "unclicked"}},
    "without_random": {"objective": {"n_random": 0}},
    "with_logq": {"objective": {"logq": True}},
    "without_examination": {"objective": {"use_examination": False}},
    "with_retrieved": {
        "objective": {"reads": ["retrieved", "unclicked", "clicked", "carted", "ordered"], "rank_from": "retrieved"}
    },
    "pre_fusion": {"fusion": "pre"},
    **{f"{view}_only": {"views": [view], "vectors": False} for view in VIEWS},
    **{f"without_{view}": {"views": [name for name in VIEWS if name != view]} for view in VIEWS},
    "without_vectors": {"vectors": False},
    "learned_temperature": {"objective": {"learn_temperature": True}},
    "learned_weights": {"objective": {"uncertainty": True}},
    "matryoshka": {"objective": {"matryoshka": [16, 32]}},
    "hard_negatives": {"objective": {"hard": {"n": 16}}},
    "interpolated_negatives": {"objective": {"hard": {"n": 16, "mix": [0.4, 0.6]}}},
}
"""Changes to the recipe `mmse`, one idea each: keys of [train] that replace its values.

Where a value depends on another, both change: the weights without `expected_orders` are those that suit plain orders,
and without stage weights there are no expected orders either. With pre-fusion there are no views to train alone.
"""


def override(recipe: Recipe, overrides: Mapping[str, Any], section: str) -> Recipe:
    """`recipe` with single keys replaced, also inside tables: `{"stage_weights": {"ordered": 3}}` keeps the others.

    `section` names the part of shop.toml for messages. Raises `UsageError` as `config.build` does.
    """
    return build(Recipe, _merge(recipe, overrides, section), section)


def _merge(config: Any, overrides: Mapping[str, Any], section: str) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    values = plain_values(config) | dict(overrides)
    for field in fields(config):
        value, changes = getattr(config, field.name), overrides.get(field.name)
        if is_dataclass(value) and isinstance(changes, Mapping):
            subsection = f"{section} {field.name}"
            values[field.name] = plain_values(build(type(value), _merge(value, changes, subsection), subsection))
    return values


def _import_recipe(name: str) -> Recipe:
    """The recipe `NAME` of the user's `module`; raises `UsageError` where there is none."""
    form = 'Write recipe = "module:NAME": a module that can be imported from here, and a Recipe in it.'
    return import_object(name, Recipe, "recipe", form)
