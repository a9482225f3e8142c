"""What one of two processes does in `test_distributed`: torchrun starts it as it would start `mmse`.

    OUT=folder DATASET=folder pair.py train SHOP.toml --out RUN

Once `mmse train` has brought the two together they write every recipe's gradients and a whole model into OUT. Then the
training that was asked for begins, and the second process is killed at the tenth step of it.
"""

from __future__ import annotations

import os
import signal
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from mmse import pipeline
from mmse.cli import main
from mmse.core.artifact import Manifest
from mmse.core.errors import UsageError
from mmse.dataset.folder import DatasetFolder
from mmse.model.encoder import Encoder
from mmse.model.features import FeatureSpace
from mmse.model.inputs import ItemFeatures
from mmse.model.recipes import RECIPES, Recipe, override
from mmse.shop import Shop
from mmse.text.tokenizer import Tokenizer
from mmse.training import distributed
from mmse.training.batches import Batch, Batches, Dropout
from mmse.training.loop import TrainConfig, train
from mmse.training.losses import add_learned_parameters, compute_losses
from mmse.training.meter import Meter, TrainingStep
from mmse.training.setup import fit_inputs
from mmse.training.shards import Shards

N_REQUESTS = 33
CASES: dict[str, Recipe] = {
    **RECIPES,
    "learned": override(
        RECIPES["mmse"], {"learn_temperature": True, "uncertainty": True, "matryoshka": [8]}, "this test"
    ),
    "hard": override(RECIPES["mmse_logq"], {"hard": {"n": 4, "mix": [0.2, 0.4]}}, "this test"),
}


class Gradients:
    """Gradients of one batch from the same towers, whoever asks."""

    def __init__(self, dataset: Path, config: TrainConfig) -> None:
        self.dataset, self.config = dataset, config

    def of(self, recipe: Recipe, n_requests: int = N_REQUESTS) -> dict[str, torch.Tensor]:
        """The team's summed gradients of the first requests of the first shard, and what they cost as `totals`."""
        team, (encoder, batch) = distributed.current_team(), self.batch(recipe, n_requests)
        part, share = distributed.take_part(batch, team)
        losses = compute_losses(encoder, part, recipe, distributed.make_gather(batch, team))
        retrieval, ranking = share * losses.retrieval, share * losses.ranking
        loss = retrieval + recipe.rank_weight * ranking
        loss.backward()  # type: ignore[no-untyped-call]
        seconds = 7.0 + team.rank
        totals = distributed.add_up(encoder.towers.parameters(), (loss, retrieval, ranking), seconds, team)
        gradients = {name: p.grad.to_dense() for name, p in encoder.towers.named_parameters() if p.grad is not None}
        return gradients | {"totals": torch.tensor(totals)}

    def batch(self, recipe: Recipe, n_requests: int) -> tuple[Encoder, Batch]:
        encoder = self.encoder()
        add_learned_parameters(encoder.towers, recipe)
        shards = self.shards[recipe.stage_weights.teaches_without_click]
        batches = Batches(
            shards,
            self.read[2],
            encoder.towers.sizes,
            recipe,
            batch_requests=n_requests,
            group_size=self.config.group_size,
            seed=0,
            dropout=Dropout(),
        )
        requests, usable = shards.read_usable(0)
        return encoder, batches.make_batch(requests, usable[:n_requests], np.random.default_rng(0))

    def encoder(self) -> Encoder:
        """Towers away from where training starts, since much is 0 there."""
        tokenizer, space, features = self.read
        torch.manual_seed(1)
        encoder = Encoder.create(self.config.to_model(), tokenizer, space, features)
        with torch.no_grad():
            for parameter in encoder.towers.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        return encoder

    @cached_property
    def read(self) -> tuple[Tokenizer, FeatureSpace, ItemFeatures]:
        tokenizer, space = fit_inputs(self.dataset, self.config)
        return tokenizer, space, space.encode(pq.read_table(DatasetFolder(self.dataset).items), tokenizer)

    @cached_property
    def shards(self) -> dict[bool, Shards]:
        return {every: Shards(self.dataset, self.encoder(), all_stages=every) for every in (False, True)}


def together(dataset: Path, output: Path, config: TrainConfig) -> None:
    team, gradients = distributed.current_team(), Gradients(dataset, config)
    for name, recipe in CASES.items():
        save_file(gradients.of(recipe), output / f"{name}-{team.rank}.safetensors")
    save_file(gradients.of(CASES["mmse"], n_requests=1), output / f"single-{team.rank}.safetensors")
    try:
        distributed.require_same_run(f"0{team.rank}", team)
    except UsageError as error:
        (output / f"unlike-{team.rank}").write_text(str(error), "utf-8")
    train(dataset, output / "whole", config)


def deadly() -> None:
    """From here on the second process does not outlive its tenth step."""
    step = Meter.record_step

    def record_or_die(self: Meter, progress: Any, *arguments: Any) -> TrainingStep:
        if progress.step == 10 and distributed.current_team().rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, progress, *arguments)

    Meter.record_step = record_or_die  # type: ignore[method-assign,assignment]


def before_training() -> None:
    make = pipeline.make

    def make_later(name: str, shop: Shop | str | Path, *arguments: Any, **options: Any) -> Manifest:
        assert isinstance(shop, Shop)
        together(Path(os.environ["DATASET"]), Path(os.environ["OUT"]), shop.train)
        deadly()
        return make(name, shop, *arguments, **options)

    pipeline.make = make_later


if __name__ == "__main__":
    torch.set_num_threads(1)
    before_training()
    main()
