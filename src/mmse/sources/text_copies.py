"""Copies of files of text, for those that DuckDB does not read as they are."""

from __future__ import annotations

import codecs
import io
import re
import shutil
from pathlib import Path

from mmse.core.scratch import ScratchFolder
from mmse.sources import json_forms
from mmse.sources.bulk_lines import bulk_documents
from mmse.sources.csv_forms import CsvForm, plain_text
from mmse.sources.file_contents import open_bytes

LINE_END_BYTES = 64 << 20
"""Line ends are looked at in so much of a file; those further in stop its reading with an error."""
_CHUNK = 1 << 20


class CopiesFolder:
    """A temporary folder for copies of files, removed once nothing uses this object."""

    def __init__(self) -> None:
        self._scratch = ScratchFolder("copies")
        self.path = self._scratch.path

    def path_of(self, file: str, number: int) -> Path:
        """Where the copy of `file`, the one of that number, is to be; it has its name without `.gz`."""
        folder = self.path / f"{number:06d}"
        folder.mkdir(exist_ok=True)
        return folder / re.sub(r"(?i)\.gz$", "", Path(file).name)


def has_several_line_ends(file: str) -> bool:
    """Whether lines of `file` end in different ways."""
    n_both = n_feeds = n_returns = n_bytes = 0
    former = b""
    with open_bytes(file) as stream:
        while n_bytes < LINE_END_BYTES and (chunk := stream.read(_CHUNK)):
            n_bytes += len(chunk)
            n_both += (former + chunk).count(b"\r\n")
            n_feeds += chunk.count(b"\n")
            n_returns += chunk.count(b"\r")
            former = chunk[-1:]
    return bool(n_feeds and n_returns) and not n_both == n_feeds == n_returns


def copy_with_line_feeds(file: str, target: Path) -> None:
    """Writes `file` to `target` with line feeds at the ends of its lines; other carriage returns become blanks."""
    with open_bytes(file) as source, target.open("wb") as stream:
        returns = b""
        while chunk := source.read(_CHUNK):
            text = returns + chunk
            end = len(text.rstrip(b"\r"))
            returns = text[end:]
            stream.write(_with_line_feeds(text[:end]))
        stream.write(_with_line_feeds(returns))


def copy_as_plain_csv(file: str, form: CsvForm, target: Path) -> None:
    """Writes `file`, in which a backslash escapes, to `target` as plain CSV."""
    with (
        io.TextIOWrapper(open_bytes(file), encoding="utf-8", errors="surrogateescape", newline="") as source,
        target.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        text = ""
        while chunk := source.read(_CHUNK):
            text += chunk
            end = text.rfind("\n") + 1
            while end and _ends_in_escape(text[: end - 1].removesuffix("\r")):
                end = text.rfind("\n", 0, end - 1) + 1
            stream.write(plain_text(text[:end], form))
            text = text[end:]
        stream.write(plain_text(text, form))


def copy_without_mark(file: str, target: Path) -> None:
    """Writes `file` to `target` without the mark of UTF-8 at its beginning."""
    with open_bytes(file) as source, target.open("wb") as stream:
        stream.write(source.read(len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8))
        shutil.copyfileobj(source, stream, _CHUNK)


def copy_as_json_lines(file: str, target: Path) -> None:
    """Writes the objects of `file`, JSON of any form, to `target`, one a line."""
    with (
        io.TextIOWrapper(open_bytes(file), encoding="utf-8-sig", errors="surrogateescape") as source,
        target.open("w", encoding="utf-8") as stream,
    ):
        json_forms.write_lines(source, stream, Path(file).name)


def copy_bulk_documents(file: str, target: Path) -> None:
    """Writes the documents of `file`, which has the bulk form of a search engine, to `target`, one a line."""
    with (
        io.TextIOWrapper(open_bytes(file), encoding="utf-8-sig", errors="surrogateescape", newline="\n") as source,
        target.open("w", encoding="utf-8") as stream,
    ):
        stream.writelines(line + "\n" for line in bulk_documents(source))


def _with_line_feeds(text: bytes) -> bytes:
    return re.sub(rb"\r+\n", b"\n", text).replace(b"\r", b" ")


def _ends_in_escape(text: str) -> bool:
    """Whether the last character of `text` escapes what comes after it."""
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1
