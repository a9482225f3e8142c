"""The versions that a worker has in memory: loaded beside those in service, and swapped while searches go on.

A version that cannot be loaded is refused, and the server goes on with what it has. A version that no arm serves any
more is drained: it is closed when the last search that began on it is answered.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import final

from mmse.catalogue import carry_over
from mmse.core.errors import MmseError, OutputError
from mmse.core.run_folder import INDEX, MAP, SEARCH, SERVING, RunFolder
from mmse.dataset.serving_data import read_popular_queries, read_probe_queries
from mmse.map.projection import CatalogueMap
from mmse.ranking.calibration import NO_PROBABILITIES
from mmse.retrieval.retriever import Retriever
from mmse.retrieval.suggester import Suggester
from mmse.schema.http import LIVE
from mmse.schema.search import Search
from mmse.schema.user_ids import SALT
from mmse.serving.answer_cache import AnswerCache
from mmse.serving.config import ServeConfig
from mmse.serving.content_check import ContentCheck
from mmse.serving.failures import RequestError
from mmse.serving.observability import metrics
from mmse.serving.versions.site import Site
from mmse.serving.versions.site_file import Version
from mmse.serving.versions.withdrawal import open_site, open_whole

EXAMPLES = 8
_N_WARMUP = 20
"""Queries that are answered before a version goes into service."""

log = logging.getLogger(__name__)


@final
@dataclass(eq=False)
class LoadedVersion:
    """A version in memory; `examples` are popular queries of its log, `indexed_at` is in seconds since 1970.

    `read_only_reason` says why it takes no edits, "" where it does; `user_salt` is the fingerprint of the salt with
    which its shoppers' ids are hashed, "" where they are not.
    It stays open while `n_leases` of it are held; once it is retired, the last one to be released closes it.
    """

    site_version: Version
    retriever: Retriever
    catalogue_map: CatalogueMap | None
    examples: tuple[str, ...]
    suggester: Suggester
    answers: AnswerCache
    indexed_at: float
    read_only_reason: str = ""
    user_salt: str = ""
    n_leases: int = 0
    is_retired: bool = False

    @property
    def name(self) -> str:
        """The version's name."""
        return self.site_version.name

    def close(self) -> None:
        """Closes its files."""
        if self.retriever.catalogue is not None:
            self.retriever.catalogue.close()


