"""What an index folder keeps of a state in Milvus, and the check that folder, run and collection belong together."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Bool, Float32, Int64

from mmse.core.errors import ArtifactError
from mmse.index.base import damage_error
from mmse.index.milvus.fields import VECTOR, Field
from mmse.index.milvus.server import MAX_LISTS, MilvusConfig, MilvusServer

STATE_FILE = "milvus.json"
ROWS_FILE = "rows.npy"
"""The rows of a state as bits."""
SAMPLE = 64
"""So many vectors tell the state of one model from that of another."""
_CURE = "Build the index again: mmse index."


@dataclass(frozen=True)
class CollectionState:
    """A collection on the server of `config`; `digest` is of some vectors.

    `lists` are those of an IVF index, and `nprobe` how many of them a search without a filter visits.
    """

    config: MilvusConfig
    collection: str
    width: int
    fields: dict[str, Field]
    n_rows: int
    lists: int
    nprobe: int
    digest: str

    def write(self, folder: Path, has_row: Bool[np.ndarray, " n"]) -> None:
        """Writes the state and its rows into `folder`, which exists."""
        np.save(folder / ROWS_FILE, np.packbits(has_row), allow_pickle=False)
        (folder / STATE_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")

    def search_parameters(self, limit: int, n_allowed: int) -> dict[str, int]:
        """What a search for `limit` hits among the `n_allowed` rows of a filter is asked with.

        An IVF index compares a filter's rows alone, so that more lists in proportion cost as many comparisons as a
        search without a filter; twice as many are visited, since the rows near a query may be the filter's seldom.
        """
        if self.config.index == "FLAT":
            return {}
        if self.config.index == "HNSW":
            return {"ef": max(self.config.ef, limit)}
        if n_allowed == self.n_rows:
            return {"nprobe": self.nprobe}
        if n_allowed < self.config.exact_below:
            return {"nprobe": MAX_LISTS}
        return {"nprobe": min(MAX_LISTS, math.ceil(2 * self.nprobe * self.n_rows / n_allowed))}

    def check(self, server: MilvusServer, folder: Path) -> None:
        """Raises `ArtifactError` where the server has no such collection, or another one under its name."""
        place = f"the Milvus server at {self.config.uri}"
        if not server.call("has_collection", self.collection):
            raise ArtifactError(f"{folder} names the collection {self.collection}, and {place} has none.", _CURE)
        answer = server.call("describe_collection", self.collection)
        widths = [field["params"]["dim"] for field in answer["fields"] if field["name"] == VECTOR]
        if [int(width) for width in widths] != [self.width]:
            width = widths[0] if widths else "no"
            cause = f"The collection {self.collection} on {place} has vectors of {width} numbers"
            raise ArtifactError(f"{cause}, {folder} was made for {self.width}.", _CURE)
        names = {field["name"] for field in answer["fields"]}
        absent_names = [field.name for field in self.fields.values() if field.name not in names]
        if absent_names:
            cause = f"The collection {self.collection} on {place} has no field {', '.join(absent_names)}"
            raise ArtifactError(f"{cause}, {folder} was made with it.", _CURE)


def read_state(folder: Path) -> tuple[CollectionState, Bool[np.ndarray, " n"]]:
    """The state that `folder` names, and which rows it has (maybe some more entries, which are False)."""
    path = folder / STATE_FILE
    try:
        state = msgspec.json.decode(path.read_bytes(), type=CollectionState)
        path = folder / ROWS_FILE
        has_row = np.unpackbits(np.load(path, allow_pickle=False)).astype(bool)
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder} names no state: it has no {path.name}.", _CURE) from error
    except (OSError, ValueError, EOFError, TypeError, msgspec.MsgspecError) as error:
        raise damage_error(path, error) from error
    return state, has_row


def sample_rows(rows: Int64[np.ndarray, " r"]) -> Int64[np.ndarray, " s"]:
    """The rows, of sorted ones, whose vectors tell one model from another."""
    positions = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(np.int64)
    return np.asarray(rows[positions])


def digest_vectors(vectors: Float32[np.ndarray, "s width"]) -> str:
    """A digest of the vectors of `sample_rows`."""
    return hashlib.blake2b(np.ascontiguousarray(vectors).tobytes(), digest_size=16).hexdigest()
