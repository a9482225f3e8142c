"""A model and its folder: text in, fused vectors out, the same for training, evaluation and serving."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32, Int32
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmse.core.config import build, plain_values
from mmse.core.errors import ArtifactError
from mmse.core.json_files import parse_json
from mmse.model.compiled_tower import CompiledQueryTower
from mmse.model.features import FeatureSpace
from mmse.model.fusion import fuse_item, fuse_query
from mmse.model.inputs import ItemFeatures, Sizes, make_item_inputs, make_query_inputs
from mmse.model.pretrained_encoder import PretrainedEncoder, build_from_shape, read_shape
from mmse.model.towers import ModelConfig, TwoTower, file_name
from mmse.model.transformer import TransformerText
from mmse.model.views.view import ViewLabel
from mmse.text.hashing import bucket
from mmse.text.normalise import normalise
from mmse.text.tokenizer import Tokenizer, document_frequency

JOINT_VIEW = "together"
"""The name of the only view of towers with pre-fusion."""

_CHUNK = 8_192
_EXTRA = "extra."
_TRANSFORMER = "transformer.json"


@dataclass(frozen=True)
class Encoder:
    """A tokenizer, a feature space and towers that belong together."""

    tokenizer: Tokenizer
    space: FeatureSpace
    towers: TwoTower

    @classmethod
    def create(
        cls,
        config: ModelConfig,
        tokenizer: Tokenizer,
        space: FeatureSpace,
        items: ItemFeatures,
        transformer: PretrainedEncoder | None = None,
    ) -> Encoder:
        """An untrained encoder; its token weights start at the grains' IDF over `items`.

        `transformer` reads the text where `config.text_encoder` is "transformer"; otherwise it is None.
        """
        sizes = space.sizes(tokenizer.n_grains)
        documents = document_frequency(items.text, tokenizer.n_grains)
        idf = np.log1p(len(items) / (documents + 1))
        text = None if transformer is None else TransformerText(transformer.model, config.dim)
        return cls(tokenizer, space, TwoTower(config, sizes, (idf / idf.mean()).astype(np.float32), text))

    @property
    def views(self) -> tuple[str, ...]:
        """The names of the views, in their order in a fused vector."""
        return tuple(self.widths)

    @property
    def widths(self) -> dict[str, int]:
        """How many numbers of a fused vector belong to each view, in order."""
        config = self.towers.config
        widths = {view.name: config.dim for view in config.gated_views}
        if config.fusion == "pre":
            widths = {JOINT_VIEW: sum(widths.values())}
        return widths | {view.name: 1 for view in config.number_views}

    @property
    def phrases(self) -> dict[str, str]:
        """Why an item was found by each view, in words."""
        config = self.towers.config
        labels: tuple[ViewLabel, ...] = (*config.gated_views, *config.number_views)
        return {label.name: label.phrase for label in labels}

    @property
    def width(self) -> int:
        """The length of a fused vector."""
        return sum(self.widths.values())

    @property
    def device(self) -> torch.device:
        """The device of the towers."""
        return self.towers.device

    @property
    def reads_any_word(self) -> bool:
        """Whether it was trained on more than the shop's words, so that a word which the shop lacks has a meaning."""
        return self.towers.config.text_encoder == "transformer"

    def query_bucket(self, query: str) -> int:
        """The row of the query-memory table for the whole text of `query`; never 0."""
        return 1 + bucket(normalise(query), self.towers.config.query_buckets)

    def user_bucket(self, user_id: str | None) -> int:
        """The row of the user table for a shopper; 0 for an unknown one."""
        return 0 if user_id is None else 1 + bucket(user_id, self.towers.config.user_buckets)

    @torch.inference_mode()
    def embed_queries(
        self, texts: Sequence[str], users: Sequence[str | None], history: Int32[np.ndarray, "n ids"]
    ) -> Float32[np.ndarray, "n width"]:
        """Fused vectors of `n` queries, each by one shopper; `history` holds shopper-table ids, 0 for none."""
        vectors = np.empty((len(texts), self.width), np.float32)
        for start in range(0, len(texts), _CHUNK):
            span = slice(start, start + _CHUNK)
            inputs = make_query_inputs(
                self.tokenizer.encode([normalise(t) for t in texts[span]]),
                np.array([self.query_bucket(t) for t in texts[span]], np.int64),
                np.array([self.user_bucket(u) for u in users[span]], np.int64),
                history[span],
            )
            views, gates = self.towers.embed_queries(inputs.to(self.device), self._tokens)
            chunk = fuse_query(views, gates).float().cpu().numpy()
            vectors[span, : chunk.shape[1]], vectors[span, chunk.shape[1] :] = chunk, 1
        return vectors

    def embed_queries_compiled(
        self, texts: Sequence[str], users: Sequence[str | None], history: Int32[np.ndarray, "n ids"]
    ) -> Float32[np.ndarray, "n width"]:
        """`embed_queries` without PyTorch, equal to within rounding: much faster for one query, slower for thousands.

        The first call compiles the towers; they must not change afterwards. With a transformer as the text encoder
        this is `embed_queries`, since a transformer is not compiled.
        """
        if self.reads_any_word:
            return self.embed_queries(texts, users, history)
        return self._compiled_tower.embed(
            self.tokenizer.encode([normalise(text) for text in texts]),
            np.array([self.query_bucket(text) for text in texts], np.int64),
            np.array([self.user_bucket(user) for user in users], np.int64),
            history,
        )

    @torch.inference_mode()
    def embed_items(
        self, features: ItemFeatures, statistics: Float32[np.ndarray, "n statistics"]
    ) -> Float32[np.ndarray, "n width"]:
        """Fused vectors of all items of `features`, with their `statistics` from the log."""
        vectors = np.empty((len(features), self.width), np.float32)
        for start in range(0, len(features), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(features)), dtype=np.int64)
            inputs = make_item_inputs(features.take(rows), statistics[rows]).to(self.device)
            views = fuse_item(self.towers.embed_items(inputs, self._tokens)).float()
            chunk = vectors[start : start + _CHUNK]
            chunk[:, : views.shape[1]] = views.cpu().numpy()
            chunk[:, views.shape[1] :] = self.towers.score_items(inputs).cpu().numpy()
        return vectors

    def encode_items(self, items: pa.Table) -> ItemFeatures:
        """The features of the rows of `items` (the columns of `dataset/items.parquet`)."""
        return self.space.encode(items, self.tokenizer)

    def save(self, folder: Path) -> None:
        """Writes the model into `folder` as safetensors and JSON; reading them runs no code."""
        self.tokenizer.save(folder)
        self.space.save(folder)
        shape = {"config": plain_values(self.towers.config), "sizes": self.towers.sizes.to_plain()}
        (folder / "towers.json").write_text(json.dumps(shape, indent=2), "utf-8")
        if self.towers.transformer is not None:
            (folder / _TRANSFORMER).write_text(json.dumps(read_shape(self.towers.transformer.model), indent=2), "utf-8")
        weights = {k: v for k, v in self.towers.state_dict().items() if not k.startswith(_EXTRA)}
        files = {file_name(name): weight.contiguous().cpu() for name, weight in weights.items()}
        assert len(files) == len(weights), "two weights have the same name in the file"
        save_file(files, folder / "towers.safetensors")

    @classmethod
    def open(cls, folder: Path) -> Encoder:
        """The model saved in `folder`, on the CPU; raises `ArtifactError` where a file is missing or damaged.

        The weights stay in the file, memory-mapped, so that several processes share them.
        """
        tokenizer, space = Tokenizer.open(folder), FeatureSpace.open(folder)
        try:
            shape = parse_json((folder / "towers.json").read_text("utf-8"))
            config, sizes = build(ModelConfig, shape["config"], str(folder)), Sizes.from_plain(shape["sizes"])
            text = None
            if config.text_encoder == "transformer":
                text = TransformerText(
                    build_from_shape(parse_json((folder / _TRANSFORMER).read_text("utf-8"))), config.dim
                )
            with torch.device("meta"):
                towers = TwoTower(config, sizes, np.ones(sizes.grains, np.float32), text)
            weights = load_file(folder / "towers.safetensors")
            towers.load_state_dict({name: weights.pop(file_name(name)) for name in towers.state_dict()}, assign=True)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ArtifactError(f"Cannot read the model in {folder}: {error}.", "Train the model again.") from error
        return cls(tokenizer, space, towers.eval())

    @cached_property
    def _compiled_tower(self) -> CompiledQueryTower:
        return CompiledQueryTower(self.towers)

    @cached_property
    def _tokens(self) -> Tensor:
        return self.towers.token_table().detach()
