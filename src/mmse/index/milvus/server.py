"""A Milvus server: where it is, a connection of each process to it, and its failures in our words."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float32, Int64

from mmse.core.config import require
from mmse.core.errors import StoreError, UsageError
from mmse.core.extras import require_extra
from mmse.index.milvus.fields import ROW

INDEXES = ("FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8")
CONSISTENCY = ("Strong", "Bounded", "Eventually")
BUILD_TIMEOUT_S = 6 * 3600.0
"""How long a collection may take to be flushed, indexed and loaded."""
INSERT_TIMEOUT_S = 60.0
MAX_LIMIT = 16_384
"""Milvus' limit for the hits of a query."""
MAX_LISTS = 65_536
"""Milvus' limit for the lists of an IVF index; a search that asks for so many visits all that there are."""
LOAD_TRIES = 5
"""So often a search loads a collection that a later state took out of memory; it may still be going out."""
_NO_SUCH_INDEX = (6, 1100)
_POLL_S = 0.2
_CHANNEL = {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.max_reconnect_backoff_ms": 1_000,
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_permit_without_calls": 0,  # Milvus Lite hangs up on a client that pings while it is idle
}
_MOST_MESSAGE = 300
_AUTHENTICATION = ("unauthenticated", "authorization", "auth check failure", "permission denied", "privilege")
_NOT_LOADED = ("not loaded", "not found", "does not exist", "not fully loaded", "released")
_ABSENCE = ("unavailable", "deadline", "timeout", "fail connecting", "failed to connect", "connection refused")


@dataclass(frozen=True)
class MilvusConfig:
    """`[index.options]` of the store `milvus`.

    `token_file` names a file with `user:password` or an API key, empty where the server wants none. `collection`
    begins the names of all states, and is the alias of the newest. The IVF kinds have `lists` (0: 4√n) and
    visit `nprobe` of them (0: as many as find [index] target_recall of the exact top recall_k, measured when the index
    is built), more under a filter, and all where it lets fewer than `exact_below` rows through. `m`, `ef_construction`
    and `ef` are for HNSW. The newest `loaded` states stay in the server's memory.
    """

    uri: str = "http://localhost:19530"
    token_file: str = ""
    database: str = ""
    collection: str = "mmse"
    index: str = "IVF_FLAT"
    lists: int = 0
    nprobe: int = 0
    exact_below: int = 200_000
    m: int = 16
    ef_construction: int = 200
    ef: int = 400
    consistency: str = "Eventually"
    loaded: int = 3
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        addresses = "http://HOST:PORT or https://HOST:PORT (no file of Milvus Lite, which one process alone can open: "
        addresses += "start milvus-lite server --data-dir FOLDER --port 19530)"
        require(self.uri.startswith(("http://", "https://")), "uri", self.uri, addresses)
        is_name = self.collection.isidentifier() and self.collection.isascii() and len(self.collection) <= 200
        require(is_name, "collection", self.collection, "letters, digits and _, at most 200 of them")
        require(self.index in INDEXES, "index", self.index, f"one of {', '.join(INDEXES)}")
        require(2 <= self.m <= 2048, "m", self.m, "2 to 2048")
        require(self.ef_construction >= 1, "ef_construction", self.ef_construction, "at least 1")
        require(1 <= self.ef <= 32_768, "ef", self.ef, "1 to 32768")
        require(0 <= self.lists <= MAX_LISTS, "lists", self.lists, "0 to 65536")
        require(0 <= self.nprobe <= MAX_LISTS, "nprobe", self.nprobe, "0 to 65536")
        require(self.exact_below >= 0, "exact_below", self.exact_below, "0 rows or more")
        require(self.consistency in CONSISTENCY, "consistency", self.consistency, f"one of {', '.join(CONSISTENCY)}")
        require(self.loaded >= 1, "loaded", self.loaded, "at least 1")
        require(self.timeout_s > 0, "timeout_s", self.timeout_s, "seconds above 0")


