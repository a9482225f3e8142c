"""The protocol of vector indexes, their config and search results, and the checks that all kinds share.

Scores are inner products. Post-fusion is part of the vectors, so an index knows nothing of views. Ids are the item rows
of the dataset folder, or any other non-negative whole numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64

from mmse.core.config import plain_values, require
from mmse.core.errors import ArtifactError, UsageError
from mmse.core.json_files import parse_json
from mmse.core.progress import Progress
from mmse.index.languages import AUTO, LANGUAGES, NONE, are_languages

IdFilter = Int[np.ndarray, " m"] | Bool[np.ndarray, " m"]
"""The ids that a search may return: the ids themselves, or a mask over ids (ids past its end are excluded)."""

STORES = {"local": "mmse.index.local_store:LocalStore", "milvus": "mmse.index.milvus.store:MilvusStore"}
"""The vector stores by name, each as `module:Class`; a class of the user's own is named so in shop.toml."""

CODE_BITS = {"fp16": 16, "sq8": 8, "sq4": 4, "tq2": 2, "tq1": 1}
"""Bits of a number of a vector in each form of an `ivf` index, the finest first."""

METADATA = "index.json"
CHUNK = 65_536
"""Vectors processed at a time, so that checking and adding a memory-mapped catalogue takes bounded memory."""


