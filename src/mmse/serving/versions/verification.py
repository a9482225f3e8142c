"""A run or a site looked through whole: every byte against its digest, lineage, edits, rules, and a sample of answers.

What opens a run checks sizes, which is quick; here each file is read. All that is wrong is found, not the first alone.
A server does a part of this beside its searches (`content.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from mmse.catalogue import layout, wal
from mmse.catalogue.snapshot import Snapshot
from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.errors import ArtifactError
from mmse.core.json_files import read_json
from mmse.core.run_folder import INPUTS, MODEL, SEARCH, RunFolder, require_lineage
from mmse.dataset.serving_data import read_probe_queries
from mmse.index.base import CHUNK
from mmse.ranking.rulebook import Rulebook
from mmse.retrieval.retriever import Retriever
from mmse.serving.events.inspection import inspect_log
from mmse.serving.experiments import EXPERIMENTS, read_experiments
from mmse.serving.versions import site_file
from mmse.serving.versions.content import EDITS, Inspection, inspect, verify_base
from mmse.serving.versions.site import Site, is_site

N_QUERIES, K = 20, 10
CYCLE_RECORDS = "cycles/[0-9]*/cycle.json"
MIN_RECALL = 0.9
"""The share of the exact nearest items that a sample of answers has to have; an index is built for 0.99."""


def verify_path(path: Path) -> Iterator[Inspection]:
    """Looks through a run folder, or through every version of a site; gives each part as it is done.

    Raises `ArtifactError` where the path is neither.
    """
    if not is_site(path):
        Site.open(path)
        yield from _verify_run(path, "")
        return
    yield inspect("serving.json", lambda: site_file.read_site(path))
    yield inspect(EXPERIMENTS, lambda: read_experiments(path))
    yield inspect(site_file.RULES, lambda: _verify_rules(path / site_file.RULES))
    yield from _verify_events(path / site_file.EVENTS)
    for file in sorted(path.glob(CYCLE_RECORDS)):
        yield inspect(file.relative_to(path).as_posix(), partial(read_json, file, dict))
    for name in site_file.version_names(path):
        yield inspect(f"{name}/{site_file.VERSION_FILE}", partial(site_file.read_version, path, name))
        yield from _verify_run(path / site_file.VERSIONS / name, f"{name}/")


def _verify_rules(folder: Path) -> None:
    """Raises `ArtifactError` where a version of the rules that could be live again is not what was published."""
    rulebook = Rulebook(folder, {})
    for publication in rulebook.history():
        rulebook.text(publication.version)


def _verify_events(folder: Path) -> Iterator[Inspection]:
    """Each damaged file of the log, or the log as a whole where none is."""
    damages = list(inspect_log(folder)) if folder.is_dir() else []
    yield from (Inspection(site_file.EVENTS, damage.cause, damage.cure) for damage in damages)
    if not damages:
        yield Inspection(site_file.EVENTS)


def _verify_run(run: Path, prefix: str) -> Iterator[Inspection]:
    """The folders of a run, how they fit, its edits, and answers where all that a search needs is whole."""
    manifests: dict[str, Manifest] = {}
    folders = {kind: kind for kind in INPUTS if kind in SEARCH or RunFolder(run).has(kind)}
    baselines = sorted(RunFolder(run).baselines.glob("[!.]*")) if RunFolder(run).baselines.is_dir() else []
    folders |= {f"baselines/{path.name}": MODEL for path in baselines}
    is_whole = True
    for name, kind in folders.items():
        inspection = inspect(f"{prefix}{name}", partial(_read, run, name, kind, manifests))
        is_whole = is_whole and not (inspection.problem and name in SEARCH)
        yield inspection
    fits = inspect(f"{prefix}lineage", lambda: require_lineage(manifests, run))
    yield fits
    edits = inspect(f"{prefix}{EDITS}", lambda: _verify_edits(run))
    yield edits
    if is_whole and not (fits.problem or edits.problem):
        yield inspect(f"{prefix}answers", lambda: _verify_answers(run))


def _read(run: Path, name: str, kind: str, manifests: dict[str, Manifest]) -> None:
    manifest = artifact.verify(run / name, kind, content=True)
    if name == kind:
        manifests[kind] = manifest


def _verify_edits(run: Path) -> None:
    """Raises `ArtifactError` for a damaged log of edits or base, and for a log that may have been cut."""
    number = verify_base(run)
    if number is None:
        return
    file = layout.wal_file(run, number)
    _, start = wal.read_header(file)
    commits = wal.read(file, start)
    if commits.n_torn:
        raise ArtifactError(
            wal.torn_problem(file, commits.end, commits.n_torn),
            "If edits are missing, restore the file from a backup or apply them again. Otherwise any edit mends it.",
        )


def _verify_answers(run: Path) -> None:
    """Raises `ArtifactError` where the rules are not in use, or searches miss what an exact search finds."""
    retriever = Retriever.open(run)
    try:
        problem = retriever.rulebook.status().problem if retriever.rulebook else None
        if problem:
            raise ArtifactError(f"The rules are not in use: {problem}", "Publish the rules again.")
        queries = read_probe_queries(RunFolder(run).serving, N_QUERIES)
        if not queries:
            return
        recall = _measure_recall(retriever.snapshot(), retriever.query_vectors(queries))
        if recall < MIN_RECALL or not any(retriever.search(query, K) for query in queries):
            raise ArtifactError(
                f"Of the {K} nearest items of {len(queries)} queries the index finds {recall:.0%}, "
                f"expected at least {MIN_RECALL:.0%}, and some answer.",
                f"Delete {run / 'index'} and run `mmse index` again.",
            )
    finally:
        if retriever.catalogue is not None:
            retriever.catalogue.close()


def _measure_recall(snapshot: Snapshot, vectors: Float32[np.ndarray, "n width"]) -> float:
    """The share of the exact nearest items that the index finds."""
    shares = [
        np.isin(exact, found).mean()
        for exact, found in zip(_exact_rows(snapshot, vectors), snapshot.search_vectors(vectors, K).ids, strict=True)
        if len(exact)
    ]
    return float(np.mean(shares)) if shares else 1.0


def _exact_rows(snapshot: Snapshot, vectors: Float32[np.ndarray, "n width"]) -> list[Int64[np.ndarray, " k"]]:
    """The `K` nearest items of each query, by comparing it with every item."""
    mask = snapshot.mask()
    rows = np.arange(snapshot.n_rows) if mask is None else np.flatnonzero(mask)
    scores = [vectors @ snapshot.vectors(rows[at : at + CHUNK]).T for at in range(0, len(rows), CHUNK)]
    joint = np.concatenate(scores, axis=1) if scores else np.empty((len(vectors), 0), np.float32)
    return [rows[np.argsort(-row_scores, kind="stable")[:K]] for row_scores in joint]
