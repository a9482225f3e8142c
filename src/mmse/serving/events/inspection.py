"""The log of events looked through whole: every byte against the digests and checksums that it was written with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mmse.core.errors import ArtifactError
from mmse.serving.events import segments
from mmse.serving.events.rows import SCHEMA
from mmse.serving.events.sealed_file import require_whole

_KEPT = "Restore it from a backup. Otherwise its whole rows are sealed, and the others kept in `_open/torn-…`."


def inspect_log(folder: Path) -> Iterator[ArtifactError]:
    """What is wrong with the files of a log, sealed and open. A segment that is just being written is not damaged."""
    for file in segments.sealed_files(folder):
        try:
            require_whole(file)
        except FileNotFoundError:
            continue  # it was pruned meanwhile
        except ArtifactError as error:
            yield error
    for segment in segments.open_segments(folder):
        try:
            gaps = segments.read_segment(segment, SCHEMA).gaps
        except FileNotFoundError:
            continue  # it was sealed meanwhile
        for gap in gaps:
            if not gap.is_torn:
                yield ArtifactError(f"{segment} is damaged from byte {gap.start} to {gap.end}.", _KEPT)
            elif not segments.is_in_use(segment):
                yield ArtifactError(
                    f"{segment} has no whole rows from byte {gap.start} on. Either its process was ended in "
                    "a write, which it never acknowledged; or the file was cut, and its last rows are lost.",
                    _KEPT,
                )


def require_whole_log(folder: Path) -> None:
    """Raises `ArtifactError` for a sealed file that is not what was written, before a library reads it."""
    for file in segments.sealed_files(folder):
        with contextlib.suppress(FileNotFoundError):  # it was pruned meanwhile
            require_whole(file)
