"""A damaged version is taken out of service, at a server's start or beside its searches.

Where the live version of a site is damaged, its newest former version that is whole goes live, with all edits; another
arm of a damaged version ends. What nothing can replace stays in service: no search at all is worse than a wrong bit.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from mmse.core.errors import ArtifactError, MmseError, SchemaError, UsageError
from mmse.schema.http import LIVE
from mmse.serving.versions import site_file
from mmse.serving.versions.content import EDITS, Inspection, inspect_content
from mmse.serving.versions.site import Site, SiteState, drop_arm, is_site, rollback
from mmse.serving.versions.site_file import Version

SERVER = "mmse serve"
"""Who changed an arm, in the history of a site."""
PAUSE_S = 1.0
"""Between two looks at what is damaged."""

log = logging.getLogger(__name__)


def open_site(path: Path) -> Site:
    """As `Site.open`, without arms whose version is gone or cannot be told; raises where that is the live one's."""
    try:
        return Site.open(path)
    except SchemaError:
        raise
    except ArtifactError:
        if not is_site(path) or not _drop_lost_arms(Site(path)):
            raise
        return Site.open(path)


def open_whole(site: Site, open_state: Callable[[SiteState], None]) -> None:
    """Opens what a site serves; where that fails by a damaged version, what then takes its place.

    Raises what `open_state` raises where no version is damaged or nothing takes its place.
    """
    while True:
        state = site.state()
        try:
            open_state(state)
        except SchemaError:
            raise
        except ArtifactError as error:
            for version in state.versions:
                if parts := find_damage(version, threading.Event(), PAUSE_S):
                    log.critical("Version %s cannot be opened: %s", version.name, error.cause)
                    log.critical("%s", withdraw(site, version, parts))
            if site.state() == state:
                raise
        else:
            return


def find_damage(version: Version, end_event: threading.Event, pause_s: float) -> list[Inspection]:
    """The parts that are damaged at two looks, which are `pause_s` apart; none once `end_event` is set.

    `mmse run`, `mmse forget` and the folding of edits may put another part in its place meanwhile.
    """
    subjects = {part.subject for part in _inspect(version, end_event) if part.problem}
    if not subjects or end_event.wait(pause_s):
        return []
    return [part for part in _inspect(version, end_event) if part.problem and part.subject in subjects]


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


def _drop_lost_arms(site: Site) -> int:
    """Ends the arms but the live one whose version cannot be read; gives how many."""
    n_lost = 0
    for arm, name in site_file.read_site(site.path).arms.items():
        try:
            site_file.read_version(site.path, name)
        except ArtifactError as error:
            if arm != LIVE:
                drop_arm(site, arm, error.cause, SERVER, instead_of=name)
                log.critical("%s The arm '%s' has ended.", error.cause, arm)
                n_lost += 1
    return n_lost


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


def _inspect(version: Version, end_event: threading.Event) -> list[Inspection]:
    parts = []
    for part in inspect_content(version.run):
        if end_event.is_set():
            return []
        parts.append(part)
    return parts
