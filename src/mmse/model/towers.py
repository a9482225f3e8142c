"""The two towers: one for queries, one for items; each gives a unit-norm embedding per view."""

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

    `dim` is the width of one view; an embedding is `dim × len(views)` wide. The buckets are the sizes of the tables for
    whole queries and for returning shoppers. With `fusion` "pre", an ablation, the features of all views are mixed into
    one unit-norm embedding of the whole width, and there are no gates. `text_encoder` reads the words of queries and
    titles: a bag of grains, or a pretrained transformer. With `conversion` a fused vector has one more number: for an
    item how well it sells after a click, for a query 1.
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
        is_valid = set(self.views) <= set(VIEWS) and len(set(self.views)) == len(self.views) > 0
        require(is_valid, "views", list(self.views), f"one or more of {', '.join(VIEWS)}, each once")
        require(self.query_buckets >= 1, "query_buckets", self.query_buckets, "at least 1")
        require(self.user_buckets >= 1, "user_buckets", self.user_buckets, "at least 1")


class TwoTower(nn.Module):
    """Embeds queries and items; `fusion` says how they are compared.

    Both sides share the token table, so a word in a query and the same word in a title start with one embedding.
    `extra` holds parameters that a recipe learns besides the towers, such as a temperature: checkpoints keep them, a
    finished model does not.
    """

    def __init__(
        self,
        config: ModelConfig,
        sizes: Sizes,
        token_weights: Float32[np.ndarray, " grains"],
        transformer: TransformerText | None = None,
    ) -> None:
        """`token_weights` are the start weights of the grains (their IDF), all > 0.

        `transformer` is given where `config.text_encoder` is "transformer", and only there.
        """
        super().__init__()
        self.config, self.sizes, dim = config, sizes, config.dim
        assert (transformer is not None) == (config.text_encoder == "transformer")
        self.transformer = transformer
        if transformer is None:
            self.tokens = _random_table(sizes.grains, dim)
            self.log_weights = nn.Parameter(torch.from_numpy(np.log(token_weights)))
        self.extra = nn.ParameterDict()
        if config.conversion:
            self.register_buffer("sells", torch.zeros(sizes.numbers + STATISTICS + 1))
        self.query_dense = nn.ModuleDict({view: _ResidualBlock(dim) for view in config.views})
        if config.fusion == "pre":
            width = dim * len(config.views)
            self.query_mixed, self.item_mixed = _ResidualBlock(width), _ResidualBlock(width)
        else:
            self.gate = nn.Linear(dim + 2, len(config.views))
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)
        if "text" in config.views:
            self.item_dense = _ResidualBlock(dim)
        if "identity" in config.views:
            self.query_memory = _zero_table(config.query_buckets + 1, dim)
            self.identity = _random_table(sizes.identity, dim)
            self.item_ids = _zero_table(sizes.item_ids, dim)
            self.identity_numbers = nn.Linear(sizes.numbers + STATISTICS, dim)
        if "shopper" in config.views:
            self.users = _zero_table(config.user_buckets + 1, dim)
            self.shopper = _random_table(sizes.shopper, dim)
            self.history_dense = _ResidualBlock(dim)
            self.shopper_numbers = nn.Linear(sizes.numbers + STATISTICS, dim)

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    def parameter_groups(self, transformer_share: float) -> list[dict[str, Any]]:
        """The parameters in the optimizer's form, each group with its `share` of the learning rate.

        A pretrained transformer should change far less per step than parameters that start at random.
        """
        slow = {} if self.transformer is None else {id(weight) for weight in self.transformer.model.parameters()}
        groups = [
            {"params": [weight for weight in self.parameters() if id(weight) not in slow], "share": 1.0},
            {"params": [weight for weight in self.parameters() if id(weight) in slow], "share": transformer_share},
        ]
        return [group for group in groups if group["params"]]

    def token_table(self) -> Float[Tensor, "grains dim"]:
        """The token table, each row multiplied by its learned weight; compute it once per step, not once per bag.

        Empty where a transformer reads the text.
        """
        if self.transformer is not None:
            return torch.empty(0, self.config.dim, device=self.device)
        return self.tokens * self.log_weights.exp().unsqueeze(1)

    def embed_queries(
        self, inputs: QueryInputs, tokens: Float[Tensor, "grains dim"]
    ) -> tuple[Float[Tensor, "n views width"], Float[Tensor, "n views"]]:
        """Unit-norm view embeddings and the gates, which add up to 1, of `n` queries; `tokens` is `token_table()`.

        With pre-fusion there is one view, of the whole width, and its gate is 1.
        """
        words = self._embed_text(inputs.text, tokens)
        has_history = (inputs.history.offsets.diff() > 0).to(words.dtype)
        user_flags = torch.stack([has_history, (inputs.user > 0).to(words.dtype)], dim=1)
        views = []
        for view in self.config.views:
            embedding = self.query_dense[view](words)
            if view == "identity":
                embedding = embedding + _look_up(self.query_memory, inputs.memory)
            if view == "shopper":
                taste = self.history_dense(_rescale(sum_bags(self.shopper, inputs.history)))
                embedding = embedding + taste * has_history.unsqueeze(1) + _look_up(self.users, inputs.user)
            views.append(embedding)
        if self.config.fusion == "pre":
            return _mix(views, self.query_mixed), torch.ones(len(words), 1, device=words.device)
        gates = torch.softmax(self.gate(torch.cat([words, user_flags], dim=1)).float(), dim=1)
        return _normalise(views), gates

    def embed_items(self, inputs: ItemInputs, tokens: Float[Tensor, "grains dim"]) -> Float[Tensor, "n views width"]:
        """Unit-norm view embeddings of `n` items, or one of the whole width; `tokens` is `token_table()`."""
        views = []
        for view in self.config.views:
            if view == "text":
                embedding = self.item_dense(self._embed_text(inputs.text, tokens))
            elif view == "identity":
                embedding = sum_bags(self.identity, inputs.identity) + _look_up(self.item_ids, inputs.item_ids)
                embedding = embedding + self.identity_numbers(inputs.numbers)
            else:
                embedding = sum_bags(self.shopper, inputs.shopper) + self.shopper_numbers(inputs.numbers)
            views.append(embedding)
        return _mix(views, self.item_mixed) if self.config.fusion == "pre" else _normalise(views)

    def learn_conversion(self, conversion: Conversion, strength: float) -> None:
        """Adds to the fused score of an item `strength` times its log odds of an order after a click, less their mean.

        This is a buffer and no parameter: no loss changes it.
        """
        line = np.append(conversion.weights, -conversion.mean).astype(np.float32)
        self.sells = torch.from_numpy(strength * line).to(self.device)

    def conversion_score(self, inputs: ItemInputs) -> Float[Tensor, "n 1"]:
        """The number that `conversion` appends to the vectors of `n` items."""
        return (inputs.numbers @ self.sells[:-1] + self.sells[-1]).unsqueeze(1)

    def _embed_text(self, text: BagIndex, tokens: Float[Tensor, "grains dim"]) -> Float[Tensor, "n dim"]:
        """The embedding of a text, the same for queries and items, with a mean square of 1."""
        return _rescale(self.transformer(text) if self.transformer is not None else sum_bags(tokens, text))


