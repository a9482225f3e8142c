"""A dataset folder that another engine made, taken over whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmse.core.artifact import Manifest, read_manifest, write_folder
from mmse.core.errors import ArtifactError
from mmse.core.run_folder import DATASET
from mmse.dataset.contract import check_dataset, count_periods, count_requests, count_rows, dataset_files
from mmse.dataset.folder import VECTOR_LENGTHS, DatasetFolder, vector_lengths
from mmse.sources.duckdb_session import open_session

_N_TOLD = 10


def adopt_dataset(
    source: Path,
    target: Path,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    *,
    columns: Sequence[str] = (),
    vectors: Sequence[str] = (),
    memory_limit: str,
    threads: int | None,
) -> Manifest:
    """Copies the dataset folder `source` to `target` with a manifest, where the copy keeps every rule of the contract.

    Raises `ArtifactError` with every rule that is broken, or the `columns` of items that are missing, of which
    `vectors` are lists of numbers; `target` stays as it was then.
    """
    with write_folder(target, kind=DATASET, config=config, inputs=inputs) as draft:
        for file in dataset_files(source):
            copy = draft.folder / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        findings = check_dataset(draft.folder, memory_limit=memory_limit, threads=threads)
        if findings:
            lines = [finding.cause.replace(str(draft.folder), str(source)) for finding in findings[:_N_TOLD]]
            examples = [f"\n  for example {finding.example}" if finding.example else "" for finding in findings]
            told = "\n".join(line + example for line, example in zip(lines, examples, strict=False))
            raise ArtifactError(
                f"{source} is no dataset that mmse can train on:\n{told}", f"Mend it: `mmse dataset check {source}`."
            )
        _check_columns(source, pq.read_schema(DatasetFolder(draft.folder).items), columns, vectors)
        n_periods = count_periods(draft.folder)
        with open_session(memory_limit=memory_limit, threads=threads) as session:
            draft.counts["requests"] = count_requests(session, draft.folder, n_periods)
            draft.counts.update(count_rows(session, draft.folder, n_periods))
    return read_manifest(target, DATASET)


def _check_columns(source: Path, schema: pa.Schema, columns: Sequence[str], vectors: Sequence[str]) -> None:
    """Raises `ArtifactError` where the items lack what [items] of shop.toml declares."""
    items = source / "items.parquet"
    missing = [column for column in columns if column not in schema.names]
    if missing:
        raise ArtifactError(
            f"{items} has no column {', '.join(missing)}, which [items] of shop.toml names.",
            f"Add the column to the dataset, or take it out of [items]. The items have: {', '.join(schema.names)}.",
        )
    unmeasured = [column for column in vectors if column not in vector_lengths(schema)]
    if unmeasured:
        raise ArtifactError(
            f"{items} does not say how many numbers the vectors in {', '.join(unmeasured)} have.",
            f'Write them as JSON into the file\'s metadata, key {VECTOR_LENGTHS}: {{"{unmeasured[0]}": 512}}.',
        )
