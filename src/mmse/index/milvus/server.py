"""A Milvus server: where it is, a connection of each process to it, and its failures in our words."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from mmse.core.config import require
from mmse.core.errors import StoreError, UsageError
from mmse.core.extras import require_extra

INDEXES = ("FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8")
CONSISTENCY = ("Strong", "Bounded", "Eventually")
BUILD_TIMEOUT_S = 6 * 3600.0
"""How long a collection may take to be flushed, indexed and loaded."""
INSERT_TIMEOUT_S = 60.0
NOT_LOADED = (101,)
"""Milvus' codes for a collection that is not in memory."""
_NO_SUCH_INDEX = (6, 1100)
_POLL_S = 0.2
_MOST_MESSAGE = 300
_AUTHENTICATION = ("unauthenticated", "auth check failure", "permission denied", "privilege")
_ABSENCE = ("unavailable", "deadline", "timeout", "fail connecting", "failed to connect", "connection refused")


@dataclass(frozen=True)
class MilvusConfig:
    """`[index.options]` of the store `milvus`.

    `token_file` names a file with `user:password` or an API key, empty where the server wants none. `collection`
    begins the names of all states, and is the alias of the newest. `lists` (0: 4√n) and `probes` are for the
    IVF kinds; `m`, `ef_construction` and `ef` for HNSW. The newest `loaded` states stay in the server's memory.
    """

    uri: str = "http://localhost:19530"
    token_file: str = ""
    database: str = ""
    collection: str = "mmse"
    index: str = "IVF_FLAT"
    lists: int = 0
    probes: int = 64
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
        require(0 <= self.lists <= 65_536, "lists", self.lists, "0 to 65536")
        require(self.probes >= 1, "probes", self.probes, "at least 1")
        require(self.consistency in CONSISTENCY, "consistency", self.consistency, f"one of {', '.join(CONSISTENCY)}")
        require(self.loaded >= 1, "loaded", self.loaded, "at least 1")
        require(self.timeout_s > 0, "timeout_s", self.timeout_s, "seconds above 0")


@final
class MilvusServer:
    """The server of a config, which may be shared by threads and inherited by processes."""

    def __init__(self, config: MilvusConfig) -> None:
        require_extra("milvus")
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs each failure, which is raised as ours anyway
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

        try:
            act = getattr(self._connect(), method)
            return act(*values, timeout=self.config.timeout_s if timeout_s is None else timeout_s, **options)
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
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

        with self._lock:
            if self._process != os.getpid():
                self._client = MilvusClient(
                    uri=self.config.uri,
                    token=self._read_token(),
                    db_name=self.config.database,
                    timeout=self.config.timeout_s,
                    dedicated=True,
                )
                self._process = os.getpid()
            return self._client

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
        message = " ".join(str(getattr(error, "message", "") or error).split())[:_MOST_MESSAGE].rstrip(".")
        server, text = f"The Milvus server at {self.config.uri}", message.lower()
        if any(word in text for word in _AUTHENTICATION):
            file = f"'{self.config.token_file}'" if self.config.token_file else "none is given"
            return StoreError(
                f"{server} refuses the token ({file}): {message}.",
                "Write its user:password, or an API key, into a file, and name it as token_file in [index.options].",
            )
        if any(word in text for word in _ABSENCE):
            return StoreError(
                f"{server} does not answer: {message}.", "Start it, or mend uri in [index.options] of shop.toml."
            )
        return StoreError(f"{server} refuses: {message}.", "See its log.")


def is_code(error: StoreError, *codes: int) -> bool:
    """Whether Milvus gave one of `codes` for the failure."""
    return getattr(error.__cause__, "code", None) in codes
