"""What is served: the versions of a site folder, by arm, or a run folder as the only version.

    site = Site.open(Path("site"))
    live = site.state().live                               # a Version: its name and run folder
    site.apply([Change("i1", {"price": 9.0})])             # for every version that is served

`mmse.serving.versions.publish` puts versions into a site; the functions here decide which of them is served. An edit
holds the lock of the site with other edits; a switch holds it alone, carries the edits along and changes the arm.
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
from mmse.catalogue.live_catalogue import LiveCatalogue, LiveConfig
from mmse.catalogue.transfer import TransferReport
from mmse.core import artifact, locks
from mmse.core.artifact import MANIFEST
from mmse.core.errors import ArtifactError, MmseError, UsageError
from mmse.core.run_folder import INDEX, RANKING, SEARCH, RunFolder
from mmse.schema.http import LIVE
from mmse.serving.versions import site_file
from mmse.serving.versions.site_file import SITE_FILE, VERSIONS, Action, ArmChange, SiteRecord, Version

_ARM = re.compile(r"(?=.*[A-Za-z_.-])[A-Za-z0-9_.-]{1,64}")
_TRIES = 3

log = logging.getLogger(__name__)

CatalogueLookup = Callable[[Version], LiveCatalogue | None]
"""Gives the catalogue of a version where it is open already."""


@dataclass(frozen=True)
class SiteState:
    """The version of each arm; the arm `live` is always among them."""

    arms: Mapping[str, Version]

    @property
    def live(self) -> Version:
        """The version for everybody who is in no experiment."""
        return self.arms[LIVE]

    @property
    def versions(self) -> list[Version]:
        """Every version that is served, the live one first."""
        return list(dict.fromkeys([self.live, *self.arms.values()]))


@dataclass(frozen=True)
class EditReceipt:
    """The name of the live version that took the edits, and the state of its catalogue that has them.

    `catalogue_versions` has that state for every served version that took edits.
    """

    version: str
    catalogue_version: int
    catalogue_versions: Mapping[str, int]


@final
class Site:
    """A site folder, or a run folder that is served as it is; for any number of threads and processes.

    `problem` says what is wrong with `serving.json` or the run's folders, None where nothing is. While they are
    damaged, or being made, the state that was read last stays in force.
    """

    def __init__(self, path: Path, *, is_run: bool = False) -> None:
        self.path, self.is_run = path, is_run
        self.problem: str | None = None
        names = [f"{kind}/{MANIFEST}" for kind in (INDEX, RANKING)] if is_run else [SITE_FILE]  # made last
        self._files = [str(path / name) for name in names]
        self._state: SiteState | None = None
        self._state_stamp: object = None

    @classmethod
    def open(cls, path: Path) -> Site:
        """The site in the folder `path`; raises `ArtifactError` where it is neither a site nor a run, or is damaged."""
        if is_site(path):
            if not (path / SITE_FILE).exists() and not site_file.version_names(path):
                raise ArtifactError(
                    f"{path} is a site that serves nothing yet.",
                    "Publish a run into it: `mmse versions publish SITE RUN`, or `mmse cycle SITE SHOP.toml`.",
                )
            site = cls(path)
            site.state()
            return site
        if not (path / INDEX).is_dir():
            raise ArtifactError(
                f"{path} is neither a site nor a run folder: it has no {SITE_FILE} and no index.",
                "Make a run with `mmse run`, or a site with `mmse versions publish SITE RUN`.",
            )
        site = cls(path, is_run=True)
        site._state_stamp = site._stamp()
        site._state = _run_state(path)
        return site

    def require_versions(self) -> None:
        """Raises `UsageError` for a run folder."""
        if self.is_run:
            raise UsageError(
                f"{self.path} is a run folder, which has one version.",
                "Publish it into a site, and serve that: `mmse versions publish SITE RUN`.",
            )

    def state(self) -> SiteState:
        """The versions that are served at this moment. Cheap: files are read only when they have changed.

        Raises `ArtifactError` where `serving.json` is damaged and was never read before.
        """
        if (stamp := self._stamp()) != self._state_stamp:
            try:
                self._state = self._read()
                self.problem = None
            except ArtifactError as error:
                if self._state is None:
                    raise
                self.problem = error.cause
                log.log(logging.INFO if self.is_run else logging.ERROR, "%s What was served goes on.", error.cause)
            self._state_stamp = stamp
        assert self._state is not None
        return self._state

    @contextlib.contextmanager
    def lock_state(self) -> Iterator[SiteState]:
        """The state, which nobody changes while the lock is held; several may hold it at once."""
        if self.is_run:
            yield self.state()
            return
        with locks.take_turn(self.path, share=True):
            yield self.state()

    def apply(self, edits: Sequence[Edit], find_catalogue: CatalogueLookup = lambda _: None) -> EditReceipt:
        """Writes `edits` to the disk for every served version: all of them or none, as the live version decides.

        The other versions take the edits that fit them; the rest is counted in the log. Raises as
        `LiveCatalogue.apply` does.
        """
        with self.lock_state() as state:
            live, *candidates = state.versions
            with _open_catalogue(live, find_catalogue) as catalogue:
                live_state = catalogue.apply(edits)
            catalogue_versions = {live.name: live_state}
            for version in candidates:
                try:
                    with _open_catalogue(version, find_catalogue) as catalogue:
                        catalogue_versions[version.name] = _apply_fitting(catalogue, edits, version)
                except (MmseError, OSError) as error:
                    log.error(
                        "version %s, which is not live, could not take %d edits: %s", version.name, len(edits), error
                    )
        return EditReceipt(live.name, live_state, catalogue_versions)

    def _stamp(self) -> object:
        """Another value wherever what is served may have changed."""
        return [_stat(file) for file in self._files]

    def _read(self) -> SiteState:
        if not self.is_run:
            return _read_state(self.path)
        try:
            RunFolder(self.path).verify(SEARCH)
        except ArtifactError as error:
            raise ArtifactError(
                f"The step folders of {self.path} are being made again, or are damaged; no worker can start with them "
                f"now. {error.cause}",
                "Wait until `mmse run` has ended, or run it again.",
            ) from error
        return _run_state(self.path)


def is_site(path: Path) -> bool:
    """Whether a folder is a site."""
    return (path / SITE_FILE).is_file() or (path / VERSIONS).is_dir()


def put_in_service(site: Site, arm: str, version: str, note: str = "", by: str = "") -> TransferReport:
    """Lets `arm` serve a published version, which takes over the edits of the live one; reports on these edits.

    Raises `UsageError` for a version that does not exist, and for a run folder.
    """
    return _assign(site, arm, lambda _: version, "assign", note, by)[1]


def rollback(
    site: Site,
    arm: str = LIVE,
    version: str | None = None,
    note: str = "",
    by: str = "",
    *,
    instead_of: str | None = None,
) -> str:
    """Lets `arm` serve its version before again, or `version`, with the edits since; gives its name.

    Raises `UsageError` where there is none, and for a run folder; also where `arm` serves another version than
    `instead_of` by now.
    """

    def find_version_before(record: SiteRecord) -> str:
        names = site_file.version_names(site.path)
        name = next((name for name in record.versions_before(arm) if name in names), None)
        if name is None:
            raise UsageError(f"There is no version before the one that '{arm}' serves.", "See `mmse versions list`.")
        return name

    def choose(record: SiteRecord) -> str:
        return find_version_before(record) if version is None else version

    return _assign(site, arm, choose, "rollback", note, by, instead_of)[0]


def drop_arm(site: Site, arm: str, note: str = "", by: str = "", *, instead_of: str | None = None) -> None:
    """Ends an arm; raises `UsageError` for the live one, and where there is no such arm.

    Also where it serves another version than `instead_of` by now.
    """
    site.require_versions()
    if arm == LIVE:
        raise UsageError("The live arm cannot be dropped.", "Let it serve another version: `mmse versions rollback`.")
    with locks.take_turn(site.path):
        record = site_file.read_site(site.path)
        if arm not in record.arms:
            raise UsageError(f"There is no arm '{arm}'.", f"Arms: {', '.join(record.arms)}.")
        if instead_of is not None:
            _require_serving(site, arm, instead_of)
        change = ArmChange(site_file.utc_time(), by, note, arm, "drop", record.arms[arm], None)
        site_file.write_site(site.path, record.append(change))


def switch_arm(
    path: Path,
    arm: str,
    version: Version,
    receiver: transfer.EditReceiver,
    action: Action,
    *,
    keep_edits: bool,
    note: str,
    by: str,
) -> TransferReport:
    """Carries the edits of the live version over to `version`, and lets `arm` serve it.

    For a caller that holds the lock of the site alone, so that no edit comes in meanwhile.
    """
    record = site_file.read_site(path) if (path / SITE_FILE).exists() else SiteRecord({})
    live = record.arms.get(LIVE)
    edits: Mapping[str, Edit] = {}
    if keep_edits and live is not None and live != version.name:
        edits = transfer.pending_edits(path / VERSIONS / live)
    report = receiver.take(edits.values())
    change = ArmChange(site_file.utc_time(), by, note, arm, action, record.arms.get(arm), version.name)
    site_file.write_site(path, record.append(change))
    return report


def require_arm(arm: str) -> None:
    """Raises `UsageError` for a name that an arm cannot have: versions are numbers."""
    if not _ARM.fullmatch(arm):
        raise UsageError(
            f"'{arm}' is no name for an arm.", "Use letters, digits, '_', '.' and '-', and not digits alone."
        )


def _assign(
    site: Site,
    arm: str,
    choose: Callable[[SiteRecord], str],
    action: Action,
    note: str,
    by: str,
    instead_of: str | None = None,
) -> tuple[str, TransferReport]:
    """Lets `arm` serve the version that `choose` names; gives its name, and the report on its edits."""
    site.require_versions()
    require_arm(arm)
    name = choose(site_file.read_site(site.path))
    names = site_file.version_names(site.path)
    if name not in names:
        raise UsageError(f"There is no version '{name}' in {site.path}.", f"Versions: {', '.join(names)}.")
    version = site_file.read_version(site.path, name)
    with transfer.open_receiver(version.run) as receiver, locks.take_turn(site.path):
        if instead_of is not None:
            _require_serving(site, arm, instead_of)
        return name, switch_arm(site.path, arm, version, receiver, action, keep_edits=True, note=note, by=by)


def _require_serving(site: Site, arm: str, name: str) -> None:
    """Raises `UsageError` where `arm` serves another version than `name`. For a caller that holds the site's lock."""
    present = site_file.read_site(site.path).arms.get(arm)
    if present != name:
        raise UsageError(f"'{arm}' serves {present or 'no version'} by now, not {name}.", "See `mmse versions list`.")


