"""What is looked at after a fault: whether every part is whole, what answers say, which edits and events are there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mmse.catalogue import LiveCatalogue
from mmse.core import artifact
from mmse.core.errors import MmseError
from mmse.core.run_folder import INPUTS
from mmse.retrieval.retriever import Retriever
from mmse.schema.filters import parse_filter
from mmse.schema.search import Search
from mmse.serving.events import segments
from mmse.serving.events.rows import SCHEMA
from mmse.serving.versions.site import Site
from mmse.serving.versions.verification import verify_path

QUERIES = ("drill", "red mug", "zorbak", "quevo drill", "lamp", "garden chair", "shoes", "phone")
LITTER = ("*.writing*", ".*.former-*", ".*.removing", ".*.forgetting", "torn-*")


def damages(path: Path) -> list[str]:
    """What `mmse verify` finds in a run or a site."""
    return [f"{part.subject}: {part.problem}" for part in verify_path(path) if part.problem]


def folder_damages(run: Path) -> list[str]:
    """What is wrong with the folders of a run; those that are to be made may be absent."""
    problems = []
    for kind in (kind for kind in INPUTS if (run / kind).is_dir()):
        try:
            artifact.verify(run / kind, kind, content=True)
        except MmseError as error:
            problems.append(error.cause)
    return problems


def fingerprints(run: Path) -> dict[str, str]:
    """The fingerprint of each folder of a run that is there."""
    return {kind: artifact.read_manifest(run / kind, kind).fingerprint for kind in INPUTS if (run / kind).is_dir()}


def litter(folder: Path) -> list[str]:
    """Drafts and former folders that nobody uses any more."""
    return [str(path.relative_to(folder)) for pattern in LITTER for path in folder.rglob(pattern)]


def answers(run: Path) -> list[Any]:
    """What some searches give, with all that a hit has, and the problem of the rules."""
    retriever = Retriever.open(run)
    results: list[Any] = [retriever.rulebook.status() if retriever.rulebook else None]
    cheap = parse_filter({"price": {"to": 60}}, retriever.kinds)
    for query in QUERIES:
        for search in (
            Search(query, 20, user_id="s00000003", facets=("brand", "price")),
            Search(query, 8, filter=cheap, explain=False, channel="lexical"),
            Search(query, 8, channel="vector", sort="price"),
        ):
            answer = retriever.answer(search)
            hits = [(hit.item_id, hit.score, hit.probability, hit.moved_by, repr(hit.item)) for hit in answer.hits]
            results.append((hits, repr(answer.facets), answer.corrected_from))
    return results


def site_answers(site: Path) -> list[Any]:
    """The answers of each arm, with the versions."""
    state = Site.open(site).state()
    return [(arm, version.name, answers(version.run)) for arm, version in sorted(state.arms.items())]


def lost_edits(run: Path, lines: Iterable[str]) -> list[str]:
    """Acknowledged edits that are not there, or are overwritten by what nobody sent.

    `lines` are `try ID PRICE` before an edit is sent and `edit ID PRICE` once it is acknowledged, by item in order; a
    price of 0 deletes the item.
    """
    admissible = defaultdict[str, set[float]](lambda: {0.0})
    for line in (line for line in lines if line.startswith(("try ", "edit "))):
        kind, item_id, price = line.split()
        if kind == "try":
            admissible[item_id].add(float(price))
        else:
            admissible[item_id] = {float(price)}
    with LiveCatalogue.open(run) as catalogue:
        snapshot = catalogue.snapshot()
        ids = sorted(admissible)
        rows = snapshot.rows(ids).tolist()
        items = iter(snapshot.items(np.array([row for row in rows if row >= 0], np.int64)))
        prices = [float(str(next(items)["price"])) if row >= 0 else 0.0 for row in rows]
    return [
        f"{item_id} costs {price:g}, expected one of {sorted(admissible[item_id])}"
        for item_id, price in zip(ids, prices, strict=True)
        if price not in admissible[item_id]
    ]


def miscounted_events(folder: Path, lines: Iterable[str]) -> list[str]:
    """Acknowledged events (`event ID`) that are not in the log, and rows that are there twice."""
    segments.seal_orphans(folder, SCHEMA)
    counts = Counter[tuple[Any, ...]]()
    for row in read_rows(folder):
        counts[row["request_id"], row["item_id"], row["position"], row["clicked"]] += 1
    ids = {key[0] for key in counts}
    lost = sorted({line.split()[1] for line in lines if line.startswith("event ")} - ids)
    twice = [key for key, count in counts.items() if count > 1]
    return [f"lost: {lost[:3]} of {len(lost)}"] * bool(lost) + [f"twice: {twice[:3]} of {len(twice)}"] * bool(twice)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """All rows of a log: of its sealed files and of its open segments."""
    return list(_iterate_rows(folder))


def _iterate_rows(folder: Path) -> Iterator[dict[str, Any]]:
    for file in segments.sealed_files(folder):
        yield from pq.read_table(file, partitioning=None).to_pylist()
    for batch in segments.read_open_batches(folder, SCHEMA):
        yield from batch.to_pylist()


def count_rows(rows: Sequence[dict[str, Any]]) -> Counter[str]:
    """The rows by request."""
    return Counter(str(row["request_id"]) for row in rows)


def miscounted(counts: Counter[str], names: Iterable[str], n: int) -> list[str]:
    """The requests `NAME-0` to `NAME-(n-1)` that have not the three rows that `bases.write_events` writes."""
    ids = [f"{name}-{number}" for name in names for number in range(n)]
    return [f"{request_id} has {counts[request_id]} rows" for request_id in ids if counts[request_id] != 3]
