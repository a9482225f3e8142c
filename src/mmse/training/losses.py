"""What a batch costs: the towers' scores of its items under the losses of a recipe."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmse.model.encoder import Encoder
from mmse.model.fusion import fuse_item, fuse_query
from mmse.model.objectives import ranking_loss, retrieval_loss
from mmse.model.recipes import Recipe
from mmse.training.batches import Batch


def losses(encoder: Encoder, batch: Batch, recipe: Recipe) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The retrieval and the ranking loss of one batch; the ranking loss is 0 where the recipe has none."""
    towers = encoder.towers
    tokens = towers.token_table()
    queries = fuse_query(*towers.embed_queries(batch.queries, tokens))
    items = fuse_item(towers.embed_items(batch.items, tokens))
    own = (queries.unsqueeze(1) * F.embedding(batch.columns, items)).sum(dim=2).float()
    against = (queries @ items[batch.negatives].T).float()
    retrieval = retrieval_loss(
        own, against, batch.weights, correction=batch.correction, reached=batch.reached,
        temperature=recipe.temperature,
    )  # fmt: skip
    if recipe.rank_weight == 0:
        return retrieval, torch.zeros_like(retrieval)
    ranking = ranking_loss(
        own, batch.stages, batch.examination, margin=recipe.rank_margin, temperature=recipe.rank_temperature
    )
    return retrieval, ranking
