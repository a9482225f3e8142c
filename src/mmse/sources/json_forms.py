"""JSON that is not one object a line, as lines: arrays, commas between lines, indented objects, rows within an object.

Well-formed arrays and lines are DuckDB's own work; this is for what it refuses. What is no object stays a line of its
own, so that it is counted.
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

MEMBERS = (
    "products",
    "items",
    "data",
    "results",
    "hits",
    "records",
    "rows",
    "events",
    "docs",
    "documents",
    "entries",
    "objects",
)
"""The members in which answers of APIs hold their rows."""
MAX_CHARACTERS = 256 << 20
"""A longer value is none."""
_CHUNK = 1 << 20
_BETWEEN = re.compile("[ \t\r\n,\\[\\]\ufeff\x1e]*")
_BLANK = " \t\r\ufeff"
_CONTROL = re.compile(r"[\x00-\x1f]")
_LONGEST_TOKEN = 16
"""Characters: a value that is cut off fails so near to the end."""
_DECODER = json.JSONDecoder(strict=False)

log = logging.getLogger(__name__)


class _Merged(dict[str, Any]):
    """An object in which a key comes twice, as two rows run together have it: none, but a `text`."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.text = ", ".join(f"{key}: {value}" for key, value in pairs)


def _make_object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else _Merged(pairs)


_WHOLE_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_make_object)


def are_lines(head: str, *, is_end: bool) -> bool:
    """Whether the text `head`, the beginning of a file, has an object in each of its lines, and more lines than one.

    Of a longer file, whose other lines are set aside, it is enough that most of the lines have.
    """
    lines = [line for line in (line.strip(_BLANK) for line in head.split("\n")) if line]
    lines = lines if is_end else lines[:-1]
    n_objects = sum(map(_is_object, lines))
    if is_end:
        return n_objects == len(lines) > 1
    has_commas = any(line.endswith(",") and _is_object(line.rstrip(",")) for line in lines)
    return not has_commas and n_objects > len(lines) / 2


def write_lines(source: io.TextIOBase, target: io.TextIOBase, name: str) -> None:
    """Writes each object of `source` as a line, and each line that is none of one as a JSON text.

    The rows of a file that is a single object are those of its member that is a list. `name` is that of the file.
    """
    lines = _lines(source)
    head = list(islice(lines, 2))
    if len(head) == 1 and isinstance(document := _WHOLE_DECODER.decode(head[0]), dict):
        member, rows = _member_rows(document)
        head = [json.dumps(row.text if isinstance(row, _Merged) else row) for row in rows] or head
        if rows:
            log.warning("%s: its rows are those of its member %s", name, member)
    for line in chain(head, lines):
        target.write(line + "\n")


def _is_object(line: str) -> bool:
    try:
        return isinstance(_DECODER.decode(line), dict)
    except ValueError:
        return False


def _member_rows(document: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """The list of objects in `document`, or in its member, and where it is; an empty one if it has none."""
    if isinstance(document, _Merged):
        return "", []
    for name, value in document.items():
        if name in MEMBERS and isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            return name, value
        if name in MEMBERS and isinstance(value, dict):
            member, rows = _member_rows(value)
            if rows:
                return f"{name}.{member}", rows
    return "", []


def _lines(source: io.TextIOBase) -> Iterator[str]:
    """As a line of JSON, each object of the text, and each line of it that is none as a text."""
    text, at, is_end = "", 0, False
    while True:
        between = _BETWEEN.match(text, at)
        at = between.end() if between else at
        part = _take(text, at, is_end=is_end) if at < len(text) else None
        if part is not None:
            yield part[0]
            at = part[1]
        elif is_end:
            return
        else:
            chunk = source.read(max(_CHUNK, len(text) - at))
            text, at, is_end = text[at:] + chunk, 0, not chunk


def _take(text: str, at: int, *, is_end: bool) -> tuple[str, int] | None:
    """The line for what is at `at`, and where that ends; `None` where more text has to tell."""
    try:
        value, end = _DECODER.raw_decode(text, at)
        if end == len(text) and not is_end and not isinstance(value, dict):
            return None
        return _CONTROL.sub(" ", text[at:end]), end
    except (ValueError, RecursionError) as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else at
        is_cut = position >= len(text) - _LONGEST_TOKEN or "Unterminated" in str(error)
        if is_cut and not is_end and len(text) - at < MAX_CHARACTERS:
            return None
        end = text.find("\n", at)
        if end < 0 and not is_end and len(text) - at < MAX_CHARACTERS:
            return None
        end = len(text) if end < 0 else end
        return json.dumps(text[at:end]), end
