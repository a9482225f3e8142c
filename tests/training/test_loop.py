"""Training: it learns, it goes on after a kill with the same weights, and it refuses what cannot be."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from mmse.core.artifact import read_manifest
from mmse.core.config import build
from mmse.core.errors import ArtifactError, UsageError
from mmse.core.run_folder import DATASET
from mmse.pipeline import Listener, make
from mmse.shop import Shop
from mmse.training import meter
from mmse.training.batches import Batch, Batches
from mmse.training.loop import TrainConfig, TrainingStep, train
from shop import make_shop
from training.test_meter import Clock


class Killed(BaseException):
    """Stands for a kill between two steps."""


def dataset_of(shop: Shop) -> Path:
    return shop.base.parent / "run" / "dataset"


def weights(model: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(model / "towers.safetensors"))


def test_it_learns_and_says_how_fast(small_shop: Shop, tmp_path: Path) -> None:
    steps: list[TrainingStep] = []
    manifest = train(dataset_of(small_shop), tmp_path / "model", small_shop.train, on_step=steps.append)
    first_loss, second_loss = (
        epoch["loss"] for epoch in json.loads((tmp_path / "model" / "training.json").read_text())
    )
    assert second_loss < first_loss
    assert manifest.counts["validation_recall@100"] > 0.5
    assert steps[-1].step == steps[-1].steps == manifest.counts["steps"]
    assert steps[-1].requests_per_s > 0
    assert [s.recall for s in steps if s.recall is not None]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("at_step", [3, 5, 13, 14])
def test_a_killed_run_goes_on_to_the_same_weights(small_shop: Shop, tmp_path: Path, at_step: int) -> None:
    def kill(step: TrainingStep) -> None:
        if step.step == at_step:
            raise Killed

    train(dataset_of(small_shop), tmp_path / "whole", small_shop.train)
    with pytest.raises(Killed):
        train(dataset_of(small_shop), tmp_path / "broken", small_shop.train, on_step=kill)
    assert not (tmp_path / "broken").exists()
    steps: list[TrainingStep] = []
    train(dataset_of(small_shop), tmp_path / "broken", small_shop.train, resume=True, on_step=steps.append)
    if at_step > 4:  # a checkpoint is written after every fourth step and each epoch
        assert steps[0].step > 1
    whole, resumed_weights = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert whole.keys() == resumed_weights.keys()
    assert all(torch.equal(whole[name], resumed_weights[name]) for name in whole)
    manifests = [read_manifest(tmp_path / name, "model") for name in ("whole", "broken")]
    assert manifests[0].fingerprint == manifests[1].fingerprint, "the losses it tells of differ"


def test_an_unfinished_run_of_another_config_is_not_continued(small_shop: Shop, tmp_path: Path) -> None:
    def kill(step: TrainingStep) -> None:
        if step.step == 6:
            raise Killed

    with pytest.raises(Killed):
        train(dataset_of(small_shop), tmp_path / "model", small_shop.train, on_step=kill)
    steps: list[TrainingStep] = []
    other_config = replace(small_shop.train, seed=9)
    train(dataset_of(small_shop), tmp_path / "model", other_config, resume=True, on_step=steps.append)
    assert steps[0].step == 1


def test_a_process_that_is_killed_leaves_no_model_and_can_be_resumed(small_shop: Shop, tmp_path: Path) -> None:
    model = tmp_path / "model"
    code = (
        "import sys, torch; from pathlib import Path; torch.set_num_threads(1)\n"
        "from mmse.pipeline import read_shop; from mmse.training.loop import train\n"
        f"shop = read_shop(Path({str(small_shop.path)!r}))\n"
        f"train(Path({str(dataset_of(small_shop))!r}), Path({str(model)!r}), shop.train,"
        " on_step=lambda s: print(s.step, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 6:
            pass
        process.send_signal(signal.SIGKILL)
    assert not model.exists()
    steps: list[TrainingStep] = []
    start = time.monotonic()
    train(dataset_of(small_shop), model, small_shop.train, resume=True, on_step=steps.append)
    assert steps[0].step > 4
    assert time.monotonic() - start < 60
    assert (model / "manifest.json").is_file()


def test_a_period_without_a_click_is_passed_over(tmp_path: Path) -> None:
    """Clicks began to be logged late: the first of three periods has none."""
    shop = make_shop(tmp_path)
    events = pq.read_table(tmp_path / "shop" / "events")
    moments = events["timestamp"].cast(pa.int64())
    late = pc.greater(moments, pc.quantile(moments, 0.4)[0].as_py())
    for name in ("clicked", "ordered"):
        events = events.set_column(events.schema.get_field_index(name), name, pc.and_(events[name], late))
    pq.write_table(events, tmp_path / "shop" / "events" / "part-00000.parquet")
    make(DATASET, shop, tmp_path / "run", Listener())
    manifest = train(tmp_path / "run" / "dataset", tmp_path / "model", shop.train)
    assert manifest.counts["steps"] > 0


def test_a_budget_of_seconds_ends_a_run_and_a_resumed_one_counts_what_was_used(
    small_shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock by which every batch takes a second and nothing else takes any."""
    clock, draw = Clock(), Batches.make_batch

    def draw_and_tick(self: Batches, *arguments: Any) -> Batch:
        clock.seconds += 1
        return draw(self, *arguments)

    def kill(step: TrainingStep) -> None:
        if step.step == 10:
            raise Killed

    monkeypatch.setattr(meter, "time", clock)
    monkeypatch.setattr(Batches, "make_batch", draw_and_tick)
    config = replace(small_shop.train, epochs=50, budget_seconds=13.5)
    manifest = train(dataset_of(small_shop), tmp_path / "whole", config)
    epochs = json.loads((tmp_path / "whole" / "training.json").read_text())
    assert [epoch["step"] for epoch in epochs] == [12, 14], "the cut epoch is validated too"
    counts = manifest.counts
    assert (counts["steps"], counts["train_seconds"], counts["epochs"]) == (14, 14.0, round(14 / 12, 2))
    with pytest.raises(Killed):
        train(dataset_of(small_shop), tmp_path / "broken", config, on_step=kill)
    resumed_manifest = train(dataset_of(small_shop), tmp_path / "broken", config, resume=True)
    assert resumed_manifest.counts["steps"] == 14
    assert resumed_manifest.fingerprint == manifest.fingerprint, "the rates it went by differ"


