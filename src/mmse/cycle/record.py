"""What a cycle did, for the next one and for people: `cycles/NNNN/cycle.json` of a site."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from mmse.core.artifact import explain_os_errors
from mmse.core.errors import ArtifactError
from mmse.core.findings import Finding
from mmse.core.json_files import read_json, write_json
from mmse.release.answers import StageRecall
from mmse.release.traffic import LogState

CYCLES, RECORD, PAGE = "cycles", "cycle.json", "cycle.html"

Outcome = Literal["published", "refused", "unchanged", "failed"]


class StepTime(msgspec.Struct, frozen=True):
    """A step of the run, why it ran or not, and its seconds."""

    name: str
    reason: str
    seconds: float


class CycleRecord(msgspec.Struct, frozen=True):
    """What a cycle did. `version` is the one that it published for `arm`, `former` the one that was served before.

    `summary` says the outcome in a sentence, and what to do where there is something to do. `findings` are all that was
    checked, the worst first; `log` and `recalls` are what the next cycle compares with, `log` None where no log was
    read.
    """

    number: int
    at: str
    seconds: float
    outcome: Outcome
    summary: str
    arm: str
    version: str | None = None
    former: str | None = None
    items: int = 0
    log: LogState | None = None
    recalls: list[StageRecall] = []
    findings: list[Finding] = []
    steps: list[StepTime] = []


def read_records(site: Path) -> list[CycleRecord]:
    """The records of a site's cycles, oldest first; raises `ArtifactError` for one that cannot be read."""
    return [_read(path / RECORD) for path in _folders(site) if (path / RECORD).is_file()]


def next_number(site: Path) -> int:
    """The number of the next cycle."""
    return max((int(path.name) for path in _folders(site)), default=0) + 1


def folder_of(site: Path, number: int) -> Path:
    """The folder of a cycle's record and page."""
    return site / CYCLES / f"{number:04}"


def write_record(site: Path, record: CycleRecord) -> None:
    """Writes a record; raises `OutputError` where that is refused."""
    path = folder_of(site, record.number) / RECORD
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record)


def record_of(records: Sequence[CycleRecord], version: str) -> CycleRecord | None:
    """The cycle that published `version`, None where it was published by hand."""
    return next((record for record in records if record.version == version), None)


def _folders(site: Path) -> list[Path]:
    return sorted(path for path in (site / CYCLES).glob("*") if re.fullmatch(r"\d{4,}", path.name))


def _read(path: Path) -> CycleRecord:
    try:
        return read_json(path, CycleRecord)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise ArtifactError(
            f"{path} is no record of a cycle: {error}.", f"Move {path.parent} away: the cycle then goes by the others."
        ) from error
