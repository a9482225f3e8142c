"""One lexical index with the words of base and edits, so that BM25 counts both alike: a copy that a process owns.

The library never changes a segment's file, so the copy is made of links to the base's files where the disk allows it.
It is made at the first edit and lives as long as its catalogue; it can always be made again from the log of edits.
"""

from __future__ import annotations

import logging
import os
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import final

import pyarrow as pa

from mmse.catalogue import layout
from mmse.catalogue.delta import ChangedRows
from mmse.core.errors import OutputError
from mmse.core.scratch import remove_owned
from mmse.index.lexical import LexicalIndex

log = logging.getLogger(__name__)


@final
class WorkingIndex:
    """A copy of the lexical index in `base` that takes edits, in a folder in `parent`.

    `attributes` names the columns that make the field of that name.
    """

    def __init__(self, parent: Path, base: Path, attributes: list[str]) -> None:
        self._attributes = attributes
        try:
            self.folder, owner_lock = layout.make_working_folder(parent)
        except OSError as error:
            self.folder = parent
            raise self._output_error(error) from error
        self._remove = weakref.finalize(self, remove_owned, self.folder, owner_lock)
        try:
            copy_lexical_index(base, self.folder)
            self._index = LexicalIndex.open(self.folder)
            self._writer = self._index.writer(live=True)
        except BaseException as error:
            self._remove()
            if isinstance(error, (ValueError, OSError)):
                raise self._output_error(error) from error
            raise

    def write(self, tables: Sequence[ChangedRows]) -> LexicalIndex:
        """The index in which the rows of each table hold what the table says.

        After an error the state of the working index is unknown; it has to be made again.
        """
        try:
            for rows, items, alive in tables:
                self._writer.remove(rows)
                self._writer.add(rows[alive], items.filter(pa.array(alive)), self._attributes)
            self._writer.commit()
            self._index = self._index.refresh()
        except (ValueError, OSError) as error:  # the library reports every failure of the disk as a ValueError
            raise self._output_error(error) from error
        return self._index

    def close(self) -> None:
        """Removes the folder; an index that `write` returned stays usable."""
        self._remove()

    def _output_error(self, error: Exception) -> OutputError:
        return OutputError(
            f"Cannot write the words of the edits into {self.folder}: {error}.",
            "Free some space on that disk, then apply the edits again.",
        )


def begin_working_index(
    run: Path, base: Path, attributes: list[str], tables: Sequence[ChangedRows]
) -> tuple[WorkingIndex, LexicalIndex]:
    """A working index over `base` with the words of `tables`, and what it holds, in the first place that has room.

    Raises `OutputError` where none has.
    """
    *parents, last_parent = layout.working_parents(run)
    for parent in parents:
        try:
            return _begin(parent, base, attributes, tables)
        except OutputError as error:
            log.info("%s Another place is tried.", error.cause)
    return _begin(last_parent, base, attributes, tables)


def _begin(
    parent: Path, base: Path, attributes: list[str], tables: Sequence[ChangedRows]
) -> tuple[WorkingIndex, LexicalIndex]:
    working_index = WorkingIndex(parent, base, attributes)
    try:
        return working_index, working_index.write(tables)
    except BaseException:
        working_index.close()
        raise


def copy_lexical_index(source: Path, target: Path) -> None:
    """Copies the lexical index in `source` into `target`: links, but copies of the files that the library replaces."""
    for path in source.iterdir():
        if path.suffix == ".json":
            shutil.copyfile(path, target / path.name)
        elif not path.name.endswith(".lock"):
            try:
                os.link(path, target / path.name)
            except OSError:
                shutil.copyfile(path, target / path.name)
