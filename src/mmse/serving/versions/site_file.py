"""What a site says of itself on the disk: which version each arm serves, how that came about, and what each version is.

site/
  serving.json            the version of each arm, and the history; replaced in one step
  versions/0001/ …        published runs, each with a version.json
  rules/                  the merchandiser's rules, one set for all versions
  lock, queue, publishing locks between processes
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from mmse.core import artifact
from mmse.core.errors import ArtifactError
from mmse.schema.http import LIVE

SCHEMA_VERSION = 1
SERVING, VERSIONS, RULES, VERSION, PUBLISHING = "serving.json", "versions", "rules", "version.json", "publishing"
MAX_HISTORY = 500

What = Literal["publish", "rollback", "assign", "drop"]


@dataclass(frozen=True)
class Edition:
    """A version that can be served: its run folder, when it was published (UTC, ISO 8601) and why.

    `fingerprint` is that of its index.
    """

    name: str
    run: Path
    at: str
    note: str
    fingerprint: str


@dataclass(frozen=True)
class Published:
    """What `version.json` holds; `source` is the run folder that it was made from."""

    at: str
    by: str
    note: str
    fingerprint: str
    source: str
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Step:
    """A change of what an arm serves: `was` and `now` are versions, None for none."""

    at: str
    by: str
    note: str
    arm: str
    what: What
    was: str | None
    now: str | None


@dataclass(frozen=True)
class Serving:
    """What `serving.json` holds: the version of each arm, and the steps to it, oldest first."""

    arms: Mapping[str, str]
    history: Sequence[Step] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    def after(self, step: Step) -> Serving:
        """With one more step."""
        arms = {arm: name for arm, name in self.arms.items() if arm != step.arm}
        if step.now is not None:
            arms[step.arm] = step.now
        return Serving(arms, [*self.history[-MAX_HISTORY + 1 :], step])

    def before(self, arm: str) -> list[str]:
        """What `arm` served before, the latest first; to go back takes a version off this list, for good."""
        stack: list[str] = []
        for step in self.history:
            if step.arm != arm:
                continue
            if step.now is None:
                stack.clear()
            elif step.what == "rollback" and step.now in stack:
                del stack[stack.index(step.now) + 1 :]
            else:
                stack = [name for name in stack if name != step.now] + [step.now]
        return stack[-2::-1]


def read_serving(site: Path) -> Serving:
    """What `serving.json` of `site` holds; raises `ArtifactError` where it is missing or damaged."""
    path = site / SERVING
    cure = "Restore it from a backup; or move it away and publish again: the versions are kept, edits since are not."
    try:
        serving = msgspec.json.decode(path.read_bytes(), type=Serving)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{path} is damaged or missing: {error}.", cure) from error
    _require_schema(path, serving.schema_version)
    if LIVE not in serving.arms:
        raise ArtifactError(f"{path} is damaged: it has no arm '{LIVE}'.", cure)
    return serving


def write_serving(site: Path, serving: Serving) -> None:
    """Replaces `serving.json` in one step; raises `OutputError` where the disk refuses, and it is as before then."""
    write(site / SERVING, serving)


def read_edition(site: Path, name: str) -> Edition:
    """The version `name`; raises `ArtifactError` where it is missing or damaged."""
    run = site / VERSIONS / name
    try:
        said = msgspec.json.decode((run / VERSION).read_bytes(), type=Published)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise ArtifactError(
            f"Version {name} of {site} is damaged or missing: {error}.", "Publish it again, or serve another version."
        ) from error
    _require_schema(run / VERSION, said.schema_version)
    return Edition(name, run, said.at, said.note, said.fingerprint)


def names(site: Path) -> list[str]:
    """The versions that are there, oldest first."""
    folder = site / VERSIONS
    found = [path.name for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    return sorted(found, key=int)


def now() -> str:
    """The time, as it is written down."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def write(path: Path, said: object) -> None:
    """Writes `said` as JSON, all of it or nothing."""
    artifact.write_file(path, msgspec.json.format(msgspec.json.encode(said), indent=2) + b"\n")


def _require_schema(path: Path, found: int) -> None:
    if found != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {found}, this mmse reads {SCHEMA_VERSION}.", "Use the mmse that wrote it."
        )
