"""What a batch costs: the towers' scores of its items under the losses of a recipe."""

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
from mmse.model.objectives import Scored
from mmse.model.recipes import OBJECTIVES, Recipe
from mmse.model.towers import TwoTower
from mmse.training.batches import Batch

_COLDEST = 0.01
"""No learned temperature falls below it; colder, a score's rounding decides."""


class Losses(NamedTuple):
    """Both losses of a batch; with λ times the second one they add up to what is descended."""

    retrieval: Float[Tensor, ""]
    ranking: Float[Tensor, ""]


def prepare(towers: TwoTower, recipe: Recipe) -> None:
    """Gives `towers` the parameters that `recipe` learns beside them, at the recipe's values.

    They are in `towers.extra`, so that checkpoints keep them; call it before the optimizer is made.
    """
    if recipe.learn_temperature:
        towers.extra["temperature"] = _number(math.log(recipe.temperature))
        if recipe.rank_weight > 0 and recipe.ranking == "pairs":
            towers.extra["rank_temperature"] = _number(math.log(recipe.rank_temperature))
    if recipe.uncertainty:
        towers.extra["uncertainty"] = nn.Parameter(torch.tensor([0.0, -math.log(recipe.rank_weight)]))


def losses(
    encoder: Encoder, batch: Batch, recipe: Recipe, gather: Callable[[Tensor], Tensor] = lambda items: items
) -> Losses:
    """The retrieval and the ranking loss of one batch; the ranking loss is 0 where the recipe has none.

    `gather` makes of the vectors of the batch's items those that its `columns` and `negatives` are places in: others
    where several processes share one batch (`distributed`).
    """
    towers = encoder.towers
    tokens = towers.token_table()
    views, gates = towers.embed_queries(batch.queries, tokens)
    items = gather(towers.embed_items(batch.items, tokens))
    return losses_of(views * gates.unsqueeze(2), items, batch, recipe, towers.extra)


def losses_of(
    queries: Float[Tensor, "requests views dim"],
    items: Float[Tensor, "items views dim"],
    batch: Batch,
    recipe: Recipe,
    extra: nn.ParameterDict,
) -> Losses:
    """The losses of the vectors of `batch`: each view of a query at the length of its gate, those of items at 1.

    `batch.columns` and `batch.negatives` are places in `items`, which may hold more than the batch's own. Raises
    `UsageError` where `matryoshka` asks for more dimensions than a view has.
    """
    total = _at_width(queries, items, batch, recipe, extra)
    if recipe.view_weight > 0 and queries.shape[1] > 1:
        views = zip(F.normalize(queries, dim=2).unbind(1), items.unbind(1), strict=True)
        alone = [OBJECTIVES[recipe.retrieval](_scored(*view, batch, recipe, extra), recipe) for view in views]
        total = Losses(total.retrieval + recipe.view_weight * torch.stack(alone).sum(), total.ranking)
    for width in recipe.matryoshka:
        if width >= queries.shape[2]:
            raise UsageError(
                f"objective.matryoshka has {width}, but a view has {queries.shape[2]} dimensions.",
                "Give smaller widths, or a larger dim.",
            )
        at_width = _at_width(_first(queries, width), _first(items, width), batch, recipe, extra)
        total = Losses(*(whole + part for whole, part in zip(total, at_width, strict=True)))
    if not recipe.uncertainty:
        return total
    noise = extra["uncertainty"]
    retrieval, ranking = torch.exp(-noise) * torch.stack(total) + noise / 2
    return Losses(retrieval, ranking / recipe.rank_weight)  # the loop weighs it by λ once more


def _at_width(
    queries: Float[Tensor, "requests views dim"],
    items: Float[Tensor, "items views dim"],
    batch: Batch,
    recipe: Recipe,
    extra: nn.ParameterDict,
) -> Losses:
    """Both losses of the scores that these vectors give."""
    scored = _scored(queries.flatten(1), items.flatten(1), batch, recipe, extra)
    retrieval = OBJECTIVES[recipe.retrieval](scored, recipe)
    if recipe.rank_weight == 0:
        return Losses(retrieval, torch.zeros_like(retrieval))
    return Losses(retrieval, OBJECTIVES[recipe.ranking](scored, recipe))


def _scored(
    query: Float[Tensor, "requests width"],
    item: Float[Tensor, "items width"],
    batch: Batch,
    recipe: Recipe,
    extra: nn.ParameterDict,
) -> Scored:
    """The scores that these vectors give, as a loss takes them."""
    return Scored(
        own=(query.unsqueeze(1) * F.embedding(batch.columns, item)).sum(dim=2).float(),
        stages=batch.stages,
        weights=batch.weights,
        examination=batch.examination,
        against=(query @ item[batch.negatives].T).float(),
        correction=batch.correction,
        reached=batch.reached,
        temperature=_learned(extra, "temperature", recipe.temperature, recipe),
        rank_temperature=_learned(extra, "rank_temperature", recipe.rank_temperature, recipe),
    )


def _first(vectors: Float[Tensor, "n views dim"], width: int) -> Float[Tensor, "n views width"]:
    """The first dimensions of each view, as long as the whole view was."""
    cut: Tensor = F.normalize(vectors[:, :, :width], dim=2) * vectors.norm(dim=2, keepdim=True)
    return cut


def _number(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value))


def _learned(extra: nn.ParameterDict, key: str, fixed: float, recipe: Recipe) -> float | Float[Tensor, ""]:
    if not recipe.learn_temperature or key not in extra:
        return fixed
    learned: Tensor = extra[key].exp().clamp(min=_COLDEST)
    return learned
