"""What is served: the versions of a site folder, by arm, or a run folder as the only version.

    site = Site.open(Path("site"))
    live = site.state().arms["live"]                       # an Edition: its name and run folder
    site.apply([Change("i1", {"price": 9.0})])             # for every version that is served

`publish` puts versions in (`mmse.serving.versions.publish`), the functions here say which of them is served. Who edits
shares a lock; who changes what is served takes it alone, to carry the edits along and switch in one step.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from mmse.catalogue import transfer
from mmse.catalogue.edits import Edit, id_of
from mmse.catalogue.live_catalogue import Catalogue, LiveConfig
from mmse.catalogue.transfer import Carried
from mmse.core import artifact, locks
from mmse.core.errors import ArtifactError, MmseError, UsageError
from mmse.schema.http import LIVE
from mmse.serving.versions import site_file as sitefile
from mmse.serving.versions.site_file import SERVING, VERSIONS, Serving, Step, What
from mmse.serving.versions.site_file import Edition as Edition

_ARM = re.compile(r"(?=.*[A-Za-z_.-])[A-Za-z0-9_.-]{1,64}")
_TRIES = 3

log = logging.getLogger(__name__)

Catalogues = Callable[[Edition], Catalogue | None]
"""Gives the catalogue of a version where it is open already."""


@dataclass(frozen=True)
class State:
    """What each arm serves; there is always a live one."""

    arms: Mapping[str, Edition]

    @property
    def live(self) -> Edition:
        """What is served to whoever is in no experiment."""
        return self.arms[LIVE]

    @property
    def editions(self) -> list[Edition]:
        """Every version that is served, the live one first."""
        return list(dict.fromkeys([self.live, *self.arms.values()]))


@dataclass(frozen=True)
class Applied:
    """Edits that were taken in: by the live version `edition`, whose catalogue has them in its version `version`.

    `versions` is that of every version served that took them.
    """

    edition: str
    version: int
    versions: Mapping[str, int]


@final
class Site:
    """A site folder, or a run folder that is served as it is; for any number of threads and processes.

    `problem` says what is wrong with `serving.json`, where that is so; what it said before counts until it is mended.
    """

    def __init__(self, path: Path, only: Edition | None = None) -> None:
        self.path = path
        self.problem: str | None = None
        self._only, self._file = only, str(path / SERVING)
        self._state = State({LIVE: only}) if only else None
        self._seen: object = None

    @classmethod
    def open(cls, path: Path) -> Site:
        """The site in the folder `path`; raises `ArtifactError` where it is neither a site nor a run, or is damaged."""
        if is_site(path):
            site = cls(path)
            site.state()
            return site
        if not (path / "index").is_dir():
            raise ArtifactError(
                f"{path} is neither a site nor a run folder: it has no {SERVING} and no index.",
                "Make a run with `mmse run`, or a site with `mmse versions publish SITE RUN`.",
            )
        index = artifact.read_manifest(path / "index", "index")
        return cls(path, Edition(index.fingerprint[:8], path, index.made["at"], "", index.fingerprint))

    @property
    def fixed(self) -> bool:
        """Whether it is a run folder, with one version for ever."""
        return self._only is not None

    def require_versions(self) -> None:
        """Raises `UsageError` for a run folder."""
        if self.fixed:
            raise UsageError(
                f"{self.path} is a run folder, which has one version.",
                "Publish it into a site, and serve that: `mmse versions publish SITE RUN`.",
            )

    def state(self) -> State:
        """What is served now. Cheap; raises `ArtifactError` where `serving.json` is damaged and never was read."""
        if self._only is None and (seen := self._stamp()) != self._seen:
            try:
                serving = sitefile.read_serving(self.path)
                self._state = _state(self.path, serving)
                self.problem = None
            except ArtifactError as error:
                if self._state is None:
                    raise
                self.problem = error.cause
                log.error("%s What was served goes on.", error.cause)
            self._seen = seen
        assert self._state is not None
        return self._state

    @contextlib.contextmanager
    def writing(self) -> Iterator[State]:
        """What is served, which nobody changes meanwhile; others may write as well."""
        if self.fixed:
            yield self.state()
            return
        with locks.turn(self.path, shared=True):
            yield self.state()

    def apply(self, edits: Sequence[Edit], opened: Catalogues = lambda _: None) -> Applied:
        """Puts `edits` on the disk for every version served: all of them or none, as the live one decides.

        Another version takes those that fit it; the others are counted in the log. Raises as `Catalogue.apply` does.
        """
        with self.writing() as state:
            live, *others = state.editions
            with _catalogue(live, opened) as catalogue:
                version = catalogue.apply(edits)
            versions = {live.name: version}
            for edition in others:
                try:
                    with _catalogue(edition, opened) as catalogue:
                        versions[edition.name] = _apply_fitting(catalogue, edits, edition)
                except (MmseError, OSError) as error:
                    log.error(
                        "version %s, which is not live, could not take %d edits: %s", edition.name, len(edits), error
                    )
        return Applied(live.name, version, versions)

    def _stamp(self) -> object:
        try:
            stat = os.stat(self._file)  # noqa: PTH116  a string is quicker than a path, and this is asked all the time
        except OSError as error:
            return error.errno
        return stat.st_ino, stat.st_mtime_ns, stat.st_size


def is_site(path: Path) -> bool:
    """Whether a folder is a site."""
    return (path / SERVING).is_file() or (path / VERSIONS).is_dir()


def put_in_service(site: Site, arm: str, version: str, note: str = "", by: str = "") -> Carried:
    """Lets `arm` serve a version that was published, with the live version's edits; gives how many it took over.

    Raises `UsageError` for a version that is not there, and for a run folder.
    """
    return _switch(site, arm, lambda _: version, "assign", note, by)[1]


def rollback(site: Site, arm: str = LIVE, version: str | None = None, note: str = "", by: str = "") -> str:
    """Lets `arm` serve the version before again (or the one named), with the edits since; gives its name.

    Raises `UsageError` where there is none, and for a run folder.
    """

    def before(serving: Serving) -> str:
        there = sitefile.names(site.path)
        found = next((name for name in serving.before(arm) if name in there), None)
        if found is None:
            raise UsageError(f"There is no version before the one that '{arm}' serves.", "See `mmse versions list`.")
        return found

    return _switch(site, arm, before if version is None else lambda _: version, "rollback", note, by)[0]


def drop(site: Site, arm: str, note: str = "", by: str = "") -> None:
    """Ends an arm; raises `UsageError` for the live one, and where there is no such arm."""
    site.require_versions()
    if arm == LIVE:
        raise UsageError("The live arm cannot be dropped.", "Let it serve another version: `mmse versions rollback`.")
    with locks.turn(site.path):
        serving = sitefile.read_serving(site.path)
        if arm not in serving.arms:
            raise UsageError(f"There is no arm '{arm}'.", f"Arms: {', '.join(serving.arms)}.")
        step = Step(sitefile.now(), by, note, arm, "drop", serving.arms[arm], None)
        sitefile.write_serving(site.path, serving.after(step))


def go_live(
    path: Path, arm: str, edition: Edition, receiver: transfer.Receiver, what: What, *, keep: bool, note: str, by: str
) -> Carried:
    """The switch itself, when nobody edits: the live version's edits go to `edition`, which `arm` serves then."""
    serving = sitefile.read_serving(path) if (path / SERVING).exists() else Serving({})
    live = serving.arms.get(LIVE)
    edits = transfer.pending(path / VERSIONS / live) if keep and live not in (None, edition.name) else {}
    carried = receiver.take(edits.values())
    step = Step(sitefile.now(), by, note, arm, what, serving.arms.get(arm), edition.name)
    sitefile.write_serving(path, serving.after(step))
    return carried


