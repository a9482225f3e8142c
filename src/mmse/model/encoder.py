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

from mmse.core.config import build, plain
from mmse.core.errors import ArtifactError
from mmse.model.compiled import CompiledQueries
from mmse.model.features import FeatureSpace, ItemFeatures
from mmse.model.fusion import fuse_item, fuse_query
from mmse.model.inputs import Sizes, item_inputs, query_inputs
from mmse.model.pretrained import Pretrained, of_shape, shape_of
from mmse.model.towers import ModelConfig, TwoTower
from mmse.model.transformer import TransformerText
from mmse.text.tokenizer import Tokenizer, bucket, document_frequency, normalise

CONVERSION = "conversion"
"""The name of the view of one number: how well an item sells once clicked."""

TOGETHER = "together"
"""The name of the one view of towers that fuse first."""

_CHUNK = 8_192
_EXTRA = "extra."
_TRANSFORMER = "transformer.json"


@dataclass(frozen=True)
class Encoder:
    """Tokenizer, feature space and towers that belong together."""

    tokenizer: Tokenizer
    space: FeatureSpace
    towers: TwoTower

    @classmethod
    def fresh(
        cls,
        config: ModelConfig,
        tokenizer: Tokenizer,
        space: FeatureSpace,
        items: ItemFeatures,
        pretrained: Pretrained | None = None,
    ) -> Encoder:
        """An untrained encoder whose token weights start at the grains' IDF over `items`.

        `pretrained` is what reads the text where `config.text_encoder` is "transformer".
        """
        sizes = Sizes(tokenizer.n_grains, space.n_identity, space.n_item_ids, space.n_shopper, space.n_numbers)
        documents = document_frequency(items.text, tokenizer.n_grains)
        idf = np.log1p(len(items) / (documents + 1))
        text = None if pretrained is None else TransformerText(pretrained.model, config.dim)
        return cls(tokenizer, space, TwoTower(config, sizes, (idf / idf.mean()).astype(np.float32), text))

    @property
    def views(self) -> tuple[str, ...]:
        """The names of the views, in the order in which they stand in a fused vector."""
        return tuple(self.widths)

    @property
    def widths(self) -> dict[str, int]:
        """How many numbers of a fused vector belong to each view, in their order."""
        config = self.towers.config
        every = dict.fromkeys(config.views, config.dim)
        if config.fusion == "pre":
            every = {TOGETHER: sum(every.values())}
        return every | ({CONVERSION: 1} if config.conversion else {})

    @property
    def width(self) -> int:
        """The length of a fused vector."""
        return sum(self.widths.values())

    @property
    def device(self) -> torch.device:
        """Where the towers live."""
        return self.towers.device

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
            fused = fuse_query(views, gates).float().cpu().numpy()
            vectors[span, : fused.shape[1]], vectors[span, fused.shape[1] :] = fused, 1
        return vectors

    def served(
        self, texts: Sequence[str], users: Sequence[str | None], history: Int32[np.ndarray, "n ids"]
    ) -> Float32[np.ndarray, "n width"]:
        """`queries` without PyTorch, to within rounding: many times as fast for one query, slower for thousands.

        From the first call on, the towers are taken to stay as they are. Where a transformer reads the text, this is
        `queries`: it has no smaller form.
        """
        if self.towers.config.text_encoder == "transformer":
            return self.queries(texts, users, history)
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
            fused = fuse_item(self.towers.embed_items(inputs, self._tokens)).float()
            if self.towers.config.conversion:
                fused = torch.cat([fused, self.towers.sells_by(inputs)], dim=1)
            vectors[rows] = fused.cpu().numpy()
        return vectors

    def encode_items(self, items: pa.Table) -> ItemFeatures:
        """The features of the rows of `items` (the columns of `dataset/items.parquet`)."""
        return self.space.encode(items, self.tokenizer)

    def save(self, folder: Path) -> None:
        """Writes the model into `folder`: safetensors and JSON, nothing that runs code when it is read."""
        self.tokenizer.save(folder)
        self.space.save(folder)
        shape = {"config": plain(self.towers.config), "sizes": plain(self.towers.sizes)}
        (folder / "towers.json").write_text(json.dumps(shape, indent=2), "utf-8")
        if self.towers.transformer is not None:
            (folder / _TRANSFORMER).write_text(json.dumps(shape_of(self.towers.transformer.model), indent=2), "utf-8")
        kept = {k: v.contiguous().cpu() for k, v in self.towers.state_dict().items() if not k.startswith(_EXTRA)}
        save_file(kept, folder / "towers.safetensors")

    @classmethod
    def open(cls, folder: Path) -> Encoder:
        """The model saved in `folder`, on the CPU; raises `ArtifactError` where a file is missing or damaged.

        The weights stay in the file, memory-mapped, so that processes that open one model share them.
        """
        tokenizer, space = Tokenizer.open(folder), FeatureSpace.open(folder)
        try:
            shape = json.loads((folder / "towers.json").read_text("utf-8"))
            config, sizes = build(ModelConfig, shape["config"], str(folder)), Sizes(**shape["sizes"])
            text = None
            if config.text_encoder == "transformer":
                text = TransformerText(of_shape(json.loads((folder / _TRANSFORMER).read_text("utf-8"))), config.dim)
            with torch.device("meta"):
                towers = TwoTower(config, sizes, np.ones(sizes.grains, np.float32), text)
            kept = load_file(folder / "towers.safetensors")
            towers.load_state_dict({k: v for k, v in kept.items() if not k.startswith(_EXTRA)}, assign=True)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ArtifactError(f"Cannot read the model in {folder}: {error}.", "Train the model again.") from error
        return cls(tokenizer, space, towers.eval())

    @cached_property
    def _compiled(self) -> CompiledQueries:
        return CompiledQueries(self.towers)

    @cached_property
    def _tokens(self) -> Tensor:
        return self.towers.token_table().detach()
