"""Checkpoints: what an unfinished training run keeps on disk, so that it can be resumed after a kill."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from mmse.core.artifact import explain_os_errors
from mmse.core.config import plain_values
from mmse.core.drafts import sync
from mmse.core.errors import ArtifactError
from mmse.core.json_files import parse_json
from mmse.model.towers import TwoTower
from mmse.training.optimizer import TowerOptimizer
from mmse.training.validation import Recall


@dataclass
class TrainingProgress:
    """The state of a run: the next batch is `position` of `epoch`, after `step` steps in all.

    `loss_sum` is over the `loss_steps` steps of the epoch so far, also those of an earlier process; `seconds` is the
    training time of all steps. `best` and `best_epoch` are of validation.
    """

    epoch: int = 0
    position: int = 0
    step: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_steps: int = 0
    best: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def record_step(self, loss: float, seconds: float) -> None:
        """Counts one more step; `seconds` is the training time of all steps so far."""
        self.step += 1
        self.position += 1
        self.loss_sum += loss
        self.loss_steps += 1
        self.seconds = seconds

    def record_validation(self, recall: Recall) -> bool:
        """Records the validation at an epoch's end; returns whether its weights are the best so far."""
        mean_loss = self.loss_sum / max(self.loss_steps, 1)
        self.history.append({"epoch": self.epoch + 1, "step": self.step, "loss": mean_loss} | plain_values(recall))
        self.loss_sum, self.loss_steps = 0.0, 0
        if recall.selection_recall <= self.best and self.best_epoch:
            return False
        self.best, self.best_epoch = recall.selection_recall, self.epoch + 1
        return True


class Checkpoints:
    """The folder of an unfinished run, next to `target`, its model folder.

    `identity` stands for data and config: a run is resumed only with the same data and config. Of several processes
    of a run one `writes`; in the others `save` does nothing.
    """

    def __init__(self, target: Path, identity: str, *, writes: bool = True) -> None:
        self.folder = target.parent / f".{target.name}.unfinished"
        self._identity, self._writes = identity, writes

    @property
    def can_resume(self) -> bool:
        """Whether there is an unfinished run with the same data and config."""
        return self._latest.is_file() and self._read_state()[0] == self._identity

    def clear(self) -> None:
        """Deletes the unfinished run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Makes an empty folder for a new run."""
        self.clear()
        with explain_os_errors(self.folder):
            self.folder.mkdir(parents=True)

    def save(self, towers: TwoTower, optimizer: TowerOptimizer, progress: TrainingProgress) -> None:
        """Writes weights, optimizer and progress as one file; a kill leaves either the new file or the former one."""
        if not self._writes:
            return
        tensors = {f"towers.{name}": tensor for name, tensor in towers.state_dict().items()}
        tensors |= optimizer.state()
        state = json.dumps({"made_from": self._identity, "progress": plain_values(progress)})
        _save(tensors, self._latest, {"state": state})

    def load(self, towers: TwoTower, optimizer: TowerOptimizer) -> TrainingProgress:
        """Loads the saved weights and optimizer into `towers` and `optimizer`; returns the progress."""
        try:
            tensors = load_file(self._latest, device=str(towers.device))
            towers.load_state_dict(
                {k.removeprefix("towers."): v for k, v in tensors.items() if k.startswith("towers.")}
            )
            optimizer.load_state(tensors)
            return TrainingProgress(**self._read_state()[1])
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise ArtifactError(f"Cannot resume from {self._latest}: {error}.", "Train without --resume.") from error

    def save_best(self, towers: TwoTower) -> None:
        """Writes the weights as the best so far."""
        _save(towers.state_dict(), self.folder / "best.safetensors", {})

    def load_final(self, towers: TwoTower, keep: Literal["last", "best"]) -> None:
        """Loads the best weights into `towers` where `keep` is "best"; otherwise `towers` keep the last ones."""
        if keep == "best":
            towers.load_state_dict(load_file(self.folder / "best.safetensors"))

    @property
    def _latest(self) -> Path:
        return self.folder / "latest.safetensors"

    def _read_state(self) -> tuple[str, dict[str, Any]]:
        try:
            with safe_open(self._latest, "pt") as handle:
                state = parse_json(handle.metadata()["state"])
                return state["made_from"], state["progress"]
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise ArtifactError(f"Cannot resume from {self._latest}: {error}.", "Train without --resume.") from error


def _save(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    draft = path.with_suffix(".writing")
    with explain_os_errors(path):
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, draft, metadata)
        sync(draft)
        draft.replace(path)
        sync(path.parent)