def require_arm(arm: str) -> None:
    """Raises `UsageError` for a name that an arm cannot have: versions are numbers."""
    if not _ARM.fullmatch(arm):
        raise UsageError(
            f"'{arm}' is no name for an arm.", "Use letters, digits, '_', '.' and '-', and not digits alone."
        )


def _switch(
    site: Site, arm: str, chosen: Callable[[Serving], str], what: What, note: str, by: str
) -> tuple[str, Carried]:
    site.require_versions()
    require_arm(arm)
    name = chosen(sitefile.read_serving(site.path))
    if name not in sitefile.names(site.path):
        known = ", ".join(sitefile.names(site.path))
        raise UsageError(f"There is no version '{name}' in {site.path}.", f"Versions: {known}.")
    edition = sitefile.read_edition(site.path, name)
    with transfer.receiving(edition.run) as receiver, locks.turn(site.path):
        return name, go_live(site.path, arm, edition, receiver, what, keep=True, note=note, by=by)


def _state(path: Path, serving: Serving) -> State:
    editions = {name: sitefile.read_edition(path, name) for name in set(serving.arms.values())}
    return State({arm: editions[name] for arm, name in serving.arms.items()})


@contextlib.contextmanager
def _catalogue(edition: Edition, opened: Catalogues) -> Iterator[Catalogue]:
    """The catalogue of a version to write into: one that is open already, or for this once."""
    found = opened(edition)
    if found is not None:
        yield found
        return
    with Catalogue.open(edition.run, writable=True, config=LiveConfig(automatic=False)) as catalogue:
        yield catalogue


def _apply_fitting(catalogue: Catalogue, edits: Sequence[Edit], edition: Edition) -> int:
    """Applies what fits a version that is not live; another process may change what that is meanwhile."""
    for tries_left in reversed(range(_TRIES)):
        try:
            catalogue.refresh()
            now = catalogue.snapshot()
            ids = [id_of(edit) for edit in edits]
            there = {one for one, row in zip(ids, now.rows(ids).tolist(), strict=True) if row >= 0}
            found = transfer.fitted(edits, there, now.base.schema)
            version = catalogue.apply(found.kept)
        except UsageError:
            if not tries_left:
                raise
        else:
            if found.left:
                log.warning(
                    "%d of %d edits do not fit version %s, which is not live", len(found.left), len(edits), edition.name
                )
            return version
    raise AssertionError("the last try gives or raises")
