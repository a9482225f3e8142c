"""The losses of a batch: the towers' scores under the losses of a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmse.core.errors import UsageError
from mmse.model.encoder import Encoder
from mmse.model.objectives import BatchScores
from mmse.model.recipes import OBJECTIVES, Recipe
from mmse.model.towers import TwoTower
from mmse.training.batches import Batch

_MIN_TEMPERATURE = 0.01
"""The lowest learned temperature; below it, rounding errors of the scores would matter."""


class Losses(NamedTuple):
    """Both losses of a batch. Training minimises `retrieval` plus λ times `ranking`."""

    retrieval: Float[Tensor, ""]
    ranking: Float[Tensor, ""]


def add_learned_parameters(towers: TwoTower, recipe: Recipe) -> None:
    """Adds to `towers` the further parameters that `recipe` learns, with the recipe's values as their start.

    They are in `towers.extra`, so that checkpoints keep them. Call this before the optimizer is made.
    """
    if recipe.learn_temperature:
        towers.extra["temperature"] = _scalar_parameter(math.log(recipe.temperature))
        if recipe.rank_weight > 0 and recipe.ranking == "pairs":
            towers.extra["rank_temperature"] = _scalar_parameter(math.log(recipe.rank_temperature))
    if recipe.uncertainty:
        towers.extra["uncertainty"] = nn.Parameter(torch.tensor([0.0, -math.log(recipe.rank_weight)]))


def compute_losses(
    encoder: Encoder, batch: Batch, recipe: Recipe, gather: Callable[[Tensor], Tensor] = lambda items: items
) -> Losses:
    """The retrieval and the ranking loss of one batch; the ranking loss is 0 where the recipe has none.

    `gather` turns the vectors of the batch's items into those that `columns` and `negatives` are indices of. The two
    differ where several processes share one batch (`distributed`).
    """
    towers = encoder.towers
    tokens = towers.token_table()
    views, gates = towers.embed_queries(batch.queries, tokens)
    items = gather(towers.embed_items(batch.items, tokens))
    return compute_vector_losses(views * gates.unsqueeze(2), items, batch, recipe, towers.extra)


def compute_vector_losses(
    queries: Float[Tensor, "requests views dim"],
    items: Float[Tensor, "items views dim"],
    batch: Batch,
    recipe: Recipe,
    extra: nn.ParameterDict,
) -> Losses:
    """The losses of `batch` for these vectors: a query's view has the length of its gate, an item's view has length 1.

    `batch.columns` and `batch.negatives` are indices into `items`, which may hold more items than `batch.items`. Raises
    `UsageError` where `matryoshka` asks for more dimensions than a view has.
    """
    total = _losses_at_width(queries, items, batch, recipe, extra)
    if recipe.view_weight > 0 and queries.shape[1] > 1:
        views = zip(F.normalize(queries, dim=2).unbind(1), items.unbind(1), strict=True)
        view_losses = [
            OBJECTIVES[recipe.retrieval](_score_batch(*view, batch, recipe, extra), recipe) for view in views
        ]
        total = Losses(total.retrieval + recipe.view_weight * torch.stack(view_losses).sum(), total.ranking)
    for width in recipe.matryoshka:
        if width >= queries.shape[2]:
            raise UsageError(
                f"objective.matryoshka has {width}, but a view has {queries.shape[2]} dimensions.",
                "Give smaller widths, or a larger dim.",
            )
        at_width = _losses_at_width(_truncate(queries, width), _truncate(items, width), batch, recipe, extra)
        total = Losses(*(whole + part for whole, part in zip(total, at_width, strict=True)))
    if not recipe.uncertainty:
        return total
    noise = extra["uncertainty"]
    retrieval, ranking = torch.exp(-noise) * torch.stack(total) + noise / 2
    return Losses(retrieval, ranking / recipe.rank_weight)  # the loop multiplies it by λ again


def _losses_at_width(
    queries: Float[Tensor, "requests views dim"],
    items: Float[Tensor, "items views dim"],
    batch: Batch,
    recipe: Recipe,
    extra: nn.ParameterDict,
) -> Losses:
    """Both losses for these vectors."""
    scores = _score_batch(queries.flatten(1), items.flatten(1), batch, recipe, extra)
    retrieval = OBJECTIVES[recipe.retrieval](scores, recipe)
    if recipe.rank_weight == 0:
        return Losses(retrieval, torch.zeros_like(retrieval))
    return Losses(retrieval, OBJECTIVES[recipe.ranking](scores, recipe))


def _score_batch(
    query: Float[Tensor, "requests width"],
    item: Float[Tensor, "items width"],
    batch: Batch,
    recipe: Recipe,
    extra: nn.ParameterDict,
) -> BatchScores:
    """The scores of these vectors, in the form that losses take."""
    return BatchScores(
        own_scores=(query.unsqueeze(1) * F.embedding(batch.columns, item)).sum(dim=2).float(),
        stages=batch.stages,
        weights=batch.weights,
        examination=batch.examination,
        pool_scores=(query @ item[batch.negatives].T).float(),
        correction=batch.correction,
        exclusions=batch.exclusions,
        temperature=_temperature(extra, "temperature", recipe.temperature, recipe),
        rank_temperature=_temperature(extra, "rank_temperature", recipe.rank_temperature, recipe),
    )


def _truncate(vectors: Float[Tensor, "n views dim"], width: int) -> Float[Tensor, "n views width"]:
    """The leading `width` dimensions of each view, scaled to the length of the whole view."""
    vectors_at_width: Tensor = F.normalize(vectors[:, :, :width], dim=2) * vectors.norm(dim=2, keepdim=True)
    return vectors_at_width


def _scalar_parameter(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value))


def _temperature(extra: nn.ParameterDict, key: str, default: float, recipe: Recipe) -> float | Float[Tensor, ""]:
    if not recipe.learn_temperature or key not in extra:
        return default
    temperature: Tensor = extra[key].exp().clamp(min=_MIN_TEMPERATURE)
    return temperature
