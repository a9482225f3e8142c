"""The words of base and edits in one lexical index, so that BM25 counts both alike: a process's own copy of the base's.

The library never changes a segment's file, so a copy is links to those files where the disk allows it. It is made
at the first edit and lives as long as its catalogue; the journal can make it again.
"""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, final

import pyarrow as pa

from mmse.catalogue import layout as places
from mmse.catalogue.delta import Table
from mmse.core.errors import OutputError
from mmse.index.lexical import LexicalIndex


@final
class Scratch:
    """A copy of the lexical index `base` that takes edits; `attributes` names the columns of the field of that name."""

    def __init__(self, run: Path, base: Path, attributes: list[str]) -> None:
        self._attributes = attributes
        self.folder, held = places.scratch(run)
        self._remove = weakref.finalize(self, _removed, self.folder, held)
        try:
            copy(base, self.folder)
            self._index = LexicalIndex.open(self.folder)
            self._writer = self._index.writer(live=True)
        except BaseException as error:
            self._remove()
            if isinstance(error, (ValueError, OSError)):
                raise self._refused(error) from error
            raise

    def write(self, changed: Sequence[Table]) -> LexicalIndex:
        """The index with what each table holds in place of what it had at those rows.

        After an error the scratch is in an unknown state and has to be made again.
        """
        try:
            for rows, items, alive in changed:
                self._writer.remove(rows)
                self._writer.add(rows[alive], items.filter(pa.array(alive)), self._attributes)
            self._writer.commit()
            self._index = self._index.refreshed()
        except (ValueError, OSError) as error:  # the library says every failure of the disk as a ValueError
            raise self._refused(error) from error
        return self._index

    def close(self) -> None:
        """Removes the folder; an index that `write` gave goes on."""
        self._remove()

    def _refused(self, error: Exception) -> OutputError:
        return OutputError(
            f"Cannot write the words of the edits into {self.folder}: {error}.",
            "Free some space on that disk, then apply the edits again.",
        )


def copy(source: Path, target: Path) -> None:
    """Puts the lexical index in `source` into `target` as well; what the library replaces as a whole is copied."""
    for path in source.iterdir():
        if path.suffix == ".json":
            shutil.copyfile(path, target / path.name)
        elif not path.name.endswith(".lock"):
            try:
                os.link(path, target / path.name)
            except OSError:
                shutil.copyfile(path, target / path.name)


def _removed(folder: Path, held: IO[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    held.close()
