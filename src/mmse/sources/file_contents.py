"""What the first bytes of a file say it is, whatever its name says."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from pathlib import Path

from mmse.core.errors import TableError

HEAD_BYTES = 65_536
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
"""What reading a damaged .gz raises."""
_GZIP = b"\x1f\x8b"
_WORKBOOK_CURE = "Save it from the spreadsheet as CSV UTF-8, and name that file in source."
_PACKED_CURE = "Unpack it, and name the file that is in it in source."
_SIGNS: tuple[tuple[bytes, str, str], ...] = (
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls)", _WORKBOOK_CURE),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", _PACKED_CURE),
    (b"BZh", "packed by bzip2", _PACKED_CURE),
    (b"\xfd7zXZ", "packed by xz", _PACKED_CURE),
    (b"7z\xbc\xaf", "a 7z archive", _PACKED_CURE),
    (b"SQLite format 3", "a SQLite database", "Export its tables as CSV or Parquet."),
    (b"%PDF", "a PDF", "Export the table itself, as CSV, JSON Lines or Parquet."),
    (b"Obj\x01", "an Avro file", "Write it as Parquet or JSON Lines."),
    (b"ORC", "an ORC file", "Write it as Parquet."),
)
_WORKBOOK_PARTS = (b"[Content_Types].xml", b"xl/", b"mimetype")
_MARKUP = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(!doctype html|html|\?xml|rss|feed|[a-z][\w:]*[\s>])", re.I | re.S)
_WEB_PAGE = re.compile(rb"<(!doctype html|html)", re.I)
_JSON = re.compile(rb'\s*(?:\[\s*)?\{\s*("|\})')
_PYTHON = re.compile(rb"\s*(?:\[\s*)?\{\s*'")


def check_content(file: str, format_: str, table: str) -> None:
    """Raises `TableError` where a file of text, `csv` or `json`, is of another kind; UTF-16 is let pass."""
    head = read_head(file)
    problem = _kind_of(head) or (_kind_of_text(head, format_) if b"\0" not in head else None)
    if problem is not None:
        kind, cure = problem
        expectation = {"csv": "CSV", "json": "JSON"}[format_]
        raise TableError(f"{file} of the {table} table should be {expectation}, and is {kind}.", cure)


def is_gzip(file: str) -> bool:
    """Whether `file` is packed by gzip, whatever its name."""
    with Path(file).open("rb") as stream:
        return stream.read(2) == _GZIP


def open_bytes(file: str) -> io.BufferedReader | gzip.GzipFile:
    """The bytes of `file`, unpacked if it is packed by gzip."""
    return gzip.open(file, "rb") if is_gzip(file) else Path(file).open("rb")


def read_head(file: str, n_bytes: int = HEAD_BYTES) -> bytes:
    """The first bytes of `file`; of a damaged .gz, which DuckDB will name, none."""
    try:
        with open_bytes(file) as stream:
            return stream.read(n_bytes)
    except DAMAGED:
        return b""


def _kind_of(head: bytes) -> tuple[str, str] | None:
    """What a file of bytes is and what to do, `None` for one of text."""
    if head.startswith(b"PK\x03\x04"):
        is_workbook = any(part in head[:4096] for part in _WORKBOOK_PARTS)
        return ("an Excel workbook (.xlsx) or the like", _WORKBOOK_CURE) if is_workbook else ("a ZIP", _PACKED_CURE)
    if head.startswith(b"PAR1"):
        return "Parquet", 'Say so: format = "parquet"; or name it .parquet.'
    return next(((kind, cure) for sign, kind, cure in _SIGNS if head.startswith(sign)), None)


def _kind_of_text(head: bytes, format_: str) -> tuple[str, str] | None:
    text = head.removeprefix(b"\xef\xbb\xbf")
    markup = _MARKUP.match(text)
    if markup and _WEB_PAGE.match(markup[0].lstrip()):
        return "a web page, such as a login or an error in place of the export", "Export it again."
    if markup:
        return "XML", 'Write it as CSV or JSON Lines; a feed of Google Merchant is read by format = "merchant_feed".'
    if format_ == "csv" and _JSON.match(text):
        return "JSON", 'Say so: format = "json"; or name it .json.'
    if format_ == "json" and _PYTHON.match(text):
        return "what Python prints of a dict, with ' around texts", "Write it with json.dumps, one object a line."
    if format_ == "json" and text.strip() and not re.search(rb"[{\[]", text):
        return "no JSON: nothing in its beginning opens an object", 'For CSV, say so: format = "csv".'
    return None
