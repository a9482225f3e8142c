"""Small JSON files that say what is in force: replaced in one step, each with a digest of its own content.

A flipped bit in such a file is often valid JSON all the same, with another version, weight or price in it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mmse.core.artifact import write_file

DIGEST = "digest"
TOO_DEEP = "it is nested too deep"
T = TypeVar("T")


def parse_json(content: str | bytes) -> Any:  # noqa: ANN401 - plain JSON values
    """The values of JSON; raises `ValueError` for what is none, also where brackets by the thousand are nested."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error


def write_json(path: Path, content: object) -> None:
    """Writes `content`, fields by name, all of it or nothing; raises `OutputError` where that is refused."""
    fields = msgspec.json.decode(msgspec.json.encode(content))
    text = msgspec.json.format(msgspec.json.encode(fields | {DIGEST: _digest(fields)}), indent=2)
    write_file(path, text + b"\n")


def rewrite_json(path: Path, text: str) -> None:
    """Writes a file whose `text` was changed on purpose, with the digest of its new content."""
    write_json(path, {name: value for name, value in msgspec.json.decode(text).items() if name != DIGEST})


def read_json(path: Path, type_: type[T]) -> T:
    """The content of a file; raises `OSError`, or `ValueError` where it is no such content or not what was written.

    A file without a digest, of an earlier mmse or of people, is taken as it is.
    """
    try:
        fields = msgspec.json.decode(path.read_bytes())
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    if not isinstance(fields, dict):
        raise ValueError(f"expected fields by name, found {type(fields).__name__}")
    digest = fields.pop(DIGEST, None)
    if digest is not None and digest != _digest(fields):
        raise ValueError(f"its content is not what was written; if you changed it by hand, remove its '{DIGEST}'")
    return msgspec.convert(fields, type_)


def _digest(fields: dict[str, object]) -> str:
    return hashlib.blake2b(msgspec.json.encode(fields, order="sorted"), digest_size=16).hexdigest()
