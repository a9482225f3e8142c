"""The two towers: queries and items apart, each into one unit-norm embedding per view."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from mmse.config import require
from mmse.model.bags import sum_bags
from mmse.model.features import STATISTICS
from mmse.model.inputs import ItemInputs, QueryInputs, Sizes

VIEWS = ("text", "identity", "shopper")


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the towers.

    `dim` is the width of one view; an embedding is `dim × len(views)` wide. The buckets are the sizes of the
    tables that remember whole queries and returning shoppers.
    """

    dim: int = 64
    views: tuple[str, ...] = VIEWS
    query_buckets: int = 16_384
    user_buckets: int = 8_192

    def __post_init__(self) -> None:
        require(self.dim >= 4 and self.dim % 4 == 0, "dim", self.dim, "a multiple of 4, at least 4")
        known = set(self.views) <= set(VIEWS) and len(set(self.views)) == len(self.views) > 0
        require(known, "views", list(self.views), f"one or more of {', '.join(VIEWS)}, each once")
        require(self.query_buckets >= 1, "query_buckets", self.query_buckets, "at least 1")
        require(self.user_buckets >= 1, "user_buckets", self.user_buckets, "at least 1")


class TwoTower(nn.Module):
    """Embeds queries and items; see `fusion` for how the two are compared.

    Both sides share the token table, so that a word in a query and the same word in a title start out alike.
    """

    def __init__(self, config: ModelConfig, sizes: Sizes, token_weights: Float32[np.ndarray, " grains"]) -> None:
        """`token_weights` are the weights at which the grains start (their IDF), all > 0."""
        super().__init__()
        self.config, self.sizes, dim = config, sizes, config.dim
        self.tokens = _table(sizes.grains, dim)
        self.log_weights = nn.Parameter(torch.from_numpy(np.log(token_weights)))
        self.query_dense = nn.ModuleDict({view: _Dense(dim) for view in config.views})
        self.gate = nn.Linear(dim + 2, len(config.views))
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        if "text" in config.views:
            self.item_dense = _Dense(dim)
        if "identity" in config.views:
            self.query_memory = _memory(config.query_buckets + 1, dim)
            self.identity = _table(sizes.identity, dim)
            self.item_ids = _memory(sizes.item_ids, dim)
            self.identity_numbers = nn.Linear(sizes.numbers + STATISTICS, dim)
        if "shopper" in config.views:
            self.users = _memory(config.user_buckets + 1, dim)
            self.shopper = _table(sizes.shopper, dim)
            self.history_dense = _Dense(dim)
            self.shopper_numbers = nn.Linear(sizes.numbers + STATISTICS, dim)

    def token_table(self) -> Float[Tensor, "grains dim"]:
        """The token table with each row at its learned weight; computed once a step, not once a bag."""
        return self.tokens * self.log_weights.exp().unsqueeze(1)

    def embed_queries(
        self, inputs: QueryInputs, tokens: Float[Tensor, "grains dim"]
    ) -> tuple[Float[Tensor, "n views dim"], Float[Tensor, "n views"]]:
        """Unit-norm view embeddings and the gates, which add up to 1, of `n` queries; `tokens` is `token_table()`."""
        words = _rescaled(sum_bags(tokens, inputs.text))
        has_history = (inputs.history.offsets.diff() > 0).to(words.dtype)
        known = torch.stack([has_history, (inputs.user > 0).to(words.dtype)], dim=1)
        views = []
        for view in self.config.views:
            embedding = self.query_dense[view](words)
            if view == "identity":
                embedding = embedding + _remembered(self.query_memory, inputs.memory)
            if view == "shopper":
                taste = self.history_dense(_rescaled(sum_bags(self.shopper, inputs.history)))
                embedding = embedding + taste * has_history.unsqueeze(1) + _remembered(self.users, inputs.user)
            views.append(F.normalize(embedding.float(), dim=1))
        gates = torch.softmax(self.gate(torch.cat([words, known], dim=1)).float(), dim=1)
        return torch.stack(views, dim=1), gates

    def embed_items(self, inputs: ItemInputs, tokens: Float[Tensor, "grains dim"]) -> Float[Tensor, "n views dim"]:
        """Unit-norm view embeddings of `n` items; `tokens` is `token_table()`."""
        views = []
        for view in self.config.views:
            if view == "text":
                embedding = self.item_dense(_rescaled(sum_bags(tokens, inputs.text)))
            elif view == "identity":
                embedding = sum_bags(self.identity, inputs.identity) + _remembered(self.item_ids, inputs.item_ids)
                embedding = embedding + self.identity_numbers(inputs.numbers)
            else:
                embedding = sum_bags(self.shopper, inputs.shopper) + self.shopper_numbers(inputs.numbers)
            views.append(F.normalize(embedding.float(), dim=1))
        return torch.stack(views, dim=1)


class _Dense(nn.Module):
    """`x + W₂ relu(W₁ x)`, which starts as the identity."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(dim, dim)
        self.second = nn.Linear(dim, dim)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        added: Tensor = self.second(F.relu(self.first(x)))
        return x + added


def _table(rows: int, dim: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, dim) * dim**-0.5)


def _memory(rows: int, dim: int) -> nn.Parameter:
    """Starts at zero: a row that training never met adds nothing, rather than noise."""
    return nn.Parameter(torch.zeros(rows, dim))


def _rescaled(x: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
    """`x` at a mean square of 1 per row, whatever the length of the text it sums; zero stays zero."""
    unit: Tensor = F.normalize(x, dim=1)
    return unit * math.sqrt(x.shape[1])


def _remembered(table: Float[Tensor, "rows dim"], ids: Int[Tensor, " n"]) -> Float[Tensor, "n dim"]:
    """Rows of `table`, where id 0 means "none" and gives zero."""
    rows: Tensor = F.embedding(ids, table, padding_idx=0)
    return rows * (ids > 0).unsqueeze(1)
