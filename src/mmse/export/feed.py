"""A feed: files of bounded size with all items of a run, what the index or collection is made with, and a query.

feed/bulk/00000.ndjson …    the items; `points/00000.json …` for Qdrant
index.json             settings and mapping; `collection.json` and `payload_indexes.json` for Qdrant
query.json             the body of a search, for one query of the log
manifest.json
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.config import plain_values, require
from mmse.core.errors import ArtifactError, UsageError
from mmse.core.progress import Progress, silent
from mmse.core.run_folder import SEARCH, RunFolder
from mmse.dataset.serving_data import read_popular_queries
from mmse.export import lucene, qdrant
from mmse.export.items import ItemRecord, read_items
from mmse.export.query import RemoteQuery
from mmse.index.step import attribute_columns
from mmse.model.features import FeatureSpace
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Search

FEED = "feed"
"""The kind of the folder."""
TargetEngine = Literal["opensearch", "elasticsearch", "qdrant"]
TARGETS: tuple[str, ...] = get_args(TargetEngine)
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class FeedConfig:
    """For which engine, how large a file may be (an item may make it a little larger), and the query of the example.

    Without a query it is the most frequent one of the log.
    """

    engine: TargetEngine
    file_mb: float = 10.0
    query: str | None = None

    def __post_init__(self) -> None:
        require(self.engine in TARGETS, "engine", self.engine, f"one of {', '.join(TARGETS)}")
        require(self.file_mb > 0, "file_mb", self.file_mb, "above 0")


def export_run(run: Path, target: Path, config: FeedConfig, progress: Progress = silent) -> Manifest:
    """Writes the items of `run`, edits included, into the feed folder `target`; as many as are held are thousands.

    Raises `ArtifactError` where the run cannot be searched.
    """
    retriever, folders = Retriever.open(run), RunFolder(run)
    snapshot, kinds = retriever.snapshot(), retriever.kinds
    attributes = attribute_columns(FeatureSpace.open(folders.model).shop_columns)
    inputs = {kind: folders.manifest(kind).fingerprint for kind in SEARCH}
    width = retriever.encoder.width
    with artifact.write_folder(target, kind=FEED, config=plain_values(config), inputs=inputs) as draft:
        items = _count(read_items(snapshot, attributes), len(snapshot), progress)
        if config.engine == "qdrant":
            _write_json(draft.folder / "collection.json", qdrant.make_collection(width))
            _write_json(draft.folder / "payload_indexes.json", qdrant.payload_indexes(kinds))
            lengths = snapshot.lexical.mean_lengths
            if lengths is None:
                raise ArtifactError("The index does not know how long its texts are.", "Run `mmse items compact`.")
            entries = qdrant.points(items, lengths.tolist())
            n_files = write_files(
                entries, draft.folder / "points", config.file_mb, frame=(b'{"points":[', b",", b"]}"), suffix=".json"
            )
        else:
            _write_json(draft.folder / "index.json", lucene.make_index(config.engine, width, kinds))
            n_files = write_files(
                lucene.bulk_lines(items), draft.folder / "bulk", config.file_mb, frame=(b"", b"", b""), suffix=".ndjson"
            )
        text = config.query or next(iter(read_popular_queries(folders.serving)), None)
        if text is not None:
            _write_json(draft.folder / "query.json", make_body(retriever, config.engine, Search(text)))
        draft.counts |= {"items": len(snapshot), "width": width, "files": n_files}
    return artifact.read_manifest(target, FEED)


def make_body(retriever: Retriever, engine: TargetEngine, search: Search) -> dict[str, Any]:
    """The body of the request that asks `engine` for the first hits of `search`: its query, filter, shopper and `k`.

    Raises `UsageError` for what another engine cannot do by itself.
    """
    if search.offset or search.sort or search.caps or search.boosts or search.facets or search.channel != "hybrid":
        raise UsageError(
            "A body for another engine has a query, a shopper, a filter and a number of hits.",
            "Leave out offset, sort, caps, boosts, facets and channel.",
        )
    query = RemoteQuery.of(retriever, search)
    if engine == "qdrant":
        return qdrant.make_query(query, search.k, retriever.kinds)
    return lucene.make_search(engine, query, search.k, retriever.kinds)


def write_files(
    entries: Iterable[bytes], folder: Path, file_mb: float, *, frame: tuple[bytes, bytes, bytes], suffix: str
) -> int:
    """Writes `entries` into files of about `file_mb` megabytes and gives their number.

    `frame` is what stands at the beginning of a file, between two entries, and at its end.
    """
    folder.mkdir()
    head, comma, tail = frame
    n_files, size, part = 0, 0, list[bytes]()
    for entry in entries:
        if part and size + len(entry) > file_mb * _MEGABYTE:
            (folder / f"{n_files:05d}{suffix}").write_bytes(head + comma.join(part) + tail)
            n_files, size, part = n_files + 1, 0, []
        part.append(entry)
        size += len(entry) + len(comma)
    if part:
        (folder / f"{n_files:05d}{suffix}").write_bytes(head + comma.join(part) + tail)
        n_files += 1
    return n_files


def _count(parts: Iterable[list[ItemRecord]], total: int, progress: Progress) -> Iterator[ItemRecord]:
    n_read = 0
    for part in parts:
        progress("items", n_read, total)
        yield from part
        n_read += len(part)


def _write_json(path: Path, value: Mapping[str, Any] | list[dict[str, str]]) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")
