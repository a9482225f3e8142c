"""The embed step in parts, for several processes: each part is a folder of its own, and a merge makes one of all.

    vectors.parts/part-000000/   the vectors of item rows 0 to 65,535, with what they were made from
                  part-000001/   …

A part is whole or absent, so that a process that was killed goes on where it ended.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.errors import ArtifactError, UsageError
from mmse.core.progress import Progress, silent
from mmse.core.run_folder import RunFolder
from mmse.index.embedding import SHOPPER, VECTORS, EmbedConfig, EmbeddingSource, ItemVectors, write_vectors

PART = "vectors part"
"""The kind of a part's folder."""
NAMES_SHOWN = 5


@dataclass(frozen=True)
class CatalogueShard:
    """Shard `number`, from 0, of `total`: each has about as many parts of the catalogue, one after another."""

    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> CatalogueShard:
        """The shard that `text` names, such as `3/16`; raises `UsageError` where it names none."""
        number, _, total = text.partition("/")
        if number.isdecimal() and total.isdecimal() and int(number) < int(total):
            return cls(int(number), int(total))
        raise UsageError(
            f"--shard is {text!r}.", "Write the number of the shard, from 0, and how many there are: 0/16 … 15/16."
        )

    def parts(self, n_parts: int) -> range:
        """The numbers of its parts; none where there are more shards than parts."""
        return range(self.number * n_parts // self.total, (self.number + 1) * n_parts // self.total)


@dataclass(frozen=True)
class PartCounts:
    """How many parts a process embedded, and how many it found finished."""

    n_embedded: int
    n_finished: int


def embed_shard(run: RunFolder, config: EmbedConfig, shard: CatalogueShard, progress: Progress = silent) -> PartCounts:
    """Embeds the shard's parts of the catalogue of `run`; several processes may do so at a time, each its own shard."""
    catalogue = EmbeddingSource(run.dataset, run.model, config)
    return embed_parts(catalogue, run.vector_parts, shard.parts(catalogue.n_parts), progress)


def embed_parts(
    catalogue: EmbeddingSource, folder: Path, parts: Sequence[int], progress: Progress = silent
) -> PartCounts:
    """Embeds those of the `parts` into `folder` that are not there already from the same model, dataset and config."""
    open_parts = [part for part in parts if _fault(catalogue, folder, part)]
    n_finished = len(parts) - len(open_parts)
    progress("embed", n_finished, len(parts))
    for count, (part, vectors) in enumerate(zip(open_parts, catalogue.embed_parts(open_parts), strict=True), 1):
        config, target = _configure(catalogue, part), _part_folder(folder, part)
        with artifact.write_folder(target, kind=PART, config=config, inputs=catalogue.inputs) as draft:
            np.save(draft.folder / VECTORS, vectors.vectors, allow_pickle=False)
            np.save(draft.folder / SHOPPER, vectors.traits, allow_pickle=False)
        progress("embed", n_finished + count, len(parts))
    return PartCounts(len(open_parts), n_finished)


def merge_parts(catalogue: EmbeddingSource, folder: Path, target: Path, config: Mapping[str, object]) -> Manifest:
    """Makes the vectors folder `target` from all parts in `folder`, byte by byte what one process writes.

    The parts are removed when `target` is whole. Raises `ArtifactError`, before anything is written, where a part is
    missing, is damaged, or is of another model, dataset or config.
    """
    faults = {part: fault for part in range(catalogue.n_parts) if (fault := _fault(catalogue, folder, part))}
    if faults:
        names = [f"{_part_folder(folder, part).name} ({fault})" for part, fault in faults.items()][:NAMES_SHOWN]
        dots = ", …" if len(faults) > NAMES_SHOWN else ""
        raise ArtifactError(
            f"{len(faults)} of {catalogue.n_parts} parts in {folder} are not what is to be merged: "
            f"{', '.join(names)}{dots}.",
            "Run the shards again: each embeds only what it lacks (`mmse embed --shard 0/1` all that is lacking).",
        )
    manifest = write_vectors(catalogue, _read_parts(catalogue, folder), target, config)
    shutil.rmtree(folder)
    return manifest


def _read_parts(catalogue: EmbeddingSource, folder: Path) -> Iterator[ItemVectors]:
    for part in range(catalogue.n_parts):
        vectors, traits = (
            np.load(_part_folder(folder, part) / name, allow_pickle=False) for name in (VECTORS, SHOPPER)
        )
        yield ItemVectors(vectors, traits)


def _fault(catalogue: EmbeddingSource, folder: Path, part: int) -> str | None:
    """Why a part has to be embedded; None where it is there."""
    return artifact.reason_to_make(_part_folder(folder, part), PART, _configure(catalogue, part), catalogue.inputs)


def _configure(catalogue: EmbeddingSource, part: int) -> dict[str, object]:
    """What a part depends on besides model and dataset."""
    rows = catalogue.rows_of(part)
    return {"as_of": catalogue.config.as_of, "rows": [rows.start, rows.stop]}


def _part_folder(folder: Path, part: int) -> Path:
    return folder / f"part-{part:06d}"
