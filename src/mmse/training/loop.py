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
from mmse.core.artifact import Manifest, explain_os_errors
from mmse.core.errors import UsageError
from mmse.dataset.folder import DatasetFolder, ItemStats
from mmse.model.encoder import Encoder
from mmse.model.inputs import ItemFeatures
from mmse.model.item_statistics import compute_statistics
from mmse.model.warm_start import restore_text_view
from mmse.schema.stages import Stage
from mmse.training import distributed
from mmse.training.batches import Batches, Dropout
from mmse.training.checkpoint import Checkpoints, TrainingProgress
from mmse.training.config import TrainConfig
from mmse.training.conversion import learn_conversion
from mmse.training.distributed import Team
from mmse.training.losses import add_learned_parameters, compute_losses
from mmse.training.meter import Meter, TrainingStep
from mmse.training.optimizer import TowerOptimizer
from mmse.training.setup import create_encoder
from mmse.training.shards import Shards
from mmse.training.targets import read_logged_requests
from mmse.training.validation import measure_recall

__all__ = ["TrainConfig", "TrainingStep", "train"]


def train(
    dataset: Path,
    target: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    on_step: Callable[[TrainingStep], None] = lambda step: None,
) -> Manifest:
    """Trains on the folder `dataset` and writes the model to the folder `target`.

    The model has the last weights, or with `config.keep` "best" those with the best validation recall. With `resume` a
    killed run continues from its last checkpoint with the same batches; on one thread its weights are then
    bit-identical to those of a run that was never killed, unless a budget of time ended it. If the processes of one
    `distributed.Team` call this together, they train one model and the first of them writes it. Raises `ArtifactError`
    where `dataset` is not fit to train on, `UsageError` where the device does not exist.
    """
    dataset_manifest = artifact.read_manifest(dataset, "dataset")
    team, recipe = distributed.current_team(), config.to_recipe()
    device = distributed.choose_device(config.device, team)
    identity = json.dumps([dataset_manifest.fingerprint, config.to_manifest()], sort_keys=True)
    digest = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    distributed.require_same_run(digest, team)
    checkpoints = Checkpoints(target, digest, writes=team.leads)
    resume = team.broadcast([float(team.leads and resume and checkpoints.can_resume)]) == [1.0]

    encoder, features = _open_encoder(dataset, config, checkpoints, team, resume=resume)
    add_learned_parameters(encoder.towers, recipe)
    towers = encoder.towers.to(device).train()
    optimizer = TowerOptimizer(towers, config.transformer_learning_rate / config.learning_rate)
    progress = checkpoints.load(towers, optimizer) if resume else TrainingProgress()

    reads_clicks = recipe.stage_map[Stage.CLICKED] == Stage.CLICKED
    shards = Shards(
        dataset,
        encoder,
        all_stages=recipe.stage_weights.teaches_without_click,
        cache_mb=config.cache_mb,
        lowest=recipe.lowest_stage,
        reformulations=recipe.reformulations,
        catalogue_below=config.catalogue_below,
        catalogue_stage=Stage.CLICKED if reads_clicks else Stage.ORDERED,
        has_slips=config.slip_share > 0,
        seed=config.seed,
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
        dropout=Dropout(
            config.item_id_dropout,
            config.query_dropout,
            config.user_dropout,
            config.vector_dropout,
            config.listing_dropout,
            config.slip_share,
        ),
        conversion=conversion if recipe.expected_orders else None,
    )
    valid, stats = read_logged_requests(dataset, "valid", config.validate_requests), ItemStats.open(dataset)
    valid_statistics = compute_statistics(stats.at(stats.snapshots.valid))
    meter = Meter(len(batches) * config.epochs, config.budget_seconds, progress)

    while progress.epoch < config.epochs and (progress.position or not meter.is_over(progress)):
        for batch in batches.epoch(progress.epoch, progress.position):
            if meter.is_over(progress):
                break
            rate = config.learning_rate * _learning_rate_factor(meter.share(progress), config.warmup_share)
            part, share = distributed.take_part(batch, team)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                batch_losses = compute_losses(encoder, part.to(device), recipe, distributed.make_gather(batch, team))
            retrieval, ranking = share * batch_losses.retrieval, share * batch_losses.ranking
            loss = retrieval + recipe.rank_weight * ranking
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            total = distributed.add_up(towers.parameters(), (loss, retrieval, ranking), meter.seconds, team)
            if not math.isfinite(total.loss):
                raise UsageError(f"The loss is {total.loss} at step {progress.step}.", "Lower learning_rate.")
            optimizer.step(rate)
            progress.record_step(total.loss, total.seconds)
            on_step(meter.record_step(progress, len(batch), total.loss, total.retrieval, total.ranking))
            if progress.step % config.checkpoint_steps == 0:
                with meter.pause():
                    checkpoints.save(towers, optimizer, progress)
        with meter.pause():
            if team.leads:
                recall = measure_recall(_final_encoder(encoder, config, checkpoints), features, valid_statistics, valid)
                validation_recall = recall.selection_recall if len(valid) else None
                if progress.record_validation(recall):
                    checkpoints.save_best(towers)
                on_step(replace(meter.latest, epoch=progress.epoch + 1, recall=validation_recall))
            progress.epoch, progress.position = progress.epoch + 1, 0
            checkpoints.save(towers, optimizer, progress)

    if team.leads:
        checkpoints.load_final(towers, config.keep)
        inputs = {"dataset": dataset_manifest.fingerprint}
        with artifact.write_folder(target, kind="model", config=config.to_manifest(), inputs=inputs) as draft:
            _final_encoder(encoder, config, checkpoints).save(draft.folder)
            (draft.folder / "training.json").write_text(json.dumps(progress.history, indent=2), "utf-8")
            draft.counts |= {
                "requests": shards.n_requests,
                "requests_from": {"log": shards.n_from_log, "catalogue": shards.n_requests - shards.n_from_log},
                "steps": progress.step,
                "epochs": round(progress.step / len(batches), 2),
                "train_seconds": round(progress.seconds, 2),
                "best_epoch": progress.best_epoch,
                "validation_recall@100": progress.best if len(valid) else None,
                "parameters": sum(p.numel() for p in towers.parameters()),
                "device": str(device),
                "threads": torch.get_num_threads(),
                "processes": team.size,
            }
        checkpoints.clear()
    team.wait()
    return artifact.read_manifest(target, "model")


