"""The ranking stage: what turns two channels into one list, learned and kept as a folder of small readable files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.config import build, plain, require
from mmse.core.errors import ArtifactError
from mmse.index.lexical import FIELDS, LexicalIndex
from mmse.model.encoder import Encoder
from mmse.ranking.calibration import FORMS, Calibration, Form
from mmse.ranking.fusion import Fusion
from mmse.ranking.guard import Guard
from mmse.ranking.learn import Progress, learn, read_window
from mmse.ranking.query_counts import KnownQueries

KIND = "ranking"
FILE = "ranking.json"


@dataclass(frozen=True)
class RankingConfig:
    """How the ranking is learned: `requests` of the validation window, and the `calibration` that is used.

    `guard` keeps hits of other brands and models from leading where the query names one.
    """

    requests: int = 4_000
    calibration: Form = "adapter"
    guard: bool = True

    def __post_init__(self) -> None:
        require(self.requests >= 1, "requests", self.requests, "at least 1")
        require(self.calibration in FORMS, "calibration", self.calibration, f"one of {', '.join(FORMS)}")


@dataclass(frozen=True)
class Ranking:
    """What a run has learned: `calibration` is the form in use, `calibrations` has every form, `guard` may be off."""

    boosts: dict[str, float]
    fusion: Fusion
    calibration: Calibration
    calibrations: dict[Form, Calibration]
    guard: Guard | None
    known: KnownQueries

    @classmethod
    def open(cls, folder: Path) -> Ranking:
        """The ranking in `folder`; raises `ArtifactError` where it is missing or damaged."""
        manifest = artifact.verify(folder, KIND)
        try:
            said = json.loads((folder / FILE).read_text("utf-8"))
            boosts = {field: float(said["boosts"][field]) for field in FIELDS}
            fusion = build(Fusion, said["fusion"], str(folder / FILE))
            forms = {form: msgspec.convert(said["calibrations"][form], Calibration) for form in FORMS}
        except (OSError, ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
            raise ArtifactError(f"Cannot read {folder / FILE}: {error}.", "Run `mmse rank` again.") from error
        guard = Guard.open(folder) if manifest.config["guard"] else None
        return cls(boosts, fusion, forms[manifest.config["calibration"]], forms, guard, KnownQueries.open(folder))


def rank_run(dataset: Path, model: Path, index: Path, out: Path, config: RankingConfig, say: Progress) -> Manifest:
    """Learns the ranking of a run from its validation window into the folder `out`.

    Of `index` the words alone are used, which come from `dataset`: other vectors or lists leave a ranking as it is.
    """
    mined, trained = artifact.verify(dataset, "dataset"), artifact.verify(model, "model")
    indexed = artifact.verify(index, "index")
    if indexed.inputs["dataset"] != mined.fingerprint:
        raise ArtifactError(f"{index} was made from another dataset than {dataset}.", "Run `mmse index` again.")
    encoder, known = Encoder.open(model), KnownQueries.of(dataset)
    learned = learn(read_window(dataset, encoder, known, config.requests), LexicalIndex.open(index / "lexical"), say)
    items = pq.read_table(dataset / "items.parquet")
    brands = items["brand"].to_pylist() if "brand" in items.column_names else [None] * len(items)
    inputs = {"dataset": mined.fingerprint, "model": trained.fingerprint}
    said_config = plain(config) | {"language": indexed.config["language"]}
    with artifact.writing(out, kind=KIND, config=said_config, inputs=inputs) as draft:
        said = {
            "boosts": learned.boosts,
            "fusion": plain(learned.fusion),
            "calibrations": {form: plain(one) for form, one in learned.calibrations.items()},
        }
        (draft.folder / FILE).write_text(json.dumps(said, indent=2) + "\n", "utf-8")
        Guard.learn(items["title"].to_pylist(), brands).save(draft.folder)
        known.save(draft.folder)
        draft.counts |= learned.counts | {name: round(value, 4) for name, value in plain(learned.fusion).items()}
    return artifact.read_manifest(out, KIND)