def _stat(file: str) -> object:
    try:
        stat = os.stat(file)  # noqa: PTH116  a string is quicker than a path
    except OSError as error:
        return error.errno
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _run_state(path: Path) -> SiteState:
    index = artifact.read_manifest(path / INDEX, INDEX)
    return SiteState({LIVE: Version(index.fingerprint[:8], path, index.origin["at"], "", index.fingerprint)})


def _read_state(path: Path) -> SiteState:
    arms = site_file.read_site(path).arms
    versions = {name: site_file.read_version(path, name) for name in set(arms.values())}
    return SiteState({arm: versions[name] for arm, name in arms.items()})


@contextlib.contextmanager
def _open_catalogue(version: Version, find_catalogue: CatalogueLookup) -> Iterator[LiveCatalogue]:
    """The catalogue of a version to write into: one that is open already, or one that is opened for this once."""
    catalogue = find_catalogue(version)
    if catalogue is not None:
        yield catalogue
        return
    with LiveCatalogue.open(version.run, writable=True, config=LiveConfig(automatic=False)) as catalogue:
        yield catalogue


def _apply_fitting(catalogue: LiveCatalogue, edits: Sequence[Edit], version: Version) -> int:
    """Applies the edits that fit a version which is not live; gives the new state of its catalogue.

    Tried again where another process edits the same catalogue meanwhile, so that something else fits.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            catalogue.refresh()
            snapshot = catalogue.snapshot()
            ids = [id_of(edit) for edit in edits]
            item_ids = {item_id for item_id, row in zip(ids, snapshot.rows(ids).tolist(), strict=True) if row >= 0}
            fitted_edits = transfer.fit_edits(edits, item_ids, snapshot.base.schema)
            catalogue_version = catalogue.apply(fitted_edits.edits)
        except UsageError:
            if not tries_left:
                raise
        else:
            if fitted_edits.rejects:
                log.warning(
                    "%d of %d edits do not fit version %s, which is not live",
                    len(fitted_edits.rejects),
                    len(edits),
                    version.name,
                )
            return catalogue_version
    raise AssertionError("the last try returns or raises")
