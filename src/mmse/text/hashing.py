"""Stable hashes of texts: the same on every machine and in every version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt64


def digest(text: str) -> bytes:
    """Eight bytes of a hash of `text`, the least significant first; half a surrogate pair is hashed as it is."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def digests(texts: Iterable[str]) -> UInt64[np.ndarray, " n"]:
    """The `digest` of each text as a number."""
    return np.frombuffer(b"".join(map(digest, texts)), dtype="<u8").astype(np.uint64)


def bucket(text: str, n_buckets: int) -> int:
    """The bucket of `text`, from `0` to `n_buckets - 1`."""
    return int.from_bytes(digest(text), "little") % n_buckets
