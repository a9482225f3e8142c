"""A trained model as a folder: text in, fused vectors out, the same for training, evaluation and serving."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32, Int32, Int64
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmse.config import build, plain
from mmse.errors import ArtifactError
from mmse.model.compiled import CompiledQueries
from mmse.model.features import FeatureSpace, ItemFeatures
from mmse.model.fusion import fuse_item, fuse_query
from mmse.model.inputs import Sizes, item_inputs, query_inputs
from mmse.model.two_tower import ModelConfig, TwoTower
from mmse.text import Tokenizer, bucket, document_frequency, normalise

_CHUNK = 8_192


@dataclass(frozen=True)
class Encoder:
    """Tokenizer, feature space and towers that belong together."""

    tokenizer: Tokenizer
    space: FeatureSpace
    towers: TwoTower

    @classmethod
    def fresh(cls, config: ModelConfig, tokenizer: Tokenizer, space: FeatureSpace, items: ItemFeatures) -> Encoder:
        """An untrained encoder whose token weights start at the grains' IDF over `items`."""
        sizes = Sizes(tokenizer.n_grains, space.n_identity, space.n_item_ids, space.n_shopper, space.n_numbers)
        documents = document_frequency(items.text, tokenizer.n_grains)
        idf = np.log1p(len(items) / (documents + 1))
        return cls(tokenizer, space, TwoTower(config, sizes, (idf / idf.mean()).astype(np.float32)))

    @property
    def views(self) -> tuple[str, ...]:
        """The names of the views, in the order in which they stand in a fused vector."""
        return self.towers.config.views

    @property
    def width(self) -> int:
        """The length of a fused vector."""
        return self.towers.config.dim * len(self.views)

    @property
    def device(self) -> torch.device:
        """Where the towers live."""
        return self.towers.log_weights.device

    def query_bucket(self, query: str) -> int:
        """Where the towers remember the whole of `query`; never 0."""
        return 1 + bucket(normalise(query), self.towers.config.query_buckets)

    def user_bucket(self, user_id: str | None) -> int:
        """Where the towers remember a shopper; 0 for an unknown one."""
        return 0 if user_id is None else 1 + bucket(user_id, self.towers.config.user_buckets)

    @torch.inference_mode()
    def queries(
        self, texts: Sequence[str], users: Sequence[str | None], history: Int32[np.ndarray, "n ids"]
    ) -> Float32[np.ndarray, "n width"]:
        """Fused vectors of `n` queries by their shoppers; `history` holds shopper-table ids, 0 for none."""
        vectors = np.empty((len(texts), self.width), np.float32)
        for start in range(0, len(texts), _CHUNK):
            span = slice(start, start + _CHUNK)
            inputs = query_inputs(
                self.tokenizer.encode([normalise(t) for t in texts[span]]),
                np.array([self.query_bucket(t) for t in texts[span]], np.int64),
                np.array([self.user_bucket(u) for u in users[span]], np.int64),
                history[span],
            )
            views, gates = self.towers.embed_queries(inputs.to(self.device), self._tokens)
            vectors[span] = fuse_query(views, gates).float().cpu().numpy()
        return vectors

    def served(
        self, texts: Sequence[str], users: Sequence[str | None], history: Int32[np.ndarray, "n ids"]
    ) -> Float32[np.ndarray, "n width"]:
        """`queries` without PyTorch, to within rounding: many times as fast for one query, slower for thousands.

        From the first call on, the towers are taken to stay as they are.
        """
        return self._compiled.vectors(
            self.tokenizer.encode([normalise(text) for text in texts]),
            np.array([self.query_bucket(text) for text in texts], np.int64),
            np.array([self.user_bucket(user) for user in users], np.int64),
            history,
        )

    @torch.inference_mode()
    def items(
        self, features: ItemFeatures, statistics: Float32[np.ndarray, "n statistics"]
    ) -> Float32[np.ndarray, "n width"]:
        """Fused vectors of all items of `features`, with their `statistics` from the log."""
        vectors = np.empty((len(features), self.width), np.float32)
        for start in range(0, len(features), _CHUNK):
            rows: Int64[np.ndarray, " m"] = np.arange(start, min(start + _CHUNK, len(features)), dtype=np.int64)
            inputs = item_inputs(features, statistics, rows).to(self.device)
            vectors[rows] = fuse_item(self.towers.embed_items(inputs, self._tokens)).float().cpu().numpy()
        return vectors

    def encode_items(self, items: pa.Table) -> ItemFeatures:
        """The features of the rows of `items` (the columns of `groups/items.parquet`)."""
        return self.space.encode(items, self.tokenizer)

    def save(self, folder: Path) -> None:
        """Writes the model into `folder`: safetensors and JSON, nothing that runs code when it is read."""
        self.tokenizer.save(folder)
        self.space.save(folder)
        shape = {"config": plain(self.towers.config), "sizes": plain(self.towers.sizes)}
        (folder / "towers.json").write_text(json.dumps(shape, indent=2), "utf-8")
        save_file({k: v.contiguous().cpu() for k, v in self.towers.state_dict().items()}, folder / "towers.safetensors")

    @classmethod
    def open(cls, folder: Path) -> Encoder:
        """The model saved in `folder`, on the CPU; raises `ArtifactError` where a file is missing or damaged.

        The weights stay in the file, memory-mapped, so that processes that open one model share them.
        """
        tokenizer, space = Tokenizer.open(folder), FeatureSpace.open(folder)
        try:
            shape = json.loads((folder / "towers.json").read_text("utf-8"))
            config, sizes = build(ModelConfig, shape["config"], str(folder)), Sizes(**shape["sizes"])
            with torch.device("meta"):
                towers = TwoTower(config, sizes, np.ones(sizes.grains, np.float32))
            towers.load_state_dict(load_file(folder / "towers.safetensors"), assign=True)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ArtifactError(f"Cannot read the model in {folder}: {error}.", "Train the model again.") from error
        return cls(tokenizer, space, towers.eval())

    @cached_property
    def _compiled(self) -> CompiledQueries:
        return CompiledQueries(self.towers)

    @cached_property
    def _tokens(self) -> Tensor:
        return self.towers.token_table().detach()
