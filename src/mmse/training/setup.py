"""What training starts with: the tokenizer, the feature space and the towers of a shop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from mmse.core import artifact
from mmse.core.config import build
from mmse.dataset.folder import DatasetFolder, ItemStats
from mmse.model.encoder import Encoder
from mmse.model.features import FeatureSpace
from mmse.model.inputs import ItemFeatures
from mmse.model.pretrained_encoder import PretrainedEncoder, open_pretrained
from mmse.model.warm_start import fit_token_table
from mmse.sources.tables import ItemsConfig
from mmse.text.normalise import normalise
from mmse.text.tokenizer import Tokenizer
from mmse.training.config import TrainConfig


def create_encoder(dataset: Path, config: TrainConfig) -> tuple[Encoder, ItemFeatures]:
    """The encoder that training on `dataset` starts with, and the items' features.

    Raises `UsageError` where a pretrained model that `config` names is missing or unsuitable.
    """
    transformer = open_pretrained(config.transformer, "transformer") if config.transformer is not None else None
    teacher = open_pretrained(config.warm_start, "warm_start", sentences=True) if config.warm_start else None
    tokenizer, space = fit_inputs(dataset, config, transformer)
    items = pq.read_table(DatasetFolder(dataset).items)
    features = space.encode(items, tokenizer)
    model = config.to_model(tuple(space.shop_columns["vectors"]))
    encoder = Encoder.create(model, tokenizer, space, features, transformer)
    if teacher is not None:
        weights = encoder.towers.log_weights.detach().exp().numpy()
        texts = _sample_texts([space.item_texts(items), _read_queries(dataset)], config.warm_texts, config.seed)
        table = fit_token_table(teacher, tokenizer, config.dim, weights, texts)
        with torch.no_grad():
            encoder.towers.tokens.copy_(torch.from_numpy(table))
    return encoder, features


def fit_inputs(
    dataset: Path, config: TrainConfig, transformer: PretrainedEncoder | None = None
) -> tuple[Tokenizer, FeatureSpace]:
    """A tokenizer and a feature space, fitted to the catalogue and the training queries of `dataset`.

    With a `transformer` as the text encoder, its own tokenizer is used.
    """
    items = pq.read_table(DatasetFolder(dataset).items)
    items_config = build(ItemsConfig, artifact.read_manifest(dataset, "dataset").config["items"], str(dataset))
    stats = ItemStats.open(dataset)
    in_training = stats.at(stats.snapshots.valid)[:, 0] > 0
    space = FeatureSpace.fit(
        items,
        in_training,
        text=items_config.text,
        categorical=items_config.categorical,
        numeric=items_config.numeric,
        vectors=items_config.vectors if config.vectors else (),
    )
    if transformer is not None:
        return Tokenizer.pretrained(transformer.tokenizer, max_tokens=config.max_tokens), space
    texts = map(normalise, [*space.item_texts(items), *_read_queries(dataset)])
    tokenizer = Tokenizer.train(
        texts, vocab_size=config.vocab_size, bigram_buckets=config.bigram_buckets, max_tokens=config.max_tokens
    )
    return tokenizer, space


def _read_queries(dataset: Path) -> list[str]:
    """The distinct queries of the training window."""
    queries: list[str] = pq.read_table(DatasetFolder(dataset).queries)["query"].to_pylist()
    return queries


def _sample_texts(kinds: Sequence[list[str]], n: int, seed: int) -> list[str]:
    """At most `n` random texts, equally many of each kind; where one kind has few, the others fill up."""
    rng = np.random.default_rng([seed, 3])
    sample: list[str] = []
    for nth, texts in enumerate(sorted(kinds, key=len)):
        share = (n - len(sample)) // (len(kinds) - nth)
        sample += [texts[i] for i in rng.permutation(len(texts))[:share]]
    return sample
