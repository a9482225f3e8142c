"""What every index can do, what a search finds, and the checks that all kinds share.

Scores are inner products: post-fusion sits in the vectors, so an index needs to know nothing of views. Ids are
the item rows of the dataset folder, or any other non-negative whole numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64

from mmse.core.config import require
from mmse.core.errors import ArtifactError, UsageError

Progress = Callable[[str, int, int], None]
Allowed = Int[np.ndarray, " m"] | Bool[np.ndarray, " m"]
"""Which ids may be found: the ids themselves, or a mask where `mask[id]` says so (ids past its end may not)."""

LANGUAGES = (
    "none",
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
)
"""What the lexical channel can stem; `none` leaves words as they are."""

ABOUT = "index.json"
CHUNK = 65_536
"""Vectors touched at a time, so that checking and adding a memory-mapped catalogue stays in bounded memory."""


@dataclass(frozen=True)
class IndexConfig:
    """How the catalogue is indexed.

    `kind` is `exact` or `ivf`; the rest concerns `ivf` alone. `codes` is how a vector is stored: `sq8` takes one
    byte a dimension, `fp16` two and finds a little more. `lists_per_root` sets the number of lists,
    `lists_per_root · √n`, at most `most_lists`; k-means sees `training_per_list` vectors a list. As many lists are
    probed as it takes to find `target_recall` of the exact first `recall_k`, measured on `probes` vectors when the
    index is built. `language` is that of the titles, for the stemmer of the lexical channel (`none`: no stemming).
    """

    kind: str = "ivf"
    codes: str = "sq8"
    target_recall: float = 0.99
    recall_k: int = 200
    probes: int = 500
    lists_per_root: float = 4.0
    most_lists: int = 65_536
    training_per_list: int = 64
    seed: int = 0
    language: str = "english"

    def __post_init__(self) -> None:
        require(self.kind in ("exact", "ivf"), "kind", self.kind, "'exact' or 'ivf'")
        require(self.codes in ("sq8", "fp16"), "codes", self.codes, "'sq8' or 'fp16'")
        require(0 < self.target_recall <= 1, "target_recall", self.target_recall, "a share above 0 and at most 1")
        require(self.recall_k >= 1, "recall_k", self.recall_k, "at least 1")
        require(self.probes >= 1, "probes", self.probes, "at least 1")
        require(self.lists_per_root > 0, "lists_per_root", self.lists_per_root, "a number above 0")
        require(self.most_lists >= 1, "most_lists", self.most_lists, "at least 1")
        require(self.training_per_list >= 1, "training_per_list", self.training_per_list, "at least 1")
        require(self.seed >= 0, "seed", self.seed, "0 or above")
        require(self.language in LANGUAGES, "language", self.language, f"one of {', '.join(LANGUAGES)}")


@dataclass(frozen=True)
class Found:
    """The best of each query, best first: ids padded with -1, scores (inner products) padded with -inf."""

    ids: Int64[np.ndarray, "n k"]
    scores: Float32[np.ndarray, "n k"]


def nothing_found(n: int, k: int) -> Found:
    """A place for `k` hits of each of `n` queries, all of it padding."""
    return Found(np.full((n, k), -1, dtype=np.int64), np.full((n, k), -np.inf, dtype=np.float32))


@runtime_checkable
class Index(Protocol):
    """Vectors by id, searched by inner product."""

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
        """Takes in vectors under new ids.

        All or nothing: raises `UsageError`, and changes nothing, where an id is negative, stands twice or is held
        already, or where a vector has another width or is not finite.
        """

    def remove(self, ids: Int64[np.ndarray, " n"]) -> int:
        """Drops these ids and gives how many of them it held; unknown ids are passed over."""

    def search(self, vectors: Float32[np.ndarray, "n d"], k: int, allowed: Allowed | None = None) -> Found:
        """The `k` best of each query among `allowed` (None: all); always `k` where so many exist."""

    def save(self, folder: Path) -> None:
        """Writes its files into `folder`, which exists; what was opened from that folder must go elsewhere."""

    @classmethod
    def open(cls, folder: Path) -> Index:
        """The index saved in `folder`, memory-mapped; raises `ArtifactError` where it is missing or damaged."""


def checked_vectors(vectors: Float32[np.ndarray, "n d"], dim: int, what: str) -> None:
    """Raises `UsageError` unless every vector has `dim` finite numbers; `what` names them in the message."""
    if vectors.shape[1] != dim:
        raise UsageError(
            f"The {what} have {vectors.shape[1]} dimensions, the index has {dim}.",
            "Use the vectors of the model that the index was made from, or build the index again.",
        )
    for start in range(0, len(vectors), CHUNK):
        finite = np.isfinite(vectors[start : start + CHUNK]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise UsageError(
                f"Row {row} of the {what} holds a number that is not finite (NaN or infinity).",
                "Look for the item or query behind that row: a feature of it, or the training, went wrong.",
            )


def checked_ids(
    ids: Int64[np.ndarray, " n"], vectors: Float32[np.ndarray, "m d"], held: Int64[np.ndarray, " h"]
) -> None:
    """Raises `UsageError` unless there is one new, non-negative id for each vector; `held` is sorted."""
    if len(ids) != len(vectors):
        raise UsageError(f"{len(ids)} ids came with {len(vectors)} vectors.", "Give one id for each vector.")
    if len(ids) == 0:
        return
    ordered = np.sort(ids)
    if ordered[0] < 0:
        raise UsageError(f"The id {ordered[0]} is negative.", "Use ids from 0 up, such as item rows.")
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise UsageError(f"The id {twice[0]} stands twice among the ids to add.", "Keep one vector for each id.")
    again = ordered[is_held(ordered, held)]
    if len(again):
        raise UsageError(
            f"The id {again[0]} is in the index already ({len(again)} of the {len(ids)} ids are).",
            "Remove it first, then add its new vector.",
        )


def is_held(ids: Int64[np.ndarray, " n"], held: Int64[np.ndarray, " h"]) -> Bool[np.ndarray, " n"]:
    """Which of `ids` stand in `held`, which is sorted."""
    if len(held) == 0:
        return np.zeros(len(ids), dtype=bool)
    places = np.minimum(np.searchsorted(held, ids), len(held) - 1)
    return np.asarray(held[places] == ids)


def is_dense(held: Int64[np.ndarray, " h"]) -> bool:
    """Whether the ids in `held`, which is sorted, are 0 to n - 1, so that a mask over rows is one over ids."""
    return len(held) > 0 and int(held[-1]) == len(held) - 1


def allowed_ids(allowed: Allowed, held: Int64[np.ndarray, " h"]) -> Int64[np.ndarray, " a"]:
    """The ids of `held` (sorted) that `allowed` lets through, sorted."""
    if allowed.dtype == np.bool_:
        if is_dense(held):
            return np.flatnonzero(allowed[: len(held)])
        within = held[: np.searchsorted(held, len(allowed))]
        return np.asarray(within[allowed[within]])
    wanted = np.unique(allowed.astype(np.int64, copy=False))
    return np.asarray(wanted[is_held(wanted, held)])


def write_about(folder: Path, about: dict[str, Any]) -> None:
    """Writes what the index says of itself as JSON that a person can read."""
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", "utf-8")


def read_about(folder: Path) -> dict[str, Any]:
    """What the index in `folder` says of itself; raises `ArtifactError` where there is none or it is damaged."""
    path = folder / ABOUT
    try:
        about = json.loads(path.read_text("utf-8"))
        if not isinstance(about, dict) or not {"kind", "dim"} <= about.keys():
            raise ValueError("it lacks 'kind' or 'dim'")
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder} holds no index: it has no {ABOUT}.", "Build it: mmse index --help.") from error
    except ValueError as error:
        raise damaged(path, error) from error
    return about


def damaged(path: Path, error: Exception) -> ArtifactError:
    """The error for an index file that cannot be read."""
    reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return ArtifactError(f"{path} is damaged: {reason}.", f"Delete {path.parent} and build the index again.")