class _ResidualBlock(nn.Module):
    """`x + W₂ relu(W₁ x)`; it starts as the identity."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(dim, dim)
        self.second = nn.Linear(dim, dim)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        residual: Tensor = self.second(F.relu(self.first(x)))
        return x + residual


def _normalise(views: list[Float[Tensor, "n dim"]]) -> Float[Tensor, "n views dim"]:
    """Each view at length 1."""
    return F.normalize(torch.stack(views, dim=1).float(), dim=2)


def _mix(views: list[Float[Tensor, "n dim"]], dense: nn.Module) -> Float[Tensor, "n 1 views_times_dim"]:
    """All views through one residual block, as one vector of length 1."""
    return F.normalize(dense(torch.cat(views, dim=1)).float(), dim=1).unsqueeze(1)


def _random_table(rows: int, dim: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, dim) * dim**-0.5)


def _zero_table(rows: int, dim: int) -> nn.Parameter:
    """A table of zeros: a row that training never updated then adds nothing instead of noise."""
    return nn.Parameter(torch.zeros(rows, dim))


def _rescale(x: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
    """`x` with a mean square of 1 per row, whatever the length of the text; zero stays zero."""
    unit: Tensor = F.normalize(x, dim=1)
    return unit * math.sqrt(x.shape[1])


def _look_up(table: Float[Tensor, "rows dim"], ids: Int[Tensor, " n"]) -> Float[Tensor, "n dim"]:
    """Rows of `table`, where id 0 means "none" and gives zero."""
    rows: Tensor = F.embedding(ids, table, padding_idx=0)
    return rows * (ids > 0).unsqueeze(1)
