"""What a worker serves: the versions of a site, opened beside the ones in service and swapped while searches go on.

A version that cannot be opened is refused, and what was served goes on being served. A version that no arm has any
more is drained: it is closed when the last search that was begun on it is answered.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import final

import numpy as np

from mmse.core import artifact
from mmse.core.errors import MmseError
from mmse.map.projection import Atlas
from mmse.retrieval.retriever import Retriever
from mmse.schema.http import LIVE
from mmse.schema.search import Search
from mmse.serving.config import ServeConfig
from mmse.serving.failures import Refused
from mmse.serving.observability import metrics
from mmse.serving.versions.site import Edition, Site
from mmse.training.targets import read_logged

EXAMPLES = 8
_WARMED = 20
_LOOKED_AT = 500

log = logging.getLogger(__name__)


@final
@dataclass(eq=False)
class Served:
    """A version in service; `examples` are queries that its log asks often."""

    edition: Edition
    retriever: Retriever
    atlas: Atlas | None
    examples: tuple[str, ...]
    made_at: float
    users: int = 0
    retired: bool = False

    @property
    def name(self) -> str:
        """The version's name."""
        return self.edition.name

    def close(self) -> None:
        """Lets go of its files."""
        if self.retriever.catalogue is not None:
            self.retriever.catalogue.close()


@final
@dataclass(eq=False)
class Fleet:
    """The versions in service, by arm; `problem` says why something newer is not among them."""

    site: Site
    config: ServeConfig
    arms: Mapping[str, Served] = field(default_factory=dict)
    problem: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread | None = None
    _refused: str | None = None

    @classmethod
    def open(cls, config: ServeConfig) -> Fleet:
        """All that the site serves now; raises `ArtifactError` where a version cannot be opened."""
        fleet = cls(Site.open(config.path), config)
        fleet._take({arm: edition for arm, edition in fleet.site.state().arms.items()})
        return fleet

    @contextlib.contextmanager
    def using(self, name: str | None) -> Iterator[Served]:
        """The version of that name or arm (None: the live one), which stays open meanwhile.

        Raises `Refused` where none is served.
        """
        served = self.acquire(name)
        try:
            yield served
        finally:
            self.release(served)

    def acquire(self, name: str | None) -> Served:
        """As `using`, until `release`."""
        with self._lock:
            served = self.arms.get(name or LIVE) or next((s for s in self.arms.values() if s.name == name), None)
            if served is not None:
                served.users += 1
                return served
            able = ", ".join(sorted({*self.arms, *(one.name for one in self.arms.values())}))
        raise Refused("version_unknown", f"No version or arm '{name}' is served.", f"Ask for one of: {able}.")

    def serves(self, name: str) -> bool:
        """Whether a version or an arm of that name is served."""
        return name in self.arms or any(one.name == name for one in self.arms.values())

    def release(self, served: Served) -> None:
        """Ends an `acquire`; the last one closes a version that is served no more."""
        with self._lock:
            served.users -= 1
            over = served.retired and served.users == 0
        if over:
            served.close()

    @contextlib.contextmanager
    def holding(self) -> Iterator[Mapping[Edition, Served]]:
        """Every version in service, which all stay open meanwhile."""
        with self._lock:
            held = set(self.arms.values())
            for served in held:
                served.users += 1
        try:
            yield {served.edition: served for served in held}
        finally:
            for served in held:
                self.release(served)

    def start(self) -> None:
        """Begins to look for newer versions and for edits that other processes made."""
        self._watcher = threading.Thread(target=self._watch, name="mmse-watch", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Ends that and closes every version."""
        self._ended.set()
        if self._watcher is not None:
            self._watcher.join()
        self._retire(set(self.arms.values()))

    def look(self) -> None:
        """Takes up what the site serves now, if that is something else; what is refused changes nothing."""
        with self._looking:
            self._look()

    def _look(self) -> None:
        state = self.site.state()
        wanted = dict(state.arms)
        self.problem = self.site.problem or self.problem
        if {arm: one.edition for arm, one in self.arms.items()} == wanted:
            self.problem, self._refused = self.site.problem, None
            return
        if (key := repr(sorted(wanted.items()))) == self._refused:
            return
        try:
            self._take(wanted)
            self.problem, self._refused = self.site.problem, None
        except Exception as error:  # whatever it is, what was served goes on
            cause = error.cause if isinstance(error, MmseError) else str(error)
            self.problem, self._refused = f"What the site serves now is refused: {cause}", key
            metrics.swaps.labels("refused").inc()
            log.error("%s What was served goes on.", self.problem, exc_info=not isinstance(error, MmseError))

    def _take(self, wanted: Mapping[str, Edition]) -> None:
        former = set(self.arms.values())
        open_now = {one.edition: one for one in former}
        fresh: dict[Edition, Served] = {}
        try:
            for edition in wanted.values():
                if edition not in open_now and edition not in fresh:
                    fresh[edition] = opened(edition, self.config)
        except BaseException:
            for one in fresh.values():
                one.close()
            raise
        arms = {arm: open_now.get(edition) or fresh[edition] for arm, edition in wanted.items()}
        with self._lock:
            before, self.arms = self.arms, arms
        self._tell(before)
        self._retire(former - set(arms.values()))

    def _tell(self, before: Mapping[str, Served]) -> None:
        for arm, one in before.items():
            metrics.version_info.labels(one.name, arm).set(0)
        for arm, one in self.arms.items():
            metrics.version_info.labels(one.name, arm).set(1)
        if before:
            metrics.swaps.labels("done").inc()
            log.info("now serving %s", ", ".join(f"{arm}: {one.name}" for arm, one in self.arms.items()))

    def _retire(self, over: set[Served]) -> None:
        for one in over:
            with self._lock:
                one.retired = True
                unused = one.users == 0
            if unused:
                one.close()

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._ended.wait(self.config.refresh_every_s):
            try:
                if time.monotonic() - looked >= self.config.look_every_s:
                    self.look()
                    looked = time.monotonic()
                self._refresh()
            except Exception as error:  # this thread must not end: the next look may find it mended
                self.problem = error.cause if isinstance(error, MmseError) else str(error)
                log.error("%s", error, exc_info=not isinstance(error, MmseError))

    def _refresh(self) -> None:
        for one in set(self.arms.values()):
            if one.retriever.catalogue is not None:
                one.retriever.catalogue.refresh()
        live = self.arms[LIVE]
        metrics.items.set(len(live.retriever.snapshot()))
        metrics.index_age_seconds.set(time.time() - live.made_at)


def opened(edition: Edition, config: ServeConfig) -> Served:
    """`edition`, ready for its first search; raises `ArtifactError` where its folders do not fit one another."""
    run = edition.run
    retriever = Retriever.open(run, writable=True, cached_queries=config.cached_queries)
    queries = list(dict.fromkeys(read_logged(run / "dataset", "valid", _LOOKED_AT).queries))
    asked_before = retriever.ranking.known.counts(queries)
    often = [queries[place] for place in np.argsort(-asked_before, kind="stable")]
    for query in often[:_WARMED]:
        retriever.answer(Search(query, 100))
    made = datetime.strptime(artifact.read_manifest(run / "index", "index").made["at"], "%Y-%m-%dT%H:%M:%SZ")
    return Served(
        edition=edition,
        retriever=retriever,
        atlas=Atlas.open(run / "map") if (run / "map").is_dir() else None,
        examples=tuple(often[:EXAMPLES]),
        made_at=made.replace(tzinfo=UTC).timestamp(),
    )
