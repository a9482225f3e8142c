"""How a model is trained: the keys of `[train]` in shop.toml."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mmse.core.config import plain_values, require
from mmse.model.pretrained_encoder import PACKAGE
from mmse.model.recipes import RECIPES, Recipe, override
from mmse.model.towers import ModelConfig
from mmse.model.views import VIEWS


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained: the recipe, with `objective` for single keys of it, the towers and the budget.

    `keep` says which weights the model gets: the last ones, or the best by recall on the validation requests. Without
    `vectors` the model has no view of the vectors that the shop brings. Where the log has fewer than `catalogue_below`
    requests with a click, requests made of the items' words are trained on beside them (`catalogue_requests`). Of the
    log's queries `slip_share` are trained on with a slip of the fingers in them.

    `goal` says what the shop wants: clicks (0), orders (1), or something between (`Recipe.aim`). The ranking is learned
    from orders alone where it is at least a half, otherwise from clicks as well.
    """

    recipe: str = "mmse"
    goal: float = 1.0
    objective: dict[str, Any] = field(default_factory=dict)
    dim: int = 64
    views: tuple[str, ...] = tuple(VIEWS)
    vectors: bool = True
    fusion: Literal["post", "pre"] = "post"
    text_encoder: Literal["bag", "transformer"] = "bag"
    transformer: str | None = None
    transformer_learning_rate: float = 5e-5
    warm_start: str | None = None
    warm_texts: int = 16_000
    warm_share: float = 0.0
    query_buckets: int = 16_384
    user_buckets: int = 8_192
    vocab_size: int = 4_000
    bigram_buckets: int = 0
    max_tokens: int = 48
    epochs: int = 3
    budget_seconds: float | None = None
    keep: Literal["last", "best"] = "last"
    batch_requests: int = 256
    group_size: int = 8
    learning_rate: float = 4e-3
    warmup_share: float = 0.1
    item_id_dropout: float = 0.4
    query_dropout: float = 0.5
    user_dropout: float = 0.5
    vector_dropout: float = 0.2
    listing_dropout: float = 0.1
    slip_share: float = 0.15
    validate_requests: int = 2_000
    checkpoint_steps: int = 200
    cache_mb: int = 2_000
    catalogue_below: int = 5_000
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        require(self.recipe in RECIPES, "recipe", self.recipe, f"one of {', '.join(RECIPES)}")
        for key in ("epochs", "batch_requests", "validate_requests", "checkpoint_steps"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")
        budget = self.budget_seconds
        require(budget is None or budget > 0, "budget_seconds", budget, "more than 0, or left out")
        require(self.group_size >= 2, "group_size", self.group_size, "at least 2")
        require(self.vocab_size >= 300, "vocab_size", self.vocab_size, "at least 300")
        require(self.catalogue_below >= 0, "catalogue_below", self.catalogue_below, "0 or more")
        require(self.bigram_buckets >= 0, "bigram_buckets", self.bigram_buckets, "0 or more")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "more than 0")
        require(0 <= self.warmup_share < 1, "warmup_share", self.warmup_share, "at least 0 and below 1")
        shares = ("item_id_dropout", "query_dropout", "user_dropout", "vector_dropout", "listing_dropout", "slip_share")
        for key in shares:
            require(0 <= getattr(self, key) <= 1, key, getattr(self, key), "a share between 0 and 1")
        require(0 <= self.goal <= 1, "goal", self.goal, "a number from 0 (clicks) to 1 (orders)")
        self._check_text()
        self.to_recipe()
        self.to_model()

    def resolve_paths(self, folder: Path) -> TrainConfig:
        """The same config with its relative paths resolved from `folder`, the folder of shop.toml."""
        return replace(
            self, transformer=_resolve(folder, self.transformer), warm_start=_resolve(folder, self.warm_start)
        )

    def _check_text(self) -> None:
        reads = self.text_encoder == "transformer"
        require(
            reads == (self.transformer is not None),
            "transformer",
            self.transformer,
            "the folder of an encoder where text_encoder is 'transformer', and only there",
        )
        require(
            not (reads and self.warm_start),
            "warm_start",
            self.warm_start,
            "nothing where text_encoder is 'transformer': it has no token table to start",
        )
        require(
            not (reads and self.bigram_buckets),
            "bigram_buckets",
            self.bigram_buckets,
            "0 where text_encoder is 'transformer'",
        )
        require(self.warm_texts >= 0, "warm_texts", self.warm_texts, "0 (the grains alone) or more")
        require(0 <= self.warm_share <= 1, "warm_share", self.warm_share, "a share between 0 and 1")
        rate = self.transformer_learning_rate
        require(rate >= 0, "transformer_learning_rate", rate, "0 (it stays as it is) or more")

    def to_recipe(self) -> Recipe:
        """The recipe with its overrides, aimed at the goal."""
        return override(RECIPES[self.recipe], self.objective, "[train.objective]").aim(self.goal)

    def to_manifest(self) -> dict[str, Any]:
        """The config in the form of a manifest: with every value of the recipe, also of a user's own."""
        return plain_values(self) | {"objective": plain_values(self.to_recipe())}

    def to_model(self, vectors: tuple[str, ...] = ()) -> ModelConfig:
        """The shape of the towers, of a shop that brings vectors in the columns `vectors`."""
        return ModelConfig(
            self.dim,
            self.views,
            self.query_buckets,
            self.user_buckets,
            self.fusion,
            self.text_encoder,
            conversion=self.to_recipe().conversion > 0,
            vectors=vectors if self.vectors else (),
        )


def _resolve(folder: Path, path: str | None) -> str | None:
    return path if path is None or path.startswith(PACKAGE) else str((folder / Path(path).expanduser()).resolve())
