"""The files of a site: which version each arm serves, how that came about, and what each version is.

site/
  serving.json            the version of each arm, and the history; replaced in one step
  versions/0001/ …        published runs, each with a version.json
  rules/                  the merchandiser's rules, one set for all versions
  events/                 what servers log
  lock, queue, publishing locks between processes
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import msgspec

from mmse.core.errors import ArtifactError
from mmse.core.json_files import read_json, write_json
from mmse.schema.http import LIVE

SCHEMA_VERSION = 1
SITE_FILE, VERSION_FILE = "serving.json", "version.json"
VERSIONS, RULES, PUBLISH_LOCK = "versions", "rules", "publishing"
EVENTS = "events"
"""The folder in which servers log what was shown and done, unless they are told another one."""
MAX_HISTORY = 500

Action = Literal["publish", "rollback", "assign", "drop"]


@dataclass(frozen=True)
class Version:
    """A version that can be served: its run folder, when it was published (UTC, ISO 8601) and why.

    `fingerprint` is that of its index; `revision` counts how often rows of a person were removed from it.
    """

    name: str
    run: Path
    at: str
    note: str
    fingerprint: str
    revision: int = 0


@dataclass(frozen=True)
class VersionRecord:
    """What `version.json` holds."""

    at: str
    by: str
    note: str
    fingerprint: str
    schema_version: int = SCHEMA_VERSION
    revision: int = 0


class ArmChange(msgspec.Struct, frozen=True):
    """A change of the version that an arm serves, None for no version."""

    at: str
    by: str
    note: str
    arm: str
    action: Action = msgspec.field(name="what")
    version_before: str | None = msgspec.field(name="was")
    version: str | None = msgspec.field(name="now")


@dataclass(frozen=True)
class SiteRecord:
    """What `serving.json` holds: the version of each arm, and the changes that led there, oldest first."""

    arms: Mapping[str, str]
    history: Sequence[ArmChange] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    def append(self, change: ArmChange) -> SiteRecord:
        """The record after one more change."""
        arms = {arm: name for arm, name in self.arms.items() if arm != change.arm}
        if change.version is not None:
            arms[change.arm] = change.version
        return SiteRecord(arms, [*self.history[-MAX_HISTORY + 1 :], change])

    def versions_before(self, arm: str) -> list[str]:
        """The versions that `arm` served before, the latest first. A rollback removes the later ones for good."""
        stack: list[str] = []
        for change in self.history:
            if change.arm != arm:
                continue
            if change.version is None:
                stack.clear()
            elif change.action == "rollback" and change.version in stack:
                del stack[stack.index(change.version) + 1 :]
            else:
                stack = [name for name in stack if name != change.version] + [change.version]
        return stack[-2::-1]


def read_site(site: Path) -> SiteRecord:
    """What `serving.json` of `site` holds; raises `ArtifactError` where it is missing or damaged."""
    path = site / SITE_FILE
    cure = "Restore it from a backup; or move it away and publish again: the versions are kept, edits since are not."
    try:
        record = read_json(path, SiteRecord)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{path} is damaged or missing: {error}.", cure) from error
    _require_schema(path, record.schema_version)
    if LIVE not in record.arms:
        raise ArtifactError(f"{path} is damaged: it has no arm '{LIVE}'.", cure)
    return record


def write_site(site: Path, record: SiteRecord) -> None:
    """Replaces `serving.json` in one step. Raises `OutputError` where the disk refuses; the file is unchanged then."""
    write_json(site / SITE_FILE, record)


def read_version(site: Path, name: str) -> Version:
    """The version `name`; raises `ArtifactError` where it is missing or damaged, or does not lie in the site."""
    run = site / VERSIONS / name
    record = _read_version_record(site, name)
    return Version(name, run, record.at, record.note, record.fingerprint, record.revision)


def revise_version(site: Path, name: str) -> None:
    """Counts one more revision of the version `name`; servers load it anew. For the process that has the site's lock.

    Raises `ArtifactError` where the version is damaged, and `OutputError` where the disk refuses.
    """
    record = _read_version_record(site, name)
    write_json(site / VERSIONS / name / VERSION_FILE, replace(record, revision=record.revision + 1))
    if (site / SITE_FILE).exists():
        write_site(site, read_site(site))  # servers look at this file alone


def _read_version_record(site: Path, name: str) -> VersionRecord:
    run = site / VERSIONS / name
    if not name.isdecimal() or run.is_symlink():
        raise ArtifactError(
            f"{run} is no version of {site}: expected a folder in {site / VERSIONS} with a number as its name.",
            f"Let the arm serve a version that `mmse versions list {site}` shows.",
        )
    try:
        record = read_json(run / VERSION_FILE, VersionRecord)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise ArtifactError(
            f"Version {name} of {site} is damaged or missing: {error}.", "Publish it again, or serve another version."
        ) from error
    _require_schema(run / VERSION_FILE, record.schema_version)
    return record


def version_names(site: Path) -> list[str]:
    """The versions on the disk, oldest first."""
    folder = site / VERSIONS
    paths = folder.iterdir() if folder.is_dir() else []
    return sorted((path.name for path in paths if path.name.isdecimal() and not path.is_symlink()), key=int)


def utc_time() -> str:
    """The time of this moment, as the files write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _require_schema(path: Path, schema_version: int) -> None:
    if schema_version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {schema_version}, this mmse reads {SCHEMA_VERSION}.",
            "Use the mmse that wrote it.",
        )
