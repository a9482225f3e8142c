"""What an unfinished training run leaves on disk, so that it can go on after a kill as if nothing had been."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from mmse.core.artifact import writable
from mmse.core.config import plain
from mmse.core.errors import ArtifactError
from mmse.model.towers import TwoTower
from mmse.training.validation import Recall

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class Progress:
    """Where a run stands: the next batch is `position` of `epoch`, after `step` steps in all.

    `loss_sum` is over the `loss_steps` steps of the epoch so far, wherever they ran; `seconds` is the training
    time of all steps.
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

    def count(self, loss: float, seconds: float) -> None:
        """Takes note of one more step; `seconds` is the training time up to it."""
        self.step += 1
        self.position += 1
        self.loss_sum += loss
        self.loss_steps += 1
        self.seconds = seconds

    def validated(self, found: Recall) -> bool:
        """Takes note of an epoch's end; gives whether its weights are the best so far."""
        mean_loss = self.loss_sum / max(self.loss_steps, 1)
        self.history.append({"epoch": self.epoch + 1, "step": self.step, "loss": mean_loss} | plain(found))
        self.loss_sum, self.loss_steps = 0.0, 0
        if found.deciding <= self.best and self.best_epoch:
            return False
        self.best, self.best_epoch = found.deciding, self.epoch + 1
        return True


class Checkpoints:
    """The folder of an unfinished run, beside the model folder that it will become.

    `made_from` identifies data and config: a run is only continued by one that would have started the same. Of several
    processes of one run one `writes`; in the others `save` does nothing.
    """

    def __init__(self, out: Path, made_from: str, *, writes: bool = True) -> None:
        self.folder = out.parent / f".{out.name}.unfinished"
        self._made_from, self._writes = made_from, writes

    @property
    def fits(self) -> bool:
        """Whether an unfinished run with the same data and config is there."""
        return self._latest.is_file() and self._read_state()[0] == self._made_from

    def clear(self) -> None:
        """Forgets the unfinished run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """An empty folder for a new run."""
        self.clear()
        with writable(self.folder):
            self.folder.mkdir(parents=True)

    def save(self, towers: TwoTower, adam: torch.optim.Adam, progress: Progress) -> None:
        """Writes weights, optimizer and progress as one file that is whole or the former one."""
        if not self._writes:
            return
        tensors = {f"towers.{name}": tensor for name, tensor in towers.state_dict().items()}
        for name, parameter in towers.named_parameters():
            tensors |= {f"{moment}.{name}": adam.state[parameter][moment] for moment in _MOMENTS}
        state = json.dumps({"made_from": self._made_from, "progress": plain(progress)})
        _save(tensors, self._latest, {"state": state})

    def load(self, towers: TwoTower, adam: torch.optim.Adam) -> Progress:
        """Puts the saved weights and optimizer into `towers` and `adam`; gives where the run stood."""
        try:
            tensors = load_file(self._latest, device=str(towers.device))
            towers.load_state_dict(
                {k.removeprefix("towers."): v for k, v in tensors.items() if k.startswith("towers.")}
            )
            for name, parameter in towers.named_parameters():
                adam.state[parameter] = {moment: tensors[f"{moment}.{name}"] for moment in _MOMENTS}
            return Progress(**self._read_state()[1])
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise ArtifactError(f"Cannot resume from {self._latest}: {error}.", "Train without --resume.") from error

    def save_best(self, towers: TwoTower) -> None:
        """Keeps the weights as the best so far."""
        _save(towers.state_dict(), self.folder / "best.safetensors", {})

    def load_kept(self, towers: TwoTower, keep: Literal["last", "best"]) -> None:
        """Puts the weights that a finished run keeps into `towers`, which hold the last ones."""
        if keep == "best":
            towers.load_state_dict(load_file(self.folder / "best.safetensors"))

    @property
    def _latest(self) -> Path:
        return self.folder / "latest.safetensors"

    def _read_state(self) -> tuple[str, dict[str, Any]]:
        try:
            with safe_open(self._latest, "pt") as handle:
                state = json.loads(handle.metadata()["state"])
                return state["made_from"], state["progress"]
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise ArtifactError(f"Cannot resume from {self._latest}: {error}.", "Train without --resume.") from error


def _save(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    beside = path.with_suffix(".writing")
    with writable(path):
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, beside, metadata)
        with beside.open("rb") as handle:
            os.fsync(handle.fileno())
        beside.replace(path)
