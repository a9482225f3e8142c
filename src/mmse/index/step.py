"""The index stage: a catalogue into a folder that a retriever opens: its vectors, its words, its filterable columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.config import plain
from mmse.index import IndexConfig, IvfIndex, build
from mmse.index.base import Progress
from mmse.index.columns import Columns, filterable
from mmse.index.embedding import QUERIES, open_array
from mmse.index.lexical import LexicalIndex
from mmse.model.features import FeatureSpace

COLUMNS = "columns"
LEXICAL = "lexical"


def index_catalogue(
    dataset: Path, model: Path, vectors: Path, out: Path, config: IndexConfig, progress: Progress | None = None
) -> Manifest:
    """Indexes the items of `dataset`, whose vectors `model` made, into the folder `out`; the ids are item rows.

    The manifest carries the fingerprint of the model that made the vectors, so that no other model's queries are
    ever put to this index.
    """
    mined, embedded = artifact.verify(dataset, "dataset"), artifact.verify(vectors, "vectors")
    items, queries = open_array(vectors), open_array(vectors, QUERIES)
    rows = np.arange(len(items), dtype=np.int64)
    index = build(config, items, rows, probes=queries if len(queries) else None, progress=progress)
    table, declared = pq.read_table(dataset / "items.parquet"), FeatureSpace.open(model).declared
    kinds = filterable(table.column_names, declared)
    inputs = {"dataset": mined.fingerprint, "vectors": embedded.fingerprint, "model": embedded.inputs["model"]}
    with artifact.writing(out, kind="index", config=plain(config), inputs=inputs) as draft:
        index.save(draft.folder)
        for name in (COLUMNS, LEXICAL):
            (draft.folder / name).mkdir()
        Columns.of(table, kinds).save(draft.folder / COLUMNS)
        lexical = LexicalIndex.create(draft.folder / LEXICAL, kinds, config.language)
        writer = lexical.writer()
        writer.add(rows, table, attributes(declared), progress)
        writer.commit()
        writer.close()
        draft.counts |= {"items": len(index), "width": index.dim, "filters": list(kinds)}
        if isinstance(index, IvfIndex):
            draft.counts |= {"lists": index.nlist, "probed": index.nprobe, "measured_recall": index.measured_recall}
    return artifact.read_manifest(out, "index")


def attributes(declared: dict[str, list[str]]) -> list[str]:
    """The columns that make the lexical field `attributes`: those declared as categorical and as text."""
    return [*declared["categorical"], *declared["text"]]
