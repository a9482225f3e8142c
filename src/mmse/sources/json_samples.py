"""The keys of large files of JSON lines, from parts all over them: to take every object apart takes as long as reading.

A key that only other rows have is no loss: rows with a value for one of our columns that the parts lack are set aside
with a reason, and a column that shop.toml names is looked for in all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

WHOLE_BYTES = 256 << 20
"""Files that have no more together are looked at as a whole."""
PARTS = 64
"""How many parts are looked at in all, though two of each file at least."""
PART_BYTES = 256 << 10


def are_large(files: Sequence[str]) -> bool:
    """Whether `files`, which are on this machine, are too large to be looked at as a whole."""
    return sum(Path(file).stat().st_size for file in files if Path(file).is_file()) > WHOLE_BYTES


def sample_objects(files: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The objects in parts of `files`, at the beginning and the end of each and evenly between."""
    for file in files:
        yield from _sample_file(Path(file), max(2, PARTS // len(files)))


def _sample_file(file: Path, n_parts: int) -> Iterator[dict[str, Any]]:
    last = max(0, file.stat().st_size - PART_BYTES)
    with file.open("rb") as stream:
        for number in range(n_parts):
            start = last * number // (n_parts - 1)
            stream.seek(start)
            if start:
                stream.readline()  # the rest of a line
            for line in stream.readlines(PART_BYTES):
                value = _decode(line)
                if isinstance(value, dict):
                    yield value


def _decode(line: bytes) -> object:
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError:  # such lines are set aside when all are read
        return None
