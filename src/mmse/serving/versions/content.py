"""The content of a version's files, compared with the digests in its manifests: what is wrong, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmse.catalogue import layout, wal
from mmse.core import artifact
from mmse.core.errors import MmseError
from mmse.core.run_folder import MAP, SEARCH, RunFolder

EDITS = "edits"
"""The part of a run that holds the edits of its items."""


@dataclass(frozen=True)
class Inspection:
    """What was looked at, and what is wrong with it, "" where nothing is."""

    subject: str
    problem: str = ""
    cure: str = ""


def inspect_content(run: Path) -> Iterator[Inspection]:
    """Reads what a server has open of a run: the folders of a search, the map, and the base of folded edits.

    The end of the log of edits is left out, since servers write there meanwhile.
    """
    for kind in [*SEARCH, *([MAP] if RunFolder(run).has(MAP) else [])]:
        yield inspect(kind, partial(artifact.verify, run / kind, kind, content=True))
    yield inspect(EDITS, lambda: verify_base(run))


def inspect(subject: str, work: Callable[[], object]) -> Inspection:
    """What `work` raises, as an inspection; also what no check has foreseen."""
    try:
        work()
    except MmseError as error:
        return Inspection(subject, error.cause, error.cure)
    except Exception as error:
        return Inspection(subject, f"{type(error).__name__}: {error}", "Restore it from a backup, or make it again.")
    return Inspection(subject)


def verify_base(run: Path) -> int | None:
    """The generation of edits in force, None without; raises `ArtifactError` where its log or its base is damaged."""
    layout.require_own_live_folder(run)
    number = layout.newest_generation(run)
    if number is not None and wal.read_header(layout.wal_file(run, number))[0].base is not None:
        artifact.verify(layout.base_folder(run, number), "live", content=True)
    return number