def _open_encoder(
    dataset: Path, config: TrainConfig, checkpoints: Checkpoints, team: Team, *, resume: bool
) -> tuple[Encoder, ItemFeatures]:
    """The encoder that training starts or continues with, the same on every process, and the items' features."""
    torch.manual_seed(config.seed)
    if team.leads and not resume:
        checkpoints.start()
        encoder, features = create_encoder(dataset, config)
        with explain_os_errors(checkpoints.folder):
            encoder.save(checkpoints.folder)
        team.wait()
        return encoder, features
    team.wait()
    encoder = Encoder.open(checkpoints.folder)
    return encoder, encoder.encode_items(pq.read_table(DatasetFolder(dataset).items))


def _final_encoder(encoder: Encoder, config: TrainConfig, checkpoints: Checkpoints) -> Encoder:
    """The encoder that the run would write now: with `warm_share`, its text view is moved back towards the start."""
    if config.warm_start is None or config.warm_share == 0:
        return replace(encoder)
    return restore_text_view(encoder, Encoder.open(checkpoints.folder), config.warm_share)


def _learning_rate_factor(share: float, warmup: float) -> float:
    """The factor of the learning rate at a `share` of the run: linear up to 1 in the warm-up, then linear down to 0."""
    return share / warmup + 1e-3 if share < warmup else max(0.0, (1 - share) / (1 - warmup))
