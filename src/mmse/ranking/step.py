"""The ranking step: learns what turns both channels into one list, and writes it as small readable files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.config import build, plain_values, require
from mmse.core.errors import ArtifactError
from mmse.core.json_files import parse_json
from mmse.core.progress import Progress
from mmse.core.run_folder import DATASET, INDEX, MODEL, RANKING, VECTORS, RunFolder
from mmse.dataset.folder import TEST, TRAIN, VALID, DatasetFolder
from mmse.index.lexical import FIELDS, LexicalIndex
from mmse.model.encoder import Encoder
from mmse.ranking.calibration import FORMS, Calibration, Form
from mmse.ranking.fusion import Fusion
from mmse.ranking.guard import Guard
from mmse.ranking.learn import LearnedRanking, learn
from mmse.ranking.memory import QueryMemory
from mmse.ranking.memory_log import open_memory_log
from mmse.ranking.query_counts import QueryCounts
from mmse.ranking.window import read_window
from mmse.schema.value_sets import first_value

FILE = "ranking.json"
MEMORY = "memory"


@dataclass(frozen=True)
class RankingConfig:
    """How the ranking is learned: on at most so many `requests` of the validation window; `calibration` is used.

    With `guard`, hits of other brands and models do not lead where the query names one. With `memory`, what shoppers
    took of late after a query has a share in the score, where the validation window shows that this is of use.
    """

    requests: int = 4_000
    calibration: Form = "adapter"
    guard: bool = True
    memory: bool = True

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
    memory: QueryMemory

    @classmethod
    def open(cls, folder: Path) -> Ranking:
        """The ranking in `folder`; raises `ArtifactError` where it is missing or damaged.

        One that was made before there were memories has an empty one.
        """
        manifest = artifact.verify(folder, RANKING)
        try:
            values = parse_json((folder / FILE).read_text("utf-8"))
            boosts = {field: float(values["boosts"][field]) for field in FIELDS}
            fusion = build(Fusion, values["fusion"], str(folder / FILE))
            calibrations = {form: msgspec.convert(values["calibrations"][form], Calibration) for form in FORMS}
            smoothing = float(values[MEMORY]["settings"]["smoothing"]) if fusion.remembers else 1.0
        except (OSError, ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
            raise ArtifactError(f"Cannot read {folder / FILE}: {error}.", "Run `mmse rank` again.") from error
        guard = Guard.open(folder) if manifest.config["guard"] else None
        calibration = calibrations[manifest.config["calibration"]]
        memory = QueryMemory.open(folder / MEMORY, smoothing) if fusion.remembers else QueryMemory.empty()
        return cls(boosts, fusion, calibration, calibrations, guard, QueryCounts.open(folder), memory)


def learn_ranking(run: RunFolder, target: Path, config: RankingConfig, progress: Progress) -> Manifest:
    """Learns the ranking of a run from its validation window and writes it into the folder `target`.

    Only the words of the run's index are used, and they come from its dataset: an index of other vectors gives the same
    ranking. What is remembered ends when the vectors' knowledge of the log ends. Raises `ArtifactError` where a folder
    is missing or damaged, or the index is of another dataset.
    """
    manifests = run.verify((DATASET, INDEX)) | run.verify((MODEL,))
    as_of = run.manifest(VECTORS).config["as_of"]
    encoder, query_counts = Encoder.open(run.model), QueryCounts.of_dataset(run.dataset)
    goal = float(manifests[MODEL].config.get("goal", 1.0))
    window = read_window(run.dataset, encoder, query_counts, config.requests, goal)
    lexical = LexicalIndex.open(run.index / "lexical")
    with contextlib.ExitStack() as stack:
        has_memory = config.memory and len(window.requests) > 0
        logged = window.requests.queries
        memory_log = (
            stack.enter_context(open_memory_log(run.dataset, [TRAIN], lexical.stems, logged)) if has_memory else None
        )
        ranking = learn(window, lexical, progress, memory_log)
    items = pq.read_table(DatasetFolder(run.dataset).items)
    brands = items["brand"].to_pylist() if "brand" in items.column_names else [None] * len(items)
    inputs = {kind: manifests[kind].fingerprint for kind in (DATASET, MODEL)}
    config_values = plain_values(config) | {"language": manifests[INDEX].config["language"], "as_of": as_of}
    with artifact.write_folder(target, kind=RANKING, config=config_values, inputs=inputs) as draft:
        fusion = plain_values(ranking.fusion)
        values = {
            "boosts": ranking.boosts,
            "fusion": fusion,
            "calibrations": {form: plain_values(ranking.calibrations[form]) for form in FORMS},
        }
        draft.counts |= ranking.counts | {name: round(value, 4) for name, value in fusion.items()}
        if ranking.memory is not None:
            values[MEMORY] = plain_values(ranking.memory)
            splits = [TRAIN, VALID] if as_of == "test" else [TRAIN, VALID, TEST]
            memory = _remember(run.dataset, splits, lexical, ranking)
            (draft.folder / MEMORY).mkdir()
            memory.save(draft.folder / MEMORY)
            draft.counts["remembered"] = {"queries": len(memory), "pairs": len(memory.rows)}
        (draft.folder / FILE).write_text(json.dumps(values, indent=2) + "\n", "utf-8")
        Guard.learn(items["title"].to_pylist(), [first_value(cell) for cell in brands]).save(draft.folder)
        query_counts.save(draft.folder)
    return artifact.read_manifest(target, RANKING)


def _remember(dataset: Path, splits: Sequence[str], lexical: LexicalIndex, ranking: LearnedRanking) -> QueryMemory:
    """What is remembered of `splits`, as was learned."""
    assert ranking.memory is not None
    with open_memory_log(dataset, splits, lexical.stems) as log:
        return log.remember(ranking.memory.settings)