def test_a_budget_that_is_over_at_once_still_makes_a_model(small_shop: Shop, tmp_path: Path) -> None:
    config = replace(small_shop.train, budget_seconds=1e-6)
    assert train(dataset_of(small_shop), tmp_path / "model", config).counts["steps"] == 1


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a finished 'dataset' folder"):
        train(tmp_path, tmp_path / "model", TrainConfig())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"recipe": "mmes"}, "recipe"),
        ({"objective": {"temprature": 1}}, "temperature"),
        ({"views": ["text", "sound"]}, "views"),
        ({"epochs": "five"}, "epochs"),
        ({"budget_seconds": 0}, "budget_seconds"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"objective": {"n_random": 0, "in_batch": "none"}}, "negatives"),
        ({"dim": 5}, "multiple of 4"),
        ({"epoch": 3}, "epochs"),
    ],
)
def test_a_wrong_key_or_value_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(TrainConfig, values, "shop.toml [train]")


def test_cuda_is_refused_where_there_is_none(small_shop: Shop, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(UsageError, match="no CUDA device"):
        train(dataset_of(small_shop), tmp_path / "model", replace(small_shop.train, device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_cuda_trains_the_same_recipe(small_shop: Shop, tmp_path: Path) -> None:
    manifest = train(dataset_of(small_shop), tmp_path / "model", replace(small_shop.train, device="cuda"))
    assert manifest.counts["validation_recall@100"] > 0.5
