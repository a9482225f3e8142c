"""The index step: writes the folder that a retriever opens, with the vector index, the words and the filter columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.progress import Progress
from mmse.core.run_folder import DATASET, INDEX, MODEL, VECTORS, require_lineage
from mmse.dataset.folder import DatasetFolder, read_corrections
from mmse.index.base import IndexConfig
from mmse.index.columns import FilterColumns, filter_kinds
from mmse.index.embedding import QUERIES, open_array
from mmse.index.languages import AUTO, find_languages
from mmse.index.lexical import LexicalIndex
from mmse.index.speller import Speller
from mmse.index.store import store_class, write_store_name
from mmse.model.features import FeatureSpace
from mmse.schema.value_sets import values_of

COLUMNS = "columns"
LEXICAL = "lexical"
SPELLING = "spelling"
_TEXTS = ("title", "brand", "category")
"""The columns whose words a speller knows."""


def index_catalogue(
    dataset: Path, model: Path, vectors: Path, target: Path, config: IndexConfig, progress: Progress | None = None
) -> Manifest:
    """Indexes the items of `dataset` by their `vectors` into the folder `target`; the ids are item rows.

    The manifest has the fingerprint of the model that made the vectors, so that queries of another model are refused.
    Raises `ArtifactError` where the three folders do not belong together.
    """
    folders = {DATASET: dataset, MODEL: model, VECTORS: vectors}
    manifests = {kind: artifact.verify(folder, kind) for kind, folder in folders.items()}
    require_lineage(manifests, target.parent)
    items, queries = open_array(vectors), open_array(vectors, QUERIES)
    rows = np.arange(len(items), dtype=np.int64)
    table, shop_columns = pq.read_table(DatasetFolder(dataset).items), FeatureSpace.open(model).shop_columns
    kinds = filter_kinds(table.column_names, shop_columns)
    inputs = {kind: manifest.fingerprint for kind, manifest in manifests.items()}
    writer = store_class(config.store).create(config, items.shape[1], kinds, queries)
    writer.upsert(rows, items, table, progress)
    with artifact.write_folder(target, kind=INDEX, config=config.to_manifest(), inputs=inputs) as draft:
        store_counts = writer.publish(draft.folder)
        write_store_name(draft.folder, config.store)
        for name in (COLUMNS, LEXICAL):
            (draft.folder / name).mkdir()
        FilterColumns.from_table(table, kinds).save(draft.folder / COLUMNS)
        attributes = attribute_columns(shop_columns)
        texts = ["title", "category", *shop_columns["text"]]
        language = find_languages(table, texts) if config.language == AUTO else config.language
        lexical = LexicalIndex.create(draft.folder / LEXICAL, kinds, language)
        words = lexical.writer()
        words.add(rows, table, attributes, progress)
        words.commit()
        words.close()
        (draft.folder / SPELLING).mkdir()
        write_words(dataset, draft.folder / SPELLING, LexicalIndex.open(draft.folder / LEXICAL))
        draft.counts |= {"items": len(items), "width": items.shape[1], "filters": list(kinds), **store_counts}
        draft.counts["language"] = language
    return artifact.read_manifest(target, INDEX)


def write_words(dataset: Path, target: Path, lexical: LexicalIndex) -> None:
    """Writes what a speller knows of the items and the training queries of `dataset`, which `lexical` indexes."""
    folder = DatasetFolder(dataset)
    items = pq.read_table(folder.items)
    queries = pq.read_table(folder.queries, columns=["query", "requests"]).to_pydict()
    columns = (items[name].to_pylist() for name in _TEXTS if name in items.column_names)
    texts = (text for cells in columns for cell in cells for text in values_of(cell))
    requests = dict(zip(queries["query"], queries["requests"], strict=True))
    Speller.write(target, texts, requests, lexical.stems, read_corrections(dataset))


def attribute_columns(shop_columns: dict[str, list[str]]) -> list[str]:
    """The columns of the lexical field `attributes`: the shop's categorical and text columns."""
    return [*shop_columns["categorical"], *shop_columns["text"]]