@final
class MilvusServer:
    """The server of a config, which may be shared by threads and inherited by processes."""

    def __init__(self, config: MilvusConfig) -> None:
        require_extra("milvus")
        self.config = config
        self._lock = threading.Lock()
        self._client: Any = None
        self._process = 0

    def call(self, method: str, *values: object, timeout_s: float | None = None, **options: object) -> Any:  # noqa: ANN401 - whatever the client gives
        """What a method of `pymilvus.MilvusClient` gives.

        Raises `StoreError` where the server does not answer or refuses; its cause is the client's own error.
        """
        import grpc
        from pymilvus.exceptions import MilvusException

        client = None
        try:
            client = self._connect()
            act = getattr(client, method)
            return act(*values, timeout=self.config.timeout_s if timeout_s is None else timeout_s, **options)
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
            if _tells(error, _ABSENCE):
                self._forget(client)
            raise self._translate(error) from error
        except ValueError as error:
            if not _tells(error, ("closed channel",)):  # by another thread, which met the server's absence
                raise
            self._forget(client)
            raise self._translate(error) from error

    def build_index(self, collection: str, field: str, kind: str, **parameters: object) -> None:
        """Indexes a field and waits until that is done."""
        from pymilvus import MilvusClient

        index = MilvusClient.prepare_index_params()
        index.add_index(field, index_type=kind, index_name=field, **parameters)
        self.call("create_index", collection, index, timeout_s=INSERT_TIMEOUT_S, sync=False)
        deadline = time.monotonic() + BUILD_TIMEOUT_S
        while self.call("describe_index", collection, field).get("state") not in ("Finished", None):
            self._wait(deadline, f"indexed '{field}' of {collection}")

    def load(self, collection: str) -> None:
        """Loads a collection into the server's memory and waits until that is done; nothing where it is loaded."""
        if self._is_loaded(collection):
            return
        self.call("load_collection", collection, timeout_s=INSERT_TIMEOUT_S, _async=True)
        deadline = time.monotonic() + BUILD_TIMEOUT_S
        while not self._is_loaded(collection):
            self._wait(deadline, f"loaded {collection}")

    def find_rows(
        self,
        collection: str,
        queries: Float32[np.ndarray, "q width"],
        limit: int,
        expression: str,
        parameters: Mapping[str, int],
    ) -> Int64[np.ndarray, "q limit"]:
        """The rows that Milvus finds for each query, best first, -1 where it finds fewer than `limit`."""
        answers = self._search(
            collection,
            data=list(np.ascontiguousarray(queries)),
            filter=expression,
            limit=limit,
            output_fields=[ROW],
            search_params={"metric_type": "IP", "params": dict(parameters)},
            consistency_level=self.config.consistency,
        )
        rows = np.full((len(queries), limit), -1, np.int64)
        for number, hits in enumerate(answers):
            rows[number, : len(hits.ids)] = hits.ids
        return rows

    def _search(self, collection: str, **request: Any) -> Any:  # noqa: ANN401 - the client's own lists of hits
        """The hits of a request to `collection`, which is loaded where it was taken out of memory.

        Raises `StoreError` as `call`, also where there is no such collection any more.
        """
        for _ in range(LOAD_TRIES):
            try:
                return self.call("search", collection, **request)
            except StoreError as error:
                if not isinstance(error.__cause__, Exception) or not _tells(error.__cause__, _NOT_LOADED):
                    raise
                if not self.call("has_collection", collection):
                    cause = f"The Milvus server at {self.config.uri} has no collection {collection} any more."
                    raise StoreError(cause, "Build the index again: mmse index.") from error
            time.sleep(_POLL_S)
            self.load(collection)
        return self.call("search", collection, **request)

    def try_index(self, collection: str, field: str, kind: str) -> bool:
        """Indexes a scalar field; False where this server has no such index of such a field."""
        try:
            self.build_index(collection, field, kind)
        except StoreError as error:
            if is_code(error, *_NO_SUCH_INDEX):
                return False
            raise
        return True

    def release(self, collection: str) -> None:
        """Takes a collection out of the server's memory."""
        if self._is_loaded(collection):
            self.call("release_collection", collection)

    def count_rows(self, collection: str) -> int:
        """How many rows a loaded collection has, all that were ever written included."""
        counts = self.call("query", collection, filter="", output_fields=["count(*)"], consistency_level="Strong")
        return int(counts[0]["count(*)"])

    def _is_loaded(self, collection: str) -> bool:
        return getattr(self.call("get_load_state", collection)["state"], "name", "") == "Loaded"

    def _wait(self, deadline: float, work: str) -> None:
        if time.monotonic() > deadline:
            raise StoreError(
                f"The Milvus server at {self.config.uri} has not {work} within {BUILD_TIMEOUT_S / 3600:.0f} hours.",
                "See its log.",
            )
        time.sleep(_POLL_S)

    def _connect(self) -> Any:  # noqa: ANN401 - an optional library's class
        """The client of this process: what a parent opened is not used by a child."""
        from pymilvus import MilvusClient

        # Each failure would be logged with its traceback; it is raised in our words, or expected.
        for name in ("pymilvus", "pymilvus.milvus_client"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with self._lock:
            if self._process != os.getpid():
                self._client = MilvusClient(
                    uri=self.config.uri,
                    token=self._read_token(),
                    db_name=self.config.database,
                    timeout=self.config.timeout_s,
                    dedicated=True,
                    grpc_options=_CHANNEL,
                )
                self._process = os.getpid()
            return self._client

    def _forget(self, client: object) -> None:
        """Makes the next call connect anew: a client that lost its server waits ever longer before it tries again."""
        with self._lock:
            if client is self._client:
                self._process = 0

    def _read_token(self) -> str:
        if not self.config.token_file:
            return ""
        try:
            return Path(self.config.token_file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"[index.options] token_file '{self.config.token_file}' cannot be read: {error}.",
                "Write the server's user:password, or an API key, into it.",
            ) from error

    def _translate(self, error: Exception) -> StoreError:
        message = _reason(error)[:_MOST_MESSAGE].rstrip(".")
        server = f"The Milvus server at {self.config.uri}"
        if _tells(error, _AUTHENTICATION):
            file = f"'{self.config.token_file}'" if self.config.token_file else "none is given"
            return StoreError(
                f"{server} refuses the token ({file}): {message}.",
                "Write its user:password, or an API key, into a file, and name it as token_file in [index.options].",
            )
        if _tells(error, (*_ABSENCE, "closed channel")):
            return StoreError(
                f"{server} does not answer: {message}.", "Start it, or mend uri in [index.options] of shop.toml."
            )
        return StoreError(f"{server} refuses: {message}.", "See its log.")


def _reason(error: BaseException) -> str:
    """What the server said of a failed connection, or else what the client's error says."""
    details = getattr(error.__cause__, "details", None)
    text = str(details() or "") if callable(details) else ""
    return " ".join((text or _message(error)).split())


def _message(error: BaseException) -> str:
    return str(getattr(error, "message", "") or error)


def _tells(error: BaseException, words: tuple[str, ...]) -> bool:
    """Whether the message of a client's error has one of `words`; its codes differ between versions."""
    text = f"{_message(error)} {_reason(error)}".lower()
    return any(word in text for word in words)


def is_code(error: StoreError, *codes: int) -> bool:
    """Whether Milvus gave one of `codes` for the failure."""
    return getattr(error.__cause__, "code", None) in codes
