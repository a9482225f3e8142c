"""How a shop writes paths and several values, as its items table tells; a run keeps it, and edits are read by it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

PATH_SEPARATOR = " > "
VALUE_FORMS = "value_forms"
"""The key of the metadata of `items.parquet` that has the forms, as JSON."""


@dataclass(frozen=True)
class ValueForms:
    """How the texts of a table are to be read.

    `path_separator` stands between the levels of a category where that is not `>`; `list_separators` has what stands
    between several values in one text, by column.
    """

    path_separator: str | None = None
    list_separators: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_schema(cls, items: pa.Schema) -> ValueForms:
        """The forms in the metadata of an items table; those of a table without them."""
        values: dict[str, Any] = json.loads((items.metadata or {}).get(VALUE_FORMS.encode(), b"{}"))
        return cls(**values)

    def to_json(self) -> str:
        """The form of the metadata."""
        return json.dumps(asdict(self))

    def cells(self, value: object, column: str, *, is_path: bool, has_several: bool) -> list[object]:
        """What a shop's `value` in `column` holds, one by one; what is no text or list of texts stays as it is.

        In a column of paths that does not have several, a list has the levels of one.
        """
        separator = self.list_separators.get(column)
        if separator and isinstance(value, str):
            value = value.split(separator)
        if has_several and isinstance(value, str) and value.lstrip().startswith("["):
            with contextlib.suppress(ValueError):  # what only looks like a list is a text
                value = json.loads(value)
        cells = value if isinstance(value, list) else [value]
        if not is_path:
            return cells
        if not has_several and len(cells) > 1 and all(isinstance(cell, str) and ">" not in cell for cell in cells):
            cells = [cells]
        return [self._path(cell) for cell in cells]

    def _path(self, levels: object) -> object:
        """A category as `a > b > c`: of a text, or of a list of its levels."""
        if isinstance(levels, str) and self.path_separator and ">" not in levels:
            levels = levels.split(self.path_separator)
        if isinstance(levels, list) and all(isinstance(level, str) for level in levels):
            return PATH_SEPARATOR.join(filter(None, map(str.strip, levels)))
        return levels