@final
@dataclass(eq=False)
class ModelPool:
    """The versions in service, by arm; `problem` says why a newer one is not among them.

    `content` reads the files of each version that goes into service.
    """

    site: Site
    config: ServeConfig
    arms: Mapping[str, LoadedVersion] = field(default_factory=dict)
    problem: str | None = None
    content: ContentCheck = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reload_lock: threading.Lock = field(default_factory=threading.Lock)
    _stop_event: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread | None = None
    _failed_arms: Mapping[str, Version] | None = None

    def __post_init__(self) -> None:
        self.content = ContentCheck(self.site)

    @classmethod
    def open(cls, config: ServeConfig) -> ModelPool:
        """All that the site serves now, without what is damaged where another version takes its place.

        Raises `ArtifactError` where a version cannot be loaded.
        """
        pool = cls(open_site(config.path), config)
        open_whole(pool.site, lambda state: pool._swap(state.arms))
        return pool

    def __str__(self) -> str:
        return ", ".join(f"{arm}: {version.name}" for arm, version in self.arms.items())

    @contextlib.contextmanager
    def lease(self, name: str | None) -> Iterator[LoadedVersion]:
        """The version of that name or arm (None: the live one), which stays open meanwhile.

        Raises `RequestError` where none is served.
        """
        version = self.acquire(name)
        try:
            yield version
        finally:
            self.release(version)

    def acquire(self, name: str | None) -> LoadedVersion:
        """As `lease`, until `release`."""
        with self._lock:
            version = self.arms.get(name or LIVE) or next((v for v in self.arms.values() if v.name == name), None)
            if version is not None:
                version.n_leases += 1
                return version
            names = ", ".join(sorted({*self.arms, *(version.name for version in self.arms.values())}))
        raise RequestError("version_unknown", f"No version or arm '{name}' is served.", f"Ask for one of: {names}.")

    def has(self, name: str) -> bool:
        """Whether a version or an arm of that name is served."""
        return name in self.arms or any(version.name == name for version in self.arms.values())

    def release(self, version: LoadedVersion) -> None:
        """Ends an `acquire`; the last one closes a version that is no longer served."""
        with self._lock:
            version.n_leases -= 1
            is_unused = version.is_retired and version.n_leases == 0
        if is_unused:
            version.close()

    @contextlib.contextmanager
    def lease_all(self) -> Iterator[Mapping[Version, LoadedVersion]]:
        """Every version in service; all stay open meanwhile."""
        with self._lock:
            versions = set(self.arms.values())
            for version in versions:
                version.n_leases += 1
        try:
            yield {version.site_version: version for version in versions}
        finally:
            for version in versions:
                self.release(version)

    def start(self) -> None:
        """Starts the threads: one looks for newer versions and for edits by other processes, one reads content."""
        self.content.start()
        self._watcher = threading.Thread(target=self._watch, name="mmse-watch", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Stops those threads and closes every version."""
        self.content.stop()
        self._stop_event.set()
        if self._watcher is not None:
            self._watcher.join()
        self._retire(set(self.arms.values()))

    def reload(self) -> None:
        """Loads what the site serves now, where that has changed; a version that is refused changes nothing."""
        with self._reload_lock:
            self._reload()

    def _reload(self) -> None:
        site_versions = self.site.state().arms
        self.problem = self.site.problem or self.problem
        if {arm: version.site_version for arm, version in self.arms.items()} == site_versions:
            self.problem, self._failed_arms = self.site.problem, None
            return
        if site_versions == self._failed_arms:
            return
        try:
            self._swap(site_versions)
            self.problem, self._failed_arms = self.site.problem, None
        except Exception as error:  # whatever it is, the versions in service go on
            cause = error.cause if isinstance(error, MmseError) else str(error)
            self.problem, self._failed_arms = f"What the site serves now is refused: {cause}", site_versions
            metrics.swaps.labels("refused").inc()
            log.error("%s The server goes on with %s.", self.problem, self, exc_info=not isinstance(error, MmseError))

    def _swap(self, site_versions: Mapping[str, Version]) -> None:
        """Loads the versions of `site_versions` that are not in memory, puts all into service and retires the rest."""
        former_arms = self.arms
        by_version = {version.site_version: version for version in former_arms.values()}
        new_versions: dict[Version, LoadedVersion] = {}
        try:
            for site_version in site_versions.values():
                if site_version not in by_version and site_version not in new_versions:
                    new_versions[site_version] = load(site_version, self.config)
        except BaseException:
            for version in new_versions.values():
                version.close()
            raise
        with self._lock:
            self.arms = {
                arm: by_version.get(site_version) or new_versions[site_version]
                for arm, site_version in site_versions.items()
            }
        for site_version in new_versions:
            self.content.add(site_version)
        self._report_swap(former_arms)
        self._retire(set(former_arms.values()) - set(self.arms.values()))

    def _report_swap(self, former_arms: Mapping[str, LoadedVersion]) -> None:
        for arm, version in former_arms.items():
            metrics.version_info.labels(version.name, arm).set(0)
        for arm, version in self.arms.items():
            metrics.version_info.labels(version.name, arm).set(1)
        if former_arms:
            metrics.swaps.labels("done").inc()
            log.info("now serving %s", self)

    def _retire(self, versions: set[LoadedVersion]) -> None:
        for version in versions:
            with self._lock:
                version.is_retired = True
                is_unused = version.n_leases == 0
            if is_unused:
                version.close()

    def _watch(self) -> None:
        reloaded_s = time.monotonic()
        while not self._stop_event.wait(self.config.refresh_every_s):
            try:
                if time.monotonic() - reloaded_s >= self.config.look_every_s:
                    self.reload()
                    reloaded_s = time.monotonic()
                self._refresh()
            except Exception as error:  # this thread must not end: the cause may be gone the next time
                self.problem = error.cause if isinstance(error, MmseError) else str(error)
                log.error("%s", error, exc_info=not isinstance(error, MmseError))

    def _refresh(self) -> None:
        """Takes in the edits of other processes."""
        for version in set(self.arms.values()):
            if version.retriever.catalogue is not None:
                version.retriever.catalogue.refresh()
        live = self.arms[LIVE]
        metrics.items.set(len(live.retriever.snapshot()))
        metrics.index_age_seconds.set(max(time.time() - live.indexed_at, 0.0))  # a clock may go back


def _carry_edits_over(folder: RunFolder) -> None:
    """Applies the edits of former step folders to those that a new `mmse run` has put in their place."""
    folder.verify(SEARCH)
    transfer = carry_over(folder.path)
    if transfer.n_carried or transfer.n_left_out:
        log.warning("%s was made again: %d edited items were carried over", folder.path, transfer.n_carried)
    if transfer.n_left_out:
        log.warning("%d of them no longer fit; %s has the reasons", transfer.n_left_out, transfer.rejects_file)


def load(site_version: Version, config: ServeConfig) -> LoadedVersion:
    """`site_version`, ready for its first search; raises `ArtifactError` where its folders do not fit one another."""
    folder = RunFolder(site_version.run)
    with folder.name_damage([*SEARCH, *([MAP] if folder.map.is_dir() else [])]):
        _carry_edits_over(folder)
        return _load(site_version, folder, config)


def _load(site_version: Version, folder: RunFolder, config: ServeConfig) -> LoadedVersion:
    retriever, read_only_reason = _open_retriever(folder.path, config.cached_queries)
    if not retriever.ranking.calibration.is_learned:
        log.warning("%s: %s", site_version.run, NO_PROBABILITIES)
    for query in read_probe_queries(folder.serving, _N_WARMUP):
        retriever.answer(Search(query, 100))
    popular_queries = read_popular_queries(folder.serving)
    return LoadedVersion(
        site_version=site_version,
        retriever=retriever,
        catalogue_map=CatalogueMap.open(folder.map) if folder.map.is_dir() else None,
        examples=tuple(popular_queries)[:EXAMPLES],
        suggester=_make_suggester(retriever, popular_queries),
        answers=AnswerCache(config.answer_cache_mb << 20),
        indexed_at=datetime.fromisoformat(folder.manifest(INDEX).origin["at"]).timestamp(),
        read_only_reason=read_only_reason,
        user_salt=folder.manifest(SERVING).counts.get(SALT, ""),
    )


def _make_suggester(retriever: Retriever, popular_queries: Mapping[str, int]) -> Suggester:
    """The suggester of a version: its popular queries, and the brands and categories of its items as they are now."""
    snapshot = retriever.snapshot()
    brands, categories = (snapshot.counts(name) if name in snapshot.kinds else {} for name in ("brand", "category"))
    return Suggester(popular_queries, brands, categories)


def _open_retriever(run: Path, cached_queries: int) -> tuple[Retriever, str]:
    """The retriever of a run, open for edits, or for searches alone where it may not be written, with the reason."""
    try:
        return Retriever.open(run, writable=True, cached_queries=cached_queries), ""
    except OutputError as error:
        log.warning("%s It is searched, and takes no edits.", error.cause)
        return Retriever.open(run, cached_queries=cached_queries), error.cause
