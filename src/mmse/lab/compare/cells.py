"""One cell of a grid: a system trained on a data set with a seed, measured, and written as a folder."""

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
from mmse.core.config import plain_values
from mmse.core.progress import Progress
from mmse.core.run_folder import DATASET, MODEL
from mmse.dataset.folder import DatasetFolder, ItemStats
from mmse.evaluation.systems import Ranker, model_ranker, popularity_ranker
from mmse.lab.compare.data import Grades
from mmse.lab.compare.grid import MeasureConfig
from mmse.lab.compare.measure import foreign_items, measure_grades, measure_log, text_ranker, training_items
from mmse.model.encoder import Encoder
from mmse.training.loop import TrainConfig, TrainingStep, train

KIND = "cell"
MEASURED_FILE = "measured.parquet"
MODEL_COUNTS = ("train_seconds", "steps", "parameters", "device", "threads")
"""Counts of the model's manifest that the cell's manifest repeats."""


@dataclass(frozen=True)
class Task:
    """Everything that a process needs to make a cell.

    `train` is None where nothing is trained; `grades` judge the catalogue of `dataset`, None where the cell is measured
    on its log; `foreign_catalogues` are those that are never trained on, by their names in tables.
    """

    folder: Path
    system: str
    dataset: Path
    truth: Path | None
    train: TrainConfig | None
    measure: MeasureConfig
    grades: Grades | None = None
    foreign_catalogues: Mapping[str, Grades] = field(default_factory=dict)
    keep_model: bool = False

    @property
    def all_grades(self) -> dict[str, Grades]:
        """All grades by catalogue; the name of the catalogue of `dataset` is empty."""
        return {**({"": self.grades} if self.grades else {}), **self.foreign_catalogues}

    @property
    def config(self) -> dict[str, Any]:
        """The config in the cell's manifest; files that are read are among its inputs."""
        evaluate = {key: value for key, value in plain_values(self.measure).items() if key != "draws"}
        grades = {name: {"relevant_from": g.relevant_from, "split": g.split} for name, g in self.all_grades.items()}
        return {
            "system": self.system,
            "train": plain_values(self.train) if self.train else None,
            # in full, because its name may mean something else later
            "recipe": plain_values(self.train.to_recipe()) if self.train else None,
            "evaluate": evaluate,
            "grades": grades,
        }

    @property
    def inputs(self) -> dict[str, str]:
        """The fingerprints of dataset and truth, and of the files with grades."""
        fingerprints = {DATASET: artifact.read_manifest(self.dataset, DATASET).fingerprint}
        if self.truth is not None:
            fingerprints["truth"] = artifact.read_manifest(self.truth, "truth").fingerprint
        for name, grades in self.all_grades.items():
            files = [grades.judgements, *([grades.items] if grades.items else [])]
            fingerprints[f"grades {name}".strip()] = fingerprint_of_files(files)
        return fingerprints

    @property
    def reason(self) -> str | None:
        """Why the cell has to be made, None where it is up to date."""
        reason = reason_to_make(self.folder, KIND, self.config, self.inputs)
        if reason is None and self.keep_model and self.train and not (self.folder / MODEL / MANIFEST).is_file():
            return "its model was not kept"
        return reason


def make_cell(task: Task, progress: Progress) -> Manifest:
    """Trains, measures and writes the cell; an interrupted training goes on from its last checkpoint.

    `progress` gets training steps as the part "train", then the parts of the measuring. The model is deleted after the
    measuring, unless the task keeps it. Raises what training and measuring raise.
    """
    model = task.folder.parent / f"{task.folder.name}.{MODEL}"
    counts: dict[str, Any] = {}
    if task.train is not None:
        counts |= _train(task, task.train, model, progress)
    start = time.perf_counter()
    table = pa.concat_tables(list(_measure(task, model, progress)))
    counts |= {"values": len(table), "measure_seconds": round(time.perf_counter() - start, 3)}
    with artifact.write_folder(task.folder, kind=KIND, config=task.config, inputs=task.inputs) as draft:
        pq.write_table(table, draft.folder / MEASURED_FILE, compression="zstd")
        draft.counts |= counts
        if task.train is not None:
            shutil.copy(model / MANIFEST, draft.folder / "model.json")
            shutil.copy(model / "training.json", draft.folder / "training.json")
            if task.keep_model:
                shutil.copytree(model, draft.folder / MODEL)
    shutil.rmtree(model, ignore_errors=True)
    return artifact.read_manifest(task.folder, KIND)


def _train(task: Task, config: TrainConfig, model: Path, progress: Progress) -> dict[str, Any]:
    """Trains into `model` unless it is up to date; gives the counts for the cell's manifest."""
    inputs = {DATASET: artifact.read_manifest(task.dataset, DATASET).fingerprint}
    if reason_to_make(model, MODEL, config.to_manifest(), inputs):

        def report(step: TrainingStep) -> None:
            progress("train", step.step, step.steps)

        train(task.dataset, model, config, resume=True, on_step=report)
    counts = artifact.read_manifest(model, MODEL).counts
    return {name: counts[name] for name in MODEL_COUNTS}


def _measure(task: Task, model: Path, progress: Progress) -> Iterator[pa.Table]:
    encoder = Encoder.open(model) if task.train is not None else None
    rank = _ranker(task, encoder)
    if task.grades is None:
        yield measure_log(rank, task.system, task.dataset, task.truth, task.measure, progress)
    else:
        yield measure_grades(rank, task.system, DatasetFolder(task.dataset).items, task.grades, "", progress)
    for name, grades in task.foreign_catalogues.items():
        if task.system == "popularity":
            continue  # a foreign catalogue has no log
        items, item_statistics = foreign_items(grades)
        assert grades.items is not None
        ranker = model_ranker(encoder, items, item_statistics) if encoder else text_ranker(items, task.dataset)
        yield measure_grades(ranker, task.system, grades.items, grades, name, progress)


def _ranker(task: Task, encoder: Encoder | None) -> Ranker:
    if encoder is not None:
        return model_ranker(encoder, *training_items(task.dataset))
    if task.system == "popularity":
        return popularity_ranker(ItemStats.open(task.dataset))
    assert task.system == "bm25"
    return text_ranker(training_items(task.dataset)[0], task.dataset)
