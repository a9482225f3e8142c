"""The two towers: queries and items apart, each into one unit-norm embedding per view."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from mmse.core.config import require
from mmse.model.bags import BagIndex, sum_bags
from mmse.model.conversion import Conversion
from mmse.model.features import STATISTICS
from mmse.model.inputs import ItemInputs, QueryInputs, Sizes
from mmse.model.transformer import TransformerText

VIEWS = ("text", "identity", "shopper")


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the towers.

    `dim` is the width of one view; an embedding is `dim × len(views)` wide. The buckets are the sizes of the
    tables that remember whole queries and returning shoppers. With `fusion` "pre", an ablation, the features of all
    views are mixed into one unit-norm embedding of that whole width before the one product, and there are no gates.
    `text_encoder` says what reads the words of queries and titles: a bag of grains, or a pretrained transformer. With
    `conversion` a fused vector has one more number: of an item how well it sells once clicked, of a query 1.
    """

    dim: int = 64
    views: tuple[str, ...] = VIEWS
    query_buckets: int = 16_384
    user_buckets: int = 8_192
    fusion: Literal["post", "pre"] = "post"
    text_encoder: Literal["bag", "transformer"] = "bag"
    conversion: bool = False

    def __post_init__(self) -> None:
        require(self.dim >= 4 and self.dim % 4 == 0, "dim", self.dim, "a multiple of 4, at least 4")
        known = set(self.views) <= set(VIEWS) and len(set(self.views)) == len(self.views) > 0
        require(known, "views", list(self.views), f"one or more of {', '.join(VIEWS)}, each once")
        require(self.query_buckets >= 1, "query_buckets", self.query_buckets, "at least 1")
        require(self.user_buckets >= 1, "user_buckets", self.user_buckets, "at least 1")


class TwoTower(nn.Module):
    """Embeds queries and items; see `fusion` for how the two are compared.

    Both sides share the token table, so that a word in a query and the same word in a title start out alike. `extra`
    holds what a recipe learns beside the towers (a temperature): checkpoints keep it, a finished model goes without.
    """

    def __init__(
        self,
        config: ModelConfig,
        sizes: Sizes,
        token_weights: Float32[np.ndarray, " grains"],
        transformer: TransformerText | None = None,
    ) -> None:
        """`token_weights` are the weights at which the grains start (their IDF), all > 0.

        `transformer` is there where `config.text_encoder` says so.
        """
        super().__init__()
        self.config, self.sizes, dim = config, sizes, config.dim
        assert (transformer is not None) == (config.text_encoder == "transformer")
        self.transformer = transformer
        if transformer is None:
            self.tokens = _table(sizes.grains, dim)
            self.log_weights = nn.Parameter(torch.from_numpy(np.log(token_weights)))
        self.extra = nn.ParameterDict()
        if config.conversion:
            self.register_buffer("sells", torch.zeros(sizes.numbers + STATISTICS + 1))
        self.query_dense = nn.ModuleDict({view: _Dense(dim) for view in config.views})
        if config.fusion == "pre":
            width = dim * len(config.views)
            self.query_mixed, self.item_mixed = _Dense(width), _Dense(width)
        else:
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

    @property
    def device(self) -> torch.device:
        """Where the towers live."""
        return next(self.parameters()).device

    def learned(self, transformer_share: float) -> list[dict[str, Any]]:
        """The parameters as an optimizer takes them, each group with its `share` of the learning rate.

        A pretrained transformer is to change far less in a step than what starts from nothing.
        """
        slow = {} if self.transformer is None else {id(one) for one in self.transformer.model.parameters()}
        groups = [
            {"params": [one for one in self.parameters() if id(one) not in slow], "share": 1.0},
            {"params": [one for one in self.parameters() if id(one) in slow], "share": transformer_share},
        ]
        return [group for group in groups if group["params"]]

    def token_table(self) -> Float[Tensor, "grains dim"]:
        """The token table with each row at its learned weight; computed once a step, not once a bag.

        Empty where a transformer reads the text.
        """
        if self.transformer is not None:
            return torch.empty(0, self.config.dim, device=self.device)
        return self.tokens * self.log_weights.exp().unsqueeze(1)

    def embed_queries(
        self, inputs: QueryInputs, tokens: Float[Tensor, "grains dim"]
    ) -> tuple[Float[Tensor, "n views width"], Float[Tensor, "n views"]]:
        """Unit-norm view embeddings and the gates, which add up to 1, of `n` queries; `tokens` is `token_table()`.

        Where fusion comes first, there is one view, of the whole width, and its gate is 1.
        """
        words = self._words(inputs.text, tokens)
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
            views.append(embedding)
        if self.config.fusion == "pre":
            return _mixed(views, self.query_mixed), torch.ones(len(words), 1, device=words.device)
        gates = torch.softmax(self.gate(torch.cat([words, known], dim=1)).float(), dim=1)
        return _unit_norm(views), gates

    def embed_items(self, inputs: ItemInputs, tokens: Float[Tensor, "grains dim"]) -> Float[Tensor, "n views width"]:
        """Unit-norm view embeddings of `n` items, or one of the whole width; `tokens` is `token_table()`."""
        views = []
        for view in self.config.views:
            if view == "text":
                embedding = self.item_dense(self._words(inputs.text, tokens))
            elif view == "identity":
                embedding = sum_bags(self.identity, inputs.identity) + _remembered(self.item_ids, inputs.item_ids)
                embedding = embedding + self.identity_numbers(inputs.numbers)
            else:
                embedding = sum_bags(self.shopper, inputs.shopper) + self.shopper_numbers(inputs.numbers)
            views.append(embedding)
        return _mixed(views, self.item_mixed) if self.config.fusion == "pre" else _unit_norm(views)

    def learn_conversion(self, conversion: Conversion, strength: float) -> None:
        """Lets the fused score of an item rise by `strength` times its advantage in log odds of an order after a click.

        It is no parameter: no loss of the towers changes it.
        """
        line = np.append(conversion.weights, -conversion.mean).astype(np.float32)
        self.sells = torch.from_numpy(strength * line).to(self.device)

    def sells_by(self, inputs: ItemInputs) -> Float[Tensor, "n 1"]:
        """The number that `conversion` adds to the vectors of `n` items."""
        return (inputs.numbers @ self.sells[:-1] + self.sells[-1]).unsqueeze(1)

    def _words(self, text: BagIndex, tokens: Float[Tensor, "grains dim"]) -> Float[Tensor, "n dim"]:
        """What a text says, the same for queries and items, at a mean square of 1."""
        return _rescaled(self.transformer(text) if self.transformer is not None else sum_bags(tokens, text))


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


def _unit_norm(views: list[Float[Tensor, "n dim"]]) -> Float[Tensor, "n views dim"]:
    """Each view at length 1."""
    return F.normalize(torch.stack(views, dim=1).float(), dim=2)


def _mixed(views: list[Float[Tensor, "n dim"]], dense: nn.Module) -> Float[Tensor, "n 1 views_times_dim"]:
    """All views through one layer, together at length 1."""
    return F.normalize(dense(torch.cat(views, dim=1)).float(), dim=1).unsqueeze(1)


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
