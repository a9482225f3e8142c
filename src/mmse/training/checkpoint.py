"""What an unfinished training run leaves on disk, so that it can go on after a kill as if nothing had been."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from mmse.artifact import writable
from mmse.config import plain
from mmse.errors import ArtifactError
from mmse.model.two_tower import TwoTower

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class Progress:
    """Where a run stands: the next batch is `position` of `epoch`, after `step` steps in all.

    `loss_sum` is over the `loss_steps` steps of the epoch so far, wherever they ran.
    """

    epoch: int = 0
    position: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    best: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Checkpoints:
    """The folder of an unfinished run, beside the model folder that it will become.

    `made_from` identifies data and config: a run is only continued by one that would have started the same.
    """

    def __init__(self, out: Path, made_from: str) -> None:
        self.folder = out.parent / f".{out.name}.unfinished"
        self._made_from = made_from

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
        tensors = {f"towers.{name}": tensor for name, tensor in towers.state_dict().items()}
        for name, parameter in towers.named_parameters():
            tensors |= {f"{moment}.{name}": adam.state[parameter][moment] for moment in _MOMENTS}
        state = json.dumps({"made_from": self._made_from, "progress": plain(progress)})
        _save(tensors, self._latest, {"state": state})

    def load(self, towers: TwoTower, adam: torch.optim.Adam) -> Progress:
        """Puts the saved weights and optimizer into `towers` and `adam`; gives where the run stood."""
        try:
            tensors = load_file(self._latest, device=str(towers.log_weights.device))
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

    def load_best(self, towers: TwoTower) -> None:
        """Puts the best weights so far into `towers`."""
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
