"""The training loop: batch, loss, step, log, validate, save."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import torch

from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.errors import UsageError
from mmse.dataset.folder import ItemStats
from mmse.model.encoder import Encoder
from mmse.model.features import ItemFeatures, statistics
from mmse.model.warm_start import settled
from mmse.training import distributed
from mmse.training.batches import Batches, Dropout
from mmse.training.checkpoint import Checkpoints, Progress
from mmse.training.config import TrainConfig
from mmse.training.conversion import learn_conversion
from mmse.training.distributed import Team
from mmse.training.losses import losses, prepare
from mmse.training.meter import Meter, Step
from mmse.training.setup import describe, first_encoder
from mmse.training.shards import Shards
from mmse.training.targets import read_logged
from mmse.training.validation import recall

__all__ = ["Step", "TrainConfig", "describe", "train"]


def train(
    dataset: Path,
    out: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Manifest:
    """Trains on the folder `dataset` and writes the model, the last or the best by validation, to the folder `out`.

    With `resume` a killed run goes on where its last checkpoint stood, with the same batches; on one thread its
    weights are then bit-identical to those of a run that was never killed, unless it was time that ended it. Where the
    processes of one `distributed.team` call this together they train one model, and the first of them writes it.
    Raises `ArtifactError` where `dataset` is not fit to train on, `UsageError` where the device is not there.
    """
    made_of = artifact.read_manifest(dataset, "dataset")
    team, recipe = distributed.team(), config.to_recipe()
    device = distributed.device_of(config.device, team)
    identity = json.dumps([made_of.fingerprint, config.whole()], sort_keys=True)
    digest = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    distributed.all_alike(digest, team)
    checkpoints = Checkpoints(out, digest, writes=team.leads)
    resume = team.agreed([float(team.leads and resume and checkpoints.fits)]) == [1.0]

    encoder, features = _start(dataset, config, checkpoints, team, resume=resume)
    prepare(encoder.towers, recipe)
    towers = encoder.towers.to(device).train()
    adam = torch.optim.Adam(towers.learned(config.transformer_learning_rate / config.learning_rate), fused=True)
    progress = checkpoints.load(towers, adam) if resume else Progress()

    shards = Shards(
        dataset,
        encoder,
        all_stages=recipe.stage_weights.unclicked_teach,
        cache_mb=config.cache_mb,
        lowest=recipe.lowest_row,
        reformulations=recipe.reformulations,
    )
    conversion = learn_conversion(shards, features, towers, recipe)
    batches = Batches(
        shards,
        features,
        towers.sizes,
        recipe,
        batch_requests=config.batch_requests,
        group_size=config.group_size,
        seed=config.seed,
        dropout=Dropout(config.item_id_dropout, config.query_dropout, config.user_dropout),
        worth=conversion if recipe.expected_orders else None,
    )
    valid, stats = read_logged(dataset, "valid", config.validate_requests), ItemStats.open(dataset)
    valid_statistics = statistics(stats.at(stats.snapshots.valid))
    meter = Meter(len(batches) * config.epochs, config.budget_seconds, progress)

    while progress.epoch < config.epochs and (progress.position or not meter.spent(progress)):
        for batch in batches.epoch(progress.epoch, progress.position):
            if meter.spent(progress):
                break
            rate = config.learning_rate * _schedule(meter.share(progress), config.warmup_share)
            for group in adam.param_groups:
                group["lr"] = rate * group["share"]
            part, share = distributed.part_of(batch, team)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                found = losses(encoder, part.to(device), recipe, distributed.gather_of(batch, team))
            retrieval, ranking = share * found.retrieval, share * found.ranking
            loss = retrieval + recipe.rank_weight * ranking
            adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            total = distributed.add_up(towers.parameters(), (loss, retrieval, ranking), meter.seconds, team)
            if not math.isfinite(total.loss):
                raise UsageError(f"The loss is {total.loss} at step {progress.step}.", "Lower learning_rate.")
            adam.step()
            progress.count(total.loss, total.seconds)
            on_step(meter.step(progress, len(batch), total.loss, total.retrieval, total.ranking))
            if progress.step % config.checkpoint_steps == 0:
                with meter.paused():
                    checkpoints.save(towers, adam, progress)
        with meter.paused():
            if team.leads:
                recalled = recall(_finished(encoder, config, checkpoints), features, valid_statistics, valid)
                if progress.validated(recalled):
                    checkpoints.save_best(towers)
                on_step(replace(meter.last, epoch=progress.epoch + 1, recall=recalled.deciding))
            progress.epoch, progress.position = progress.epoch + 1, 0
            checkpoints.save(towers, adam, progress)

    if team.leads:
        checkpoints.load_kept(towers, config.keep)
        inputs = {"dataset": made_of.fingerprint}
        with artifact.writing(out, kind="model", config=config.whole(), inputs=inputs) as draft:
            _finished(encoder, config, checkpoints).save(draft.folder)
            (draft.folder / "training.json").write_text(json.dumps(progress.history, indent=2), "utf-8")
            draft.counts |= {
                "requests": shards.n_requests,
                "steps": progress.step,
                "epochs": round(progress.step / len(batches), 2),
                "train_seconds": round(progress.seconds, 2),
                "best_epoch": progress.best_epoch,
                "validation_recall@100": progress.best,
                "parameters": sum(p.numel() for p in towers.parameters()),
                "device": str(device),
                "threads": torch.get_num_threads(),
                "processes": team.size,
            }
        checkpoints.clear()
    team.wait()
    return artifact.read_manifest(out, "model")


def _start(
    dataset: Path, config: TrainConfig, checkpoints: Checkpoints, team: Team, *, resume: bool
) -> tuple[Encoder, ItemFeatures]:
    """The encoder that training starts or goes on with, the same on every process, and the items as it reads them."""
    torch.manual_seed(config.seed)
    if team.leads and not resume:
        checkpoints.start()
        encoder, features = first_encoder(dataset, config)
        encoder.save(checkpoints.folder)
        team.wait()
        return encoder, features
    team.wait()
    encoder = Encoder.open(checkpoints.folder)
    return encoder, encoder.encode_items(pq.read_table(dataset / "items.parquet"))


def _finished(encoder: Encoder, config: TrainConfig, checkpoints: Checkpoints) -> Encoder:
    """The encoder as it would be kept now: with a warm start, its text view part of the way back to that."""
    if config.warm_start is None or config.warm_share == 0:
        return replace(encoder)
    return settled(encoder, Encoder.open(checkpoints.folder), config.warm_share)


def _schedule(done: float, warmup: float) -> float:
    """The learning rate's factor: up to 1 over the warm-up, then in a line down to 0."""
    return done / warmup + 1e-3 if done < warmup else max(0.0, (1 - done) / (1 - warmup))
