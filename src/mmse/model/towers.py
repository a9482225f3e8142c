"""The two towers: one for queries, one for items; each gives a unit-norm embedding per view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor, nn

from mmse.core.config import require
from mmse.model.bags import BagIndex, sum_bags
from mmse.model.inputs import ItemInputs, QueryInputs, Sizes
from mmse.model.transformer import TransformerText
from mmse.model.views import NUMBER_VIEWS, VIEWS, vector_views
from mmse.model.views.conversion import ConversionTower, ConversionView
from mmse.model.views.view import ResidualBlock, TowerShape, View, ViewTower, random_table, rescale


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the towers.

    `dim` is the width of one view; an embedding has this width for each. The buckets are the sizes of the tables for
    whole queries and for returning shoppers. With `fusion` "pre", an ablation, the features of all views are mixed into
    one unit-norm embedding of the whole width, and there are no gates. `text_encoder` reads the words of queries and
    titles: a bag of grains, or a pretrained transformer. With `conversion` a fused vector has one more number: for an
    item how well it sells after a click, for a query 1. `vectors` are the columns of vectors that the shop brings; each
    is one more view.
    """

    dim: int = 64
    views: tuple[str, ...] = tuple(VIEWS)
    query_buckets: int = 16_384
    user_buckets: int = 8_192
    fusion: Literal["post", "pre"] = "post"
    text_encoder: Literal["bag", "transformer"] = "bag"
    conversion: bool = False
    vectors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(self.dim >= 4 and self.dim % 4 == 0, "dim", self.dim, "a multiple of 4, at least 4")
        is_valid = set(self.views) <= set(VIEWS) and len(set(self.views)) == len(self.views) > 0
        require(is_valid, "views", list(self.views), f"one or more of {', '.join(VIEWS)}, each once")
        require(self.query_buckets >= 1, "query_buckets", self.query_buckets, "at least 1")
        require(self.user_buckets >= 1, "user_buckets", self.user_buckets, "at least 1")

    @property
    def gated_views(self) -> tuple[View, ...]:
        """The views that gates weigh, in their order in a fused vector."""
        return (*(VIEWS[name] for name in self.views), *vector_views(self.vectors))

    @property
    def number_views(self) -> tuple[ConversionView, ...]:
        """The views of one number, which follow the others."""
        return tuple(view for view in NUMBER_VIEWS.values() if getattr(self, view.name))


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
            self.tokens = random_table(sizes.grains, dim)
            self.log_weights = nn.Parameter(torch.from_numpy(np.log(token_weights)))
        self.extra = nn.ParameterDict()
        self.number_views = nn.ModuleDict({view.key: view.make_tower(sizes) for view in config.number_views})
        self.query_dense = nn.ModuleDict({view.key: ResidualBlock(dim) for view in config.gated_views})
        if config.fusion == "pre":
            width = dim * len(config.gated_views)
            self.query_mixed, self.item_mixed = ResidualBlock(width), ResidualBlock(width)
        else:
            self.gate = nn.Linear(dim + 2, len(config.gated_views))
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)
        shape = TowerShape(dim, config.query_buckets, config.user_buckets, sizes)
        self.views = nn.ModuleDict({view.key: view.make_tower(shape) for view in config.gated_views})

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    @property
    def view_towers(self) -> list[tuple[str, ViewTower]]:
        """The key and the towers of each view that gates weigh, in order."""
        return [(key, tower) for key, tower in self.views.items() if isinstance(tower, ViewTower)]

    @property
    def number_towers(self) -> list[ConversionTower]:
        """The towers of the views of one number, in order."""
        return [tower for tower in self.number_views.values() if isinstance(tower, ConversionTower)]

    @property
    def memories(self) -> list[nn.Parameter]:
        """The tables of which a batch looks up few rows."""
        return [memory for _, tower in self.view_towers for memory in tower.memories]

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
        views = [tower.embed_queries(self.query_dense[key](words), inputs) for key, tower in self.view_towers]
        if self.config.fusion == "pre":
            return _mix(views, self.query_mixed), torch.ones(len(words), 1, device=words.device)
        user_flags = torch.stack([inputs.has_history, inputs.user > 0], dim=1).to(words.dtype)
        gates = torch.softmax(self.gate(torch.cat([words, user_flags], dim=1)).float(), dim=1)
        return _normalise(views), gates

    def embed_items(self, inputs: ItemInputs, tokens: Float[Tensor, "grains dim"]) -> Float[Tensor, "n views width"]:
        """Unit-norm view embeddings of `n` items, or one of the whole width; `tokens` is `token_table()`."""
        towers = [tower for _, tower in self.view_towers]
        reads_words = any(tower.reads_words for tower in towers)
        words = self._embed_text(inputs.text, tokens) if reads_words else None
        views = [tower.embed_items(inputs, words) for tower in towers]
        return _mix(views, self.item_mixed) if self.config.fusion == "pre" else _normalise(views)

    def score_items(self, inputs: ItemInputs) -> Float[Tensor, "n numbers"]:
        """The numbers that the views of one number append to the vectors of `n` items."""
        return torch.cat([inputs.numbers[:, :0], *(tower.score_items(inputs) for tower in self.number_towers)], dim=1)

    def _embed_text(self, text: BagIndex, tokens: Float[Tensor, "grains dim"]) -> Float[Tensor, "n dim"]:
        """The embedding of a text, the same for queries and items, with a mean square of 1."""
        return rescale(self.transformer(text) if self.transformer is not None else sum_bags(tokens, text))


def file_name(weight: str) -> str:
    """The name in a model's file of the weight `weight` of the towers.

    Those of the views of the tables stand there under their own names, as they did before views had a place of theirs.
    """
    for prefix in _PREFIXES:
        if weight.startswith(prefix):
            return weight.removeprefix(prefix)
    return weight


_PREFIXES = [f"views.{key}." for key in VIEWS] + [f"number_views.{key}." for key in NUMBER_VIEWS]


def _normalise(views: list[Float[Tensor, "n dim"]]) -> Float[Tensor, "n views dim"]:
    """Each view at length 1."""
    return F.normalize(torch.stack(views, dim=1).float(), dim=2)


def _mix(views: list[Float[Tensor, "n dim"]], dense: nn.Module) -> Float[Tensor, "n 1 views_times_dim"]:
    """All views through one residual block, as one vector of length 1."""
    return F.normalize(dense(torch.cat(views, dim=1)).float(), dim=1).unsqueeze(1)