@dataclass(frozen=True)
class IndexConfig:
    """How the catalogue is indexed.

    `store` is `local`, files of the run, `milvus`, or a store of the user's own as `module:Class`; both get `options`.
    `kind` is the local store's index, `exact` or `ivf`; the keys after it but `language` are for `ivf` alone. `codes`
    says how a number of a vector is stored (`CODE_BITS`): `sq8` takes one byte, `sq4` half of one. With `memory`, such
    as `2GB`, the lists take at most so much: coarser codes than `codes` where these do not fit. What codes round is
    made up for by more rows that are scored again by their exact vectors, which stay on the disk.

    The number of lists is `lists_per_root · √n`, at most `most_lists`; k-means uses `training_per_list` vectors per
    list. A search probes as many lists as are needed to find `target_recall` of the exact top `recall_k`, measured on
    `probes` vectors when the index is built. `language` is that of the texts, for the stemmer of the lexical channel:
    one or several with commas, `none` (no stemming), or `auto`, which finds them (`index/languages.py`).
    """

    kind: str = "ivf"
    codes: str = "sq8"
    memory: str = ""
    target_recall: float = 0.99
    recall_k: int = 200
    probes: int = 500
    lists_per_root: float = 4.0
    most_lists: int = 65_536
    training_per_list: int = 64
    seed: int = 0
    language: str = AUTO
    store: str = "local"
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stores = f"{', '.join(STORES)}, or your own as 'module:Class'"
        require(self.store in STORES or ":" in self.store, "store", self.store, stores)
        require(self.store != "local" or not self.options, "options", self.options, "none for the local store")
        require(self.kind in ("exact", "ivf"), "kind", self.kind, "'exact' or 'ivf'")
        require(self.codes in CODE_BITS, "codes", self.codes, f"one of {', '.join(CODE_BITS)}")
        require(not self.memory or self.memory_bytes > 0, "memory", self.memory, "a size such as 500MB or 2GB")
        require(0 < self.target_recall <= 1, "target_recall", self.target_recall, "a share above 0 and at most 1")
        require(self.recall_k >= 1, "recall_k", self.recall_k, "at least 1")
        require(self.probes >= 1, "probes", self.probes, "at least 1")
        require(self.lists_per_root > 0, "lists_per_root", self.lists_per_root, "a number above 0")
        require(self.most_lists >= 1, "most_lists", self.most_lists, "at least 1")
        require(self.training_per_list >= 1, "training_per_list", self.training_per_list, "at least 1")
        require(self.seed >= 0, "seed", self.seed, "0 or above")
        names = f"{AUTO}, {NONE}, or one or several (with commas) of {', '.join(LANGUAGES)}"
        require(are_languages(self.language), "language", self.language, names)

    @property
    def memory_bytes(self) -> int:
        """The bytes that the lists may take; 0 where `memory` is no size."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)B", self.memory.strip().upper())
        return int(float(match[1]) * 1000 ** " KMGT".index(match[2] or " ")) if match else 0

    def to_manifest(self) -> dict[str, Any]:
        """The config as manifests hold it: without what says nothing, such as keys of other stores for the local one.

        So an index that was made before there were such keys is still up to date.
        """
        values = plain_values(self)
        if not self.memory:
            del values["memory"]
        if self.store == "local":
            del values["store"], values["options"]
        return values


@dataclass(frozen=True)
class Neighbours:
    """The nearest vectors of each query, best first: ids padded with -1, scores (inner products) padded with -inf."""

    ids: Int64[np.ndarray, "n k"]
    scores: Float32[np.ndarray, "n k"]


@dataclass(frozen=True)
class Matches:
    """What one channel finds for one query: item rows with their scores, best first.

    `is_complete` if the channel can find no further item.
    """

    rows: Int64[np.ndarray, " m"]
    scores: Float32[np.ndarray, " m"]
    is_complete: bool


NO_MATCHES = Matches(np.empty(0, np.int64), np.empty(0, np.float32), is_complete=True)


def no_neighbours(n: int, k: int) -> Neighbours:
    """Room for `k` hits of each of `n` queries, filled with padding."""
    return Neighbours(np.full((n, k), -1, dtype=np.int64), np.full((n, k), -np.inf, dtype=np.float32))


@runtime_checkable
class Index(Protocol):
    """Vectors by id on this machine, searched by inner product: what the local store is made of."""

    @property
    def ids(self) -> Int64[np.ndarray, " n"]:
        """The ids it holds, sorted."""

    @property
    def dim(self) -> int:
        """The width of the vectors."""

    def __len__(self) -> int:
        """How many vectors it holds."""

    def add(
        self, ids: Int64[np.ndarray, " n"], vectors: Float32[np.ndarray, "n d"], progress: Progress | None = None
    ) -> None:
        """Adds vectors under new ids.

        All or nothing: raises `UsageError`, and changes nothing, where an id is negative, occurs twice or is in the
        index already, or where a vector has another width or is not finite.
        """

    def remove(self, ids: Int64[np.ndarray, " n"]) -> int:
        """Removes these ids and returns how many of them were in the index; unknown ids are ignored."""

    def search(self, vectors: Float32[np.ndarray, "n d"], k: int, id_filter: IdFilter | None = None) -> Neighbours:
        """The `k` best of each query among the ids of `id_filter` (None: all); fewer only where fewer exist."""

    def save(self, folder: Path) -> None:
        """Writes its files into `folder`, which exists and is not the folder that it was opened from."""

    @classmethod
    def open(cls, folder: Path) -> Index:
        """The index saved in `folder`, memory-mapped; raises `ArtifactError` where it is missing or damaged."""


def check_vectors(vectors: Float32[np.ndarray, "n d"], dim: int, subject: str) -> None:
    """Raises `UsageError` unless every vector has `dim` finite numbers; `subject` names the vectors in the message."""
    if vectors.shape[1] != dim:
        raise UsageError(
            f"The {subject} have {vectors.shape[1]} dimensions, the index has {dim}.",
            "Use the vectors of the model that the index was made from, or build the index again.",
        )
    for start in range(0, len(vectors), CHUNK):
        finite = np.isfinite(vectors[start : start + CHUNK]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise UsageError(
                f"Row {row} of the {subject} holds a number that is not finite (NaN or infinity).",
                "Look for the item or query behind that row: a feature of it, or the training, went wrong.",
            )


def check_ids(
    ids: Int64[np.ndarray, " n"], vectors: Float32[np.ndarray, "m d"], sorted_ids: Int64[np.ndarray, " h"]
) -> None:
    """Raises `UsageError` unless there is one new, non-negative id per vector; `sorted_ids` are those of the index."""
    if len(ids) != len(vectors):
        raise UsageError(f"{len(ids)} ids came with {len(vectors)} vectors.", "Give one id for each vector.")
    if len(ids) == 0:
        return
    new_ids = np.sort(ids)
    if new_ids[0] < 0:
        raise UsageError(f"The id {new_ids[0]} is negative.", "Use ids from 0 up, such as item rows.")
    repeats = new_ids[1:][new_ids[1:] == new_ids[:-1]]
    if len(repeats):
        raise UsageError(f"The id {repeats[0]} occurs twice among the ids to add.", "Keep one vector for each id.")
    duplicates = new_ids[contains_ids(new_ids, sorted_ids)]
    if len(duplicates):
        raise UsageError(
            f"The id {duplicates[0]} is in the index already ({len(duplicates)} of the {len(ids)} ids are).",
            "Remove it first, then add its new vector.",
        )


def contains_ids(ids: Int64[np.ndarray, " n"], sorted_ids: Int64[np.ndarray, " h"]) -> Bool[np.ndarray, " n"]:
    """Which of `ids` are in `sorted_ids`."""
    if len(sorted_ids) == 0:
        return np.zeros(len(ids), dtype=bool)
    positions = np.minimum(np.searchsorted(sorted_ids, ids), len(sorted_ids) - 1)
    return np.asarray(sorted_ids[positions] == ids)


def is_dense(sorted_ids: Int64[np.ndarray, " h"]) -> bool:
    """Whether `sorted_ids` are 0 to n - 1, so that a mask over rows is a mask over ids."""
    return len(sorted_ids) > 0 and int(sorted_ids[-1]) == len(sorted_ids) - 1


def select_ids(id_filter: IdFilter, sorted_ids: Int64[np.ndarray, " h"]) -> Int64[np.ndarray, " a"]:
    """The ids of `sorted_ids` that `id_filter` contains, sorted."""
    if id_filter.dtype == np.bool_:
        if is_dense(sorted_ids):
            return np.flatnonzero(id_filter[: len(sorted_ids)])
        mask_ids = sorted_ids[: np.searchsorted(sorted_ids, len(id_filter))]
        return np.asarray(mask_ids[id_filter[mask_ids]])
    ids = np.unique(id_filter.astype(np.int64, copy=False))
    return np.asarray(ids[contains_ids(ids, sorted_ids)])


def write_metadata(folder: Path, metadata: dict[str, Any]) -> None:
    """Writes the metadata of an index as readable JSON."""
    (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", "utf-8")


def read_metadata(folder: Path) -> dict[str, Any]:
    """The metadata of the index in `folder`; raises `ArtifactError` where there is none or it is damaged."""
    path = folder / METADATA
    try:
        metadata = parse_json(path.read_text("utf-8"))
        if not isinstance(metadata, dict) or not {"kind", "dim"} <= metadata.keys():
            raise ValueError("it lacks 'kind' or 'dim'")
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{folder} holds no index: it has no {METADATA}.", "Build it: mmse index --help."
        ) from error
    except ValueError as error:
        raise damage_error(path, error) from error
    return metadata


def damage_error(path: Path, error: Exception) -> ArtifactError:
    """The error for an index file that cannot be read."""
    reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return ArtifactError(f"{path} is damaged: {reason}.", f"Delete {path.parent} and build the index again.")
