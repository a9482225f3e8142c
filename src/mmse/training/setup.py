"""What the towers of a shop read, grains of text and features, and the towers that training starts with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from mmse.core import artifact
from mmse.core.config import build
from mmse.dataset.folder import ItemStats
from mmse.model.encoder import Encoder
from mmse.model.features import FeatureSpace, ItemFeatures
from mmse.model.pretrained import Pretrained, open_pretrained
from mmse.model.warm_start import warm_table
from mmse.sources.tables import ItemsConfig
from mmse.text.tokenizer import Tokenizer, normalise
from mmse.training.config import TrainConfig


def first_encoder(dataset: Path, config: TrainConfig) -> tuple[Encoder, ItemFeatures]:
    """The encoder that training on `dataset` starts with, and the items as it reads them.

    Raises `UsageError` where a pretrained model that `config` names is not there or not fit.
    """
    reads = open_pretrained(config.transformer, "transformer") if config.transformer is not None else None
    teacher = open_pretrained(config.warm_start, "warm_start", sentences=True) if config.warm_start else None
    tokenizer, space = describe(dataset, config, reads)
    items = pq.read_table(dataset / "items.parquet")
    features = space.encode(items, tokenizer)
    encoder = Encoder.fresh(config.to_model(), tokenizer, space, features, reads)
    if teacher is not None:
        weights = encoder.towers.log_weights.detach().exp().numpy()
        texts = _some([space.item_texts(items), _queries(dataset)], config.warm_texts, config.seed)
        table = warm_table(teacher, tokenizer, config.dim, weights, texts)
        with torch.no_grad():
            encoder.towers.tokens.copy_(torch.from_numpy(table))
    return encoder, features


def describe(dataset: Path, config: TrainConfig, reads: Pretrained | None = None) -> tuple[Tokenizer, FeatureSpace]:
    """A tokenizer and a feature space from the catalogue and the training queries of `dataset`.

    The tokenizer is that of the transformer that `reads` the text, where there is one.
    """
    items = pq.read_table(dataset / "items.parquet")
    declared = build(ItemsConfig, artifact.read_manifest(dataset, "dataset").config["items"], str(dataset))
    shown = ItemStats.open(dataset)
    known = shown.at(shown.snapshots.valid)[:, 0] > 0
    space = FeatureSpace.fit(
        items, known, text=declared.text, categorical=declared.categorical, numeric=declared.numeric
    )
    if reads is not None:
        return Tokenizer.pretrained(reads.tokenizer, max_tokens=config.max_tokens), space
    texts = map(normalise, [*space.item_texts(items), *_queries(dataset)])
    tokenizer = Tokenizer.train(
        texts, vocab_size=config.vocab_size, bigram_buckets=config.bigram_buckets, max_tokens=config.max_tokens
    )
    return tokenizer, space


def _queries(dataset: Path) -> list[str]:
    """The different queries of the training window."""
    queries: list[str] = pq.read_table(dataset / "queries.parquet")["query"].to_pylist()
    return queries


def _some(kinds: Sequence[list[str]], n: int, seed: int) -> list[str]:
    """At most `n` texts, drawn at random: as many of each kind, and more of one where there are few of another."""
    rng = np.random.default_rng([seed, 3])
    drawn: list[str] = []
    for nth, texts in enumerate(sorted(kinds, key=len)):
        share = (n - len(drawn)) // (len(kinds) - nth)
        drawn += [texts[place] for place in rng.permutation(len(texts))[:share]]
    return drawn
