"""The content of what is served, read beside the searches: a version that is damaged is named and taken out of service.

What opens a version checks the sizes of its files. A thread of low priority then reads every byte, once for each
version that is loaded, and compares it with the manifests, as `mmse verify` does. A part is damaged where it is so
twice, since `mmse run`, `mmse forget` and the folding of edits may put another in its place meanwhile.
`mmse.serving.versions.withdrawal` has what becomes of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
from typing import final

from mmse.core.errors import ArtifactError
from mmse.core.run_folder import INDEX, RunFolder
from mmse.serving.observability import metrics
from mmse.serving.versions import site_file
from mmse.serving.versions.site import Site
from mmse.serving.versions.site_file import Version
from mmse.serving.versions.withdrawal import PAUSE_S, find_damage, withdraw

_LOWEST_PRIORITY = 19

log = logging.getLogger(__name__)


@final
class ContentCheck:
    """Reads versions in a thread of its own, in the order in which they were added."""

    def __init__(self, site: Site, pause_s: float = PAUSE_S) -> None:
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
        parts = find_damage(version, self._end_event, self._pause_s)
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

    def _read_all(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # a system whose threads have one priority
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        while (version := self._queue.get()) is not None:
            try:
                self.check(version)
            except Exception:  # the next version is to be read all the same
                log.exception("the content of version %s could not be checked", version.name)


def _is_present(site: Site, version: Version) -> bool:
    """Whether the folder of a version still holds it, and not what was made or rewritten meanwhile, or nothing."""
    try:
        if site.is_run:
            return RunFolder(version.run).manifest(INDEX).fingerprint == version.fingerprint
        return site_file.read_version(site.path, version.name) == version
    except ArtifactError:
        return version.run.is_dir()
