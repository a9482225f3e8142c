"""The index stage: the vectors of a catalogue into a folder that a retriever opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmse import artifact
from mmse.artifact import Manifest
from mmse.config import plain
from mmse.embed import QUERIES, open_array
from mmse.index import IndexConfig, IvfIndex, build
from mmse.index.base import Progress


def index_vectors(vectors: Path, out: Path, config: IndexConfig, progress: Progress | None = None) -> Manifest:
    """Indexes the folder `vectors` into the folder `out`; the ids are item rows.

    The manifest carries the fingerprint of the model that made the vectors, so that no other model's queries are
    ever put to this index.
    """
    embedded = artifact.verify(vectors, "vectors")
    items, queries = open_array(vectors), open_array(vectors, QUERIES)
    rows = np.arange(len(items), dtype=np.int64)
    index = build(config, items, rows, probes=queries if len(queries) else None, progress=progress)
    inputs = {"vectors": embedded.fingerprint, "model": embedded.inputs["model"]}
    with artifact.writing(out, kind="index", config=plain(config), inputs=inputs) as draft:
        index.save(draft.folder)
        draft.counts |= {"items": len(index), "width": index.dim}
        if isinstance(index, IvfIndex):
            draft.counts |= {"lists": index.nlist, "probed": index.nprobe, "measured_recall": index.measured_recall}
    return artifact.read_manifest(out, "index")
