"""One cell of a grid: a system trained on a data set with a seed, measured, and written as a stage folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmse.core import artifact
from mmse.core.artifact import MANIFEST, Manifest, fingerprint_of_files, reason_to_make
from mmse.core.config import plain
from mmse.dataset.folder import ItemStats
from mmse.evaluation.metric_values import Progress
from mmse.evaluation.systems import Ranker, by_model, by_popularity
from mmse.lab.compare import measure
from mmse.lab.compare.data import Grades
from mmse.lab.compare.grid import MeasureConfig
from mmse.model.encoder import Encoder
from mmse.training.loop import Step, TrainConfig, train

KIND = "cell"
MEASURED = "measured.parquet"
MODEL = "model"
TOLD = ("train_seconds", "steps", "parameters", "device", "threads")
"""What a cell repeats of what its model's manifest counts."""


@dataclass(frozen=True)
class Task:
    """Everything that makes a cell, as it is handed to a process.

    `train` is None where nothing is trained; `grades` is what the catalogue of `dataset` is judged by, None where it
    is measured on its log; `others` are catalogues that were never trained on, by the name that tables give them.
    """

    out: Path
    system: str
    dataset: Path
    truth: Path | None
    train: TrainConfig | None
    measure: MeasureConfig
    grades: Grades | None = None
    others: Mapping[str, Grades] = field(default_factory=dict)
    keep_model: bool = False

    @property
    def graded(self) -> dict[str, Grades]:
        """All grades, those of the catalogue that is trained on under the empty name."""
        return {**({"": self.grades} if self.grades else {}), **self.others}

    @property
    def config(self) -> dict[str, Any]:
        """What the cell's manifest says of its making; what is read stands among the inputs."""
        measured = {key: value for key, value in plain(self.measure).items() if key != "draws"}
        return {
            "system": self.system,
            "train": plain(self.train) if self.train else None,
            "recipe": plain(self.train.to_recipe()) if self.train else None,  # its name may come to mean something else
            "evaluate": measured,
            "grades": {on: {"relevant_from": g.relevant_from, "split": g.split} for on, g in self.graded.items()},
        }

    @property
    def inputs(self) -> dict[str, str]:
        """The fingerprints of groups and truth, and of the files with grades."""
        found = {"dataset": artifact.read_manifest(self.dataset, "dataset").fingerprint}
        if self.truth is not None:
            found["truth"] = artifact.read_manifest(self.truth, "truth").fingerprint
        for on, grades in self.graded.items():
            files = [grades.judgements, *([grades.items] if grades.items else [])]
            found[f"grades {on}".strip()] = fingerprint_of_files(files)
        return found

    @property
    def why(self) -> str | None:
        """Why the cell has to be made, None where it is up to date."""
        why = reason_to_make(self.out, KIND, self.config, self.inputs)
        if why is None and self.keep_model and self.train and not (self.out / MODEL / MANIFEST).is_file():
            return "its model was not kept"
        return why


def make_cell(task: Task, step: Progress) -> Manifest:
    """Trains, measures and writes the cell; a training that was cut off goes on from its last checkpoint.

    `step` hears of training steps as the work "train", and of the parts of the measuring. The model is deleted once
    it is measured, unless the task keeps it. Raises what training and measuring raise.
    """
    model = task.out.parent / f"{task.out.name}.{MODEL}"
    counts: dict[str, Any] = {}
    if task.train is not None:
        counts |= _trained(task, task.train, model, step)
    start = time.perf_counter()
    table = pa.concat_tables(list(_measured(task, model, step)))
    counts |= {"values": len(table), "measure_seconds": round(time.perf_counter() - start, 3)}
    with artifact.writing(task.out, kind=KIND, config=task.config, inputs=task.inputs) as draft:
        pq.write_table(table, draft.folder / MEASURED, compression="zstd")
        draft.counts |= counts
        if task.train is not None:
            shutil.copy(model / MANIFEST, draft.folder / "model.json")
            shutil.copy(model / "training.json", draft.folder / "training.json")
            if task.keep_model:
                shutil.copytree(model, draft.folder / MODEL)
    shutil.rmtree(model, ignore_errors=True)
    return artifact.read_manifest(task.out, KIND)


def _trained(task: Task, config: TrainConfig, model: Path, step: Progress) -> dict[str, Any]:
    """Trains into `model` unless it is there and up to date; gives what the cell says of it."""
    inputs = {"dataset": artifact.read_manifest(task.dataset, "dataset").fingerprint}
    if reason_to_make(model, "model", config.whole(), inputs):

        def hear(said: Step) -> None:
            step("train", said.step, said.steps)

        train(task.dataset, model, config, resume=True, on_step=hear)
    counts = artifact.read_manifest(model, "model").counts
    return {name: counts[name] for name in TOLD}


def _measured(task: Task, model: Path, say: Progress) -> Iterator[pa.Table]:
    encoder = Encoder.open(model) if task.train is not None else None
    rank = _ranker(task, encoder)
    if task.grades is None:
        yield measure.on_log(rank, task.system, task.dataset, task.truth, task.measure, say)
    else:
        yield measure.on_grades(rank, task.system, task.dataset / "items.parquet", task.grades, "", say)
    for on, grades in task.others.items():
        if task.system == "popularity":
            continue  # no log says what is popular there
        items, numbers = measure.strange_items(grades)
        assert grades.items is not None
        other = by_model(encoder, items, numbers) if encoder else measure.by_words_of(items, task.dataset)
        yield measure.on_grades(other, task.system, grades.items, grades, on, say)


def _ranker(task: Task, encoder: Encoder | None) -> Ranker:
    if encoder is not None:
        return by_model(encoder, *measure.known_items(task.dataset))
    if task.system == "popularity":
        return by_popularity(ItemStats.open(task.dataset))
    assert task.system == "bm25"
    return measure.by_words_of(measure.known_items(task.dataset)[0], task.dataset)
