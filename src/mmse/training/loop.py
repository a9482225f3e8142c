"""The training loop: batch, loss, step, log, validate, save."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from mmse import artifact
from mmse.artifact import Manifest
from mmse.config import build, plain, require
from mmse.errors import UsageError
from mmse.mining.groups import ItemStats
from mmse.model.encoder import Encoder
from mmse.model.features import FeatureSpace, statistics
from mmse.model.recipes import RECIPES, Recipe
from mmse.model.two_tower import VIEWS, ModelConfig
from mmse.tables import ItemsConfig
from mmse.text import Tokenizer, normalise
from mmse.training.batches import Batch, Batches, Dropout
from mmse.training.checkpoint import Checkpoints, Progress
from mmse.training.logged import read_logged
from mmse.training.losses import losses
from mmse.training.shards import Shards
from mmse.training.validation import recall

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. `objective` overrides single keys of the recipe; the rest is towers and budget."""

    recipe: str = "mmse"
    objective: dict[str, Any] = field(default_factory=dict)
    dim: int = 64
    views: tuple[str, ...] = VIEWS
    query_buckets: int = 16_384
    user_buckets: int = 8_192
    vocab_size: int = 4_000
    bigram_buckets: int = 0
    max_tokens: int = 48
    epochs: int = 3
    batch_requests: int = 512
    group_size: int = 8
    learning_rate: float = 4e-3
    warmup_share: float = 0.1
    item_id_dropout: float = 0.4
    query_dropout: float = 0.5
    user_dropout: float = 0.5
    validate_requests: int = 2_000
    checkpoint_steps: int = 200
    cache_mb: int = 2_000
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        require(self.recipe in RECIPES, "recipe", self.recipe, f"one of {', '.join(RECIPES)}")
        for key in ("epochs", "batch_requests", "validate_requests", "checkpoint_steps"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")
        require(self.group_size >= 2, "group_size", self.group_size, "at least 2")
        require(self.vocab_size >= 300, "vocab_size", self.vocab_size, "at least 300")
        require(self.bigram_buckets >= 0, "bigram_buckets", self.bigram_buckets, "0 or more")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "more than 0")
        require(0 <= self.warmup_share < 1, "warmup_share", self.warmup_share, "at least 0 and below 1")
        for key in ("item_id_dropout", "query_dropout", "user_dropout"):
            require(0 <= getattr(self, key) <= 1, key, getattr(self, key), "a share between 0 and 1")
        self.to_recipe()
        self.to_model()

    def to_recipe(self) -> Recipe:
        """The recipe with its overrides."""
        return build(Recipe, plain(RECIPES[self.recipe]) | self.objective, "[train.objective]")

    def to_model(self) -> ModelConfig:
        """The shape of the towers."""
        return ModelConfig(self.dim, self.views, self.query_buckets, self.user_buckets)


@dataclass(frozen=True)
class Step:
    """What a step has to say of itself. `recall` is set after each epoch's validation."""

    epoch: int
    step: int
    steps: int
    loss: float
    retrieval: float
    ranking: float
    requests_per_s: float
    seconds_left: float
    recall: float | None = None


