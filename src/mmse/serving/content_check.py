"""The content of what is served, read beside the searches: a version that is damaged is named and taken out of service.

What opens a version checks the sizes of its files. A thread of low priority then reads every byte, once for each
version that is loaded, and compares it with the manifests, as `mmse verify` does. A part is damaged where it is so
twice, since `mmse run`, `mmse forget` and the folding of edits may put another in its place meanwhile.

Where the live version of a site is damaged, its newest former version that is whole goes live, with all edits; another
arm of a damaged version ends. What nothing can replace stays in service: no search at all is worse than a wrong bit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
from collections.abc import Sequence
from typing import final

from mmse.core.errors import ArtifactError, MmseError, UsageError
from mmse.core.run_folder import INDEX, RunFolder
from mmse.schema.http import LIVE
from mmse.serving.observability import metrics
from mmse.serving.versions import site_file
from mmse.serving.versions.content import EDITS, Inspection, inspect_content
from mmse.serving.versions.site import Site, drop_arm, rollback
from mmse.serving.versions.site_file import Version

SERVER = "mmse serve"
"""Who changed an arm, in the history of a site."""
_LOWEST_PRIORITY = 19
_PAUSE_S = 1.0

log = logging.getLogger(__name__)


@final
class ContentCheck:
    """Reads versions in a thread of its own, in the order in which they were added."""

    def __init__(self, site: Site, pause_s: float = _PAUSE_S) -> None:
        """A damaged part is looked at again after `pause_s`."""
        self._site, self._pause_s = site, pause_s
        self._queue = queue.SimpleQueue[Version | None]()
        self._problems: dict[str, str] = {}
        self._end_event = threading.Event()
        metrics.damaged_versions.set(0)

    @property
    def problems(self) -> list[str]:
        """What is wrong with each version that was read, and what was done."""
        return list(self._problems.values())

    def add(self, version: Version) -> None:
        """Has a version read, after those that were added before."""
        self._queue.put(version)

    def start(self) -> None:
        """Begins to read."""
        threading.Thread(target=self._read_all, name="mmse-content", daemon=True).start()

    def stop(self) -> None:
        """Ends once the folder that is being read is done; nobody waits for that."""
        self._end_event.set()
        self._queue.put(None)

    def check(self, version: Version) -> None:
        """Reads a version now, and takes it out of service where it is damaged."""
        parts = self._find_damage(version)
        if not parts or not _is_present(self._site, version):
            self._problems.pop(version.name, None)
        else:
            problem = f"Version {version.name} is damaged. {' '.join(part.problem for part in parts)}"
            self._problems[version.name] = problem
            cure = parts[0].cure if self._site.is_run else "Publish that run again, and look after the disk."
            log.critical("%s %s", problem, cure)
            outcome = withdraw(self._site, version, parts)
            log.critical("%s", outcome)
            self._problems[version.name] = f"{problem} {outcome}"
        metrics.damaged_versions.set(len(self._problems))

    def _find_damage(self, version: Version) -> list[Inspection]:
        """The parts that are damaged at two looks, none where the server ends."""
        subjects = {part.subject for part in self._inspect(version) if part.problem}
        if not subjects or self._end_event.wait(self._pause_s):
            return []
        return [part for part in self._inspect(version) if part.problem and part.subject in subjects]

    def _inspect(self, version: Version) -> list[Inspection]:
        parts = []
        for part in inspect_content(version.run):
            if self._end_event.is_set():
                return []
            parts.append(part)
        return parts

    def _read_all(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # a system whose threads have one priority
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        while (version := self._queue.get()) is not None:
            try:
                self.check(version)
            except Exception:  # the next version is to be read all the same
                log.exception("the content of version %s could not be checked", version.name)


def withdraw(site: Site, version: Version, parts: Sequence[Inspection]) -> str:
    """Takes a version with damaged `parts` out of service in every arm; gives what came of it, in sentences."""
    if site.is_run:
        return "It stays in service: nothing can take its place."
    arms = site_file.read_site(site.path).arms
    names = [arm for arm, name in arms.items() if name == version.name]
    if not names:
        return f"It is out of service; '{LIVE}' serves version {arms[LIVE]}."
    note = f"version {version.name} is damaged: {parts[0].problem}"
    try:
        return " ".join(_withdraw_arm(site, arm, version, note, parts) for arm in names)
    except UsageError as error:  # somebody was quicker
        return error.cause
    except MmseError as error:
        return f"It was not taken out of service: {error.cause}"


def _withdraw_arm(site: Site, arm: str, version: Version, note: str, parts: Sequence[Inspection]) -> str:
    if arm != LIVE:
        drop_arm(site, arm, note, SERVER, instead_of=version.name)
        return f"The arm '{arm}' has ended."
    if any(part.subject == EDITS for part in parts):
        return "It stays in service: no other version has its edits."
    former = _find_whole_version(site)
    if former is None:
        return "It stays in service: there is no former version that is whole."
    rollback(site, LIVE, former, note, SERVER, instead_of=version.name)
    return f"Version {former} is live in its place, with all edits."


def _find_whole_version(site: Site) -> str | None:
    """The newest of the versions that were live before whose content is whole."""
    names = site_file.version_names(site.path)
    for name in site_file.read_site(site.path).versions_before(LIVE):
        if name in names and not any(part.problem for part in inspect_content(site.path / site_file.VERSIONS / name)):
            return name
    return None


def _is_present(site: Site, version: Version) -> bool:
    """Whether the folder of a version still holds it, and not what was made or rewritten meanwhile, or nothing."""
    try:
        if site.is_run:
            return RunFolder(version.run).manifest(INDEX).fingerprint == version.fingerprint
        return site_file.read_version(site.path, version.name) == version
    except ArtifactError:
        return version.run.is_dir()
