"""A run published as a version of a site: copied, checked as a whole and searched, before anybody is served from it.

The folders of a run never change once they are made, so the copy is links where the disk allows. It is made in a hidden
folder and renamed, so a version is whole or absent; the next publisher removes what a killed one left. The copy has
what a search needs, and nothing of the log but `serving/` (`mmse.dataset.serving_data`).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmse.catalogue import transfer
from mmse.core import artifact, locks
from mmse.core.artifact import Manifest
from mmse.core.drafts import sync
from mmse.core.errors import ArtifactError, UsageError
from mmse.core.folder_copy import copy_folder
from mmse.core.json_files import write_json
from mmse.core.run_folder import INDEX, MAP, SEARCH, SERVING, VECTORS, RunFolder, require_lineage
from mmse.dataset.serving_data import INTERACTIONS, read_probe_queries
from mmse.index.embedding import QUERIES
from mmse.ranking.rulebook import rule_files
from mmse.retrieval.retriever import Retriever
from mmse.schema.http import LIVE
from mmse.serving.versions import site_file
from mmse.serving.versions.site import Site, is_site, require_arm, switch_arm
from mmse.serving.versions.site_file import (
    PUBLISH_LOCK,
    RULES,
    SITE_FILE,
    VERSION_FILE,
    VERSIONS,
    Version,
    VersionRecord,
)

N_PROBES = 5
"""How many queries a version is tried with before it is served."""
MIN_KEPT = 2
LOCK_LIMIT_S = 600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListedVersion:
    """A published version, and the arms that serve it."""

    version: Version
    arms: tuple[str, ...]


def publish(
    site: Path,
    run: Path,
    *,
    arm: str = LIVE,
    note: str = "",
    by: str = "",
    edits: Literal["carry", "discard"] = "carry",
    histories: bool = True,
) -> str:
    """Copies `run` into the folder `site`, which is made if need be, and lets `arm` serve it; gives the version's name.

    The new version takes over the edits of the live one, unless they are to be discarded (when the tables have them).
    Without `histories` it knows no shopper: a personal search has only the history that it sends itself. Raises
    `ArtifactError` where the run is damaged, its folders do not fit one another, or a trial search finds nothing; then
    nothing has changed.
    """
    require_arm(arm)
    require_publishable(site, arm)
    with artifact.explain_os_errors(site):
        (site / VERSIONS).mkdir(parents=True, exist_ok=True)
    with locks.lock(site / PUBLISH_LOCK, limit_s=LOCK_LIMIT_S):
        _served_names(site)  # raises where the site is damaged
        sweep(site)
        name = f"{max(map(int, site_file.version_names(site)), default=0) + 1:04}"
        draft, target = site / VERSIONS / f".{name}.writing", site / VERSIONS / name
        has_new_rules = False
        try:
            with artifact.explain_os_errors(draft):
                manifests = _copy_run(run, draft, histories=histories)
                has_new_rules = _link_rules(site, run, draft)
            if run_edits := transfer.pending_edits(run):
                with transfer.open_receiver(draft) as receiver:
                    receiver.take(run_edits.values())
            _require_answers(draft)
            record = VersionRecord(site_file.utc_time(), by, note, manifests[INDEX].fingerprint)
            write_json(draft / VERSION_FILE, record)
            with artifact.explain_os_errors(target):
                draft.rename(target)
                sync(target.parent)
            version = site_file.read_version(site, name)
            with transfer.open_receiver(target) as receiver, locks.take_turn(site):
                switch_arm(site, arm, version, receiver, "publish", keep_edits=edits == "carry", note=note, by=by)
        except BaseException:
            if name not in _served_names(site):
                for path in (draft, target, *([site / RULES] if has_new_rules else [])):
                    shutil.rmtree(path, ignore_errors=True)
            raise
    return name


def prune(site: Site, keep: int) -> list[str]:
    """Removes all but the newest `keep` versions, and gives their names.

    A version that an arm serves stays, and the one that was live before. At least two stay: servers may still be
    answering from the former one.
    """
    site.require_versions()
    with locks.lock(site.path / PUBLISH_LOCK, limit_s=LOCK_LIMIT_S):
        sweep(site.path)
        with locks.take_turn(site.path):
            record = site_file.read_site(site.path)
            names = site_file.version_names(site.path)
            in_use = {*record.arms.values(), *record.versions_before(LIVE)[:1], *names[-max(keep, MIN_KEPT) :]}
            unused_names = [name for name in names if name not in in_use]
            with artifact.explain_os_errors(site.path / VERSIONS):
                for name in unused_names:
                    (site.path / VERSIONS / name).rename(site.path / VERSIONS / f".{name}.removing")
        sweep(site.path)
    return unused_names


def list_versions(site: Site) -> list[ListedVersion]:
    """Every published version, oldest first."""
    site.require_versions()
    names_by_arm = site_file.read_site(site.path).arms
    arms = {
        name: tuple(sorted(arm for arm in names_by_arm if names_by_arm[arm] == name)) for name in names_by_arm.values()
    }
    return [
        ListedVersion(site_file.read_version(site.path, name), arms.get(name, ()))
        for name in site_file.version_names(site.path)
    ]


def require_publishable(site: Path, arm: str) -> None:
    """Raises `UsageError` where the folder is no site and cannot become one, or would have no live arm."""
    if is_site(site):
        is_new = not (site / SITE_FILE).exists()
    elif site.exists() and (not site.is_dir() or any(site.iterdir())):
        Site.open(site).require_versions()
        raise AssertionError("only a run folder is no site")
    else:
        is_new = True
    if is_new and arm != LIVE:
        raise UsageError(
            f"{site} serves nothing yet, and '{arm}' would be its first arm.", f"Publish for '{LIVE}' first."
        )


def _served_names(site: Path) -> set[str]:
    """The versions that some arm serves."""
    return set(site_file.read_site(site).arms.values()) if (site / SITE_FILE).exists() else set()


def _copy_run(run: Path, draft: Path, *, histories: bool) -> Mapping[str, Manifest]:
    """Links or copies what a search needs of `run`; raises `ArtifactError` where it is not whole or does not fit.

    Left out are the vectors of logged queries, which only the building of an index reads, and the histories if asked.
    """
    leave_out = {VECTORS: [QUERIES], SERVING: [] if histories else [INTERACTIONS]}
    draft.mkdir()
    try:
        manifests = {
            kind: copy_folder(run / kind, draft / kind, kind, leave_out=leave_out.get(kind, [])) for kind in SEARCH
        }
        require_lineage(manifests, run)
        if RunFolder(run).has(MAP):
            _copy_map(run, draft, manifests)
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{run} changed while it was copied: {error.filename} is gone.",
            "Let `mmse run` finish it, then publish again.",
        ) from error
    sync(draft)
    return manifests


def _copy_map(run: Path, draft: Path, manifests: Mapping[str, Manifest]) -> None:
    """Copies the map. One that is damaged or shows other vectors is left out with a warning: no search needs it."""
    try:
        require_lineage({**manifests, MAP: copy_folder(run / MAP, draft / MAP, MAP)}, run)
    except ArtifactError as error:
        shutil.rmtree(draft / MAP, ignore_errors=True)
        log.warning("%s is left out: %s", run / MAP, error.cause)


def _link_rules(site: Path, run: Path, draft: Path) -> bool:
    """Links the rules of the site into `draft`. The first version brings its own rules along; then it gives true."""
    is_first = not (site / RULES).exists()
    if is_first:
        copied_rules = site / f".{RULES}.writing"
        shutil.rmtree(copied_rules, ignore_errors=True)
        copied_rules.mkdir()
        for file in rule_files(run / RULES):
            shutil.copy2(file, copied_rules / file.name)
        copied_rules.rename(site / RULES)
    (draft / RULES).symlink_to(Path("..") / ".." / RULES)
    return is_first


def _require_answers(draft: Path) -> None:
    """Opens the copy and searches it; raises `ArtifactError` where it finds nothing for any query."""
    retriever = Retriever.open(draft)
    try:
        problem = retriever.rulebook.status().problem if retriever.rulebook else None
        if problem:
            raise ArtifactError(
                f"The rules of the site do not fit this run: {problem}",
                "Publish rules that fit both (`mmse rules publish`), then publish the run.",
            )
        queries = read_probe_queries(RunFolder(draft).serving, N_PROBES)
        if queries and not any(retriever.search(query, 10) for query in queries):
            raise ArtifactError(
                f"The run finds nothing for any of {len(queries)} queries, such as '{queries[0]}'.",
                "Look at the run: `mmse search RUN QUERY`, `mmse items status RUN`.",
            )
    finally:
        if retriever.catalogue is not None:
            retriever.catalogue.close()


def sweep(site: Path) -> None:
    """Removes what other publishers began and did not end; for the process that holds the lock."""
    for path in (site / VERSIONS).iterdir() if (site / VERSIONS).is_dir() else ():
        if path.name.startswith(".") and path.name.endswith((".writing", ".removing")):
            shutil.rmtree(path)