def train(
    groups: Path,
    out: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Manifest:
    """Trains on the folder `groups` and writes the best model, by validation recall, to the folder `out`.

    With `resume` a killed run goes on where its last checkpoint stood, with the same batches; on one thread its
    weights are then bit-identical to those of a run that was never killed. Raises `ArtifactError` where
    `groups` is not fit to train on, `UsageError` where the device is not there.
    """
    made_of = artifact.read_manifest(groups, "groups")
    device, recipe = _device(config.device), config.to_recipe()
    identity = json.dumps([made_of.fingerprint, plain(config)], sort_keys=True)
    checkpoints = Checkpoints(out, hashlib.blake2b(identity.encode(), digest_size=16).hexdigest())
    resume = resume and checkpoints.fits
    items = pq.read_table(groups / "items.parquet")
    stats = ItemStats.open(groups)

    torch.manual_seed(config.seed)
    if resume:
        encoder = Encoder.open(checkpoints.folder)
        features = encoder.encode_items(items)
    else:
        checkpoints.start()
        tokenizer, space = describe(groups, config)
        features = space.encode(items, tokenizer)
        encoder = Encoder.fresh(config.to_model(), tokenizer, space, features)
        encoder.save(checkpoints.folder)
    towers = encoder.towers.to(device).train()
    adam = torch.optim.Adam(towers.parameters(), lr=config.learning_rate, fused=True)
    progress = checkpoints.load(towers, adam) if resume else Progress()

    shards = Shards(groups, encoder, all_stages=recipe.stage_weights[0] > 0, cache_mb=config.cache_mb)
    batches = Batches(
        shards, features, towers.sizes, recipe,
        batch_requests=config.batch_requests, group_size=config.group_size, seed=config.seed,
        dropout=Dropout(config.item_id_dropout, config.query_dropout, config.user_dropout),
    )  # fmt: skip
    valid = read_logged(groups, "valid", config.validate_requests)
    valid_statistics = statistics(stats.at(stats.snapshots.valid))
    steps = len(batches) * config.epochs
    meter = _Meter(steps, progress.step)

    while progress.epoch < config.epochs:
        for batch in batches.epoch(progress.epoch, progress.position):
            for group in adam.param_groups:
                group["lr"] = config.learning_rate * _schedule(progress.step / steps, config.warmup_share)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                retrieval, ranking = losses(encoder, batch.to(device), recipe)
            loss = retrieval + recipe.rank_weight * ranking
            if not torch.isfinite(loss):
                raise UsageError(f"The loss is {loss.item()} at step {progress.step}.", "Lower learning_rate.")
            adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            progress.step += 1
            progress.position += 1
            progress.loss_sum += loss.item()
            progress.loss_steps += 1
            on_step(meter.step(progress, batch, loss, retrieval, ranking))
            if progress.step % config.checkpoint_steps == 0:
                checkpoints.save(towers, adam, progress)
        with meter.paused():
            found = recall(replace(encoder), features, valid_statistics, valid)
        mean_loss = progress.loss_sum / max(progress.loss_steps, 1)
        progress.history.append({"epoch": progress.epoch + 1, "step": progress.step, "loss": mean_loss} | plain(found))
        progress.loss_sum, progress.loss_steps = 0.0, 0
        if found.deciding > progress.best or not progress.best_epoch:
            progress.best, progress.best_epoch = found.deciding, progress.epoch + 1
            checkpoints.save_best(towers)
        on_step(replace(meter.last, epoch=progress.epoch + 1, recall=found.deciding))
        progress.epoch, progress.position = progress.epoch + 1, 0
        checkpoints.save(towers, adam, progress)

    checkpoints.load_best(towers)
    inputs = {"groups": made_of.fingerprint}
    with artifact.writing(out, kind="model", config=plain(config), inputs=inputs) as draft:
        encoder.save(draft.folder)
        (draft.folder / "training.json").write_text(json.dumps(progress.history, indent=2), "utf-8")
        draft.counts |= {
            "requests": shards.n_requests, "steps": steps, "best_epoch": progress.best_epoch,
            "validation_recall@100": progress.best, "parameters": sum(p.numel() for p in towers.parameters()),
            "device": str(device), "threads": torch.get_num_threads(),
        }  # fmt: skip
    checkpoints.clear()
    return artifact.read_manifest(out, "model")


def describe(groups: Path, config: TrainConfig) -> tuple[Tokenizer, FeatureSpace]:
    """A tokenizer and a feature space from the catalogue and the training queries of `groups`."""
    items = pq.read_table(groups / "items.parquet")
    declared = build(ItemsConfig, artifact.read_manifest(groups, "groups").config["items"], str(groups))
    shown = ItemStats.open(groups)
    known = shown.at(shown.snapshots.valid)[:, 0] > 0
    space = FeatureSpace.fit(
        items, known, text=declared.text, categorical=declared.categorical, numeric=declared.numeric
    )
    queries = pq.read_table(groups / "queries.parquet")["query"].to_pylist()
    texts = map(normalise, [*space.item_texts(items), *queries])
    tokenizer = Tokenizer.train(
        texts, vocab_size=config.vocab_size, bigram_buckets=config.bigram_buckets, max_tokens=config.max_tokens
    )
    return tokenizer, space


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("train.device is 'cuda', but no CUDA device is there.", "Use 'cpu' or 'auto'.")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"train.device is '{name}': {error}.", "Use 'cpu', 'cuda' or 'auto'.") from error


def _schedule(done: float, warmup: float) -> float:
    """The learning rate's factor: up to 1 over the warm-up, then in a line down to 0."""
    return done / warmup + 1e-3 if done < warmup else max(0.0, (1 - done) / (1 - warmup))


class _Meter:
    """The loss of the last steps, and the speed since this process began."""

    def __init__(self, steps: int, done: int) -> None:
        self._steps, self._first, self._start = steps, done, time.perf_counter()
        self._requests, self._losses = 0, deque[float](maxlen=50)
        self.last = Step(0, done, steps, float("nan"), float("nan"), float("nan"), 0.0, float("inf"))

    def step(self, progress: Progress, batch: Batch, loss: Tensor, retrieval: Tensor, ranking: Tensor) -> Step:
        self._requests += len(batch)
        self._losses.append(loss.item())
        elapsed = time.perf_counter() - self._start
        left = elapsed / (progress.step - self._first) * (self._steps - progress.step)
        self.last = Step(
            progress.epoch + 1, progress.step, self._steps, float(np.mean(self._losses)), retrieval.item(),
            ranking.item(), self._requests / elapsed, left,
        )  # fmt: skip
        return self.last

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside is not training and does not count as its time."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start
