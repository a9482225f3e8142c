"""The ranking step: learns what turns both channels into one list, and writes it as small readable files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.config import build, plain_values, require
from mmse.core.errors import ArtifactError
from mmse.core.progress import Progress
from mmse.core.run_folder import DATASET, INDEX, MODEL, RANKING, RunFolder
from mmse.dataset.folder import DatasetFolder
from mmse.index.lexical import FIELDS, LexicalIndex
from mmse.model.encoder import Encoder
from mmse.ranking.calibration import FORMS, Calibration, Form
from mmse.ranking.fusion import Fusion
from mmse.ranking.guard import Guard
from mmse.ranking.learn import learn, read_window
from mmse.ranking.query_counts import QueryCounts
from mmse.schema.value_sets import first_value

FILE = "ranking.json"


@dataclass(frozen=True)
class RankingConfig:
    """How the ranking is learned: on at most so many `requests` of the validation window; `calibration` is used.

    With `guard`, hits of other brands and models do not lead where the query names one.
    """

    requests: int = 4_000
    calibration: Form = "adapter"
    guard: bool = True

    def __post_init__(self) -> None:
        require(self.requests >= 1, "requests", self.requests, "at least 1")
        require(self.calibration in FORMS, "calibration", self.calibration, f"one of {', '.join(FORMS)}")


@dataclass(frozen=True)
class Ranking:
    """What was learned: `calibration` is the form in use, `calibrations` has both forms, `guard` is None if off."""

    boosts: dict[str, float]
    fusion: Fusion
    calibration: Calibration
    calibrations: dict[Form, Calibration]
    guard: Guard | None
    query_counts: QueryCounts

    @classmethod
    def open(cls, folder: Path) -> Ranking:
        """The ranking in `folder`; raises `ArtifactError` where it is missing or damaged."""
        manifest = artifact.verify(folder, RANKING)
        try:
            values = json.loads((folder / FILE).read_text("utf-8"))
            boosts = {field: float(values["boosts"][field]) for field in FIELDS}
            fusion = build(Fusion, values["fusion"], str(folder / FILE))
            calibrations = {form: msgspec.convert(values["calibrations"][form], Calibration) for form in FORMS}
        except (OSError, ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
            raise ArtifactError(f"Cannot read {folder / FILE}: {error}.", "Run `mmse rank` again.") from error
        guard = Guard.open(folder) if manifest.config["guard"] else None
        calibration = calibrations[manifest.config["calibration"]]
        return cls(boosts, fusion, calibration, calibrations, guard, QueryCounts.open(folder))


def learn_ranking(run: RunFolder, target: Path, config: RankingConfig, progress: Progress) -> Manifest:
    """Learns the ranking of a run from its validation window and writes it into the folder `target`.

    Only the words of the run's index are used, and they come from its dataset: an index of other vectors gives the same
    ranking. Raises `ArtifactError` where a folder is missing or damaged, or the index is of another dataset.
    """
    manifests = run.verify((DATASET, INDEX)) | run.verify((MODEL,))
    encoder, query_counts = Encoder.open(run.model), QueryCounts.of_dataset(run.dataset)
    window = read_window(run.dataset, encoder, query_counts, config.requests)
    ranking = learn(window, LexicalIndex.open(run.index / "lexical"), progress)
    items = pq.read_table(DatasetFolder(run.dataset).items)
    brands = items["brand"].to_pylist() if "brand" in items.column_names else [None] * len(items)
    inputs = {kind: manifests[kind].fingerprint for kind in (DATASET, MODEL)}
    config_values = plain_values(config) | {"language": manifests[INDEX].config["language"]}
    with artifact.write_folder(target, kind=RANKING, config=config_values, inputs=inputs) as draft:
        fusion = plain_values(ranking.fusion)
        values = {
            "boosts": ranking.boosts,
            "fusion": fusion,
            "calibrations": {form: plain_values(ranking.calibrations[form]) for form in FORMS},
        }
        (draft.folder / FILE).write_text(json.dumps(values, indent=2) + "\n", "utf-8")
        Guard.learn(items["title"].to_pylist(), map(first_value, brands)).save(draft.folder)
        query_counts.save(draft.folder)
        draft.counts |= ranking.counts | {name: round(value, 4) for name, value in fusion.items()}
    return artifact.read_manifest(target, RANKING)
