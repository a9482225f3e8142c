"""Which encoding a text file has: UTF-8 is read as it is, another one is read when declared and named when not."""

from __future__ import annotations

import codecs
import gzip
import io
import shutil
import tempfile
import weakref
import zlib
from pathlib import Path

from mmse.core.errors import TableError

HEAD_BYTES = 65_536
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_HIDDEN_SHARE = 0.2
"""Text in UTF-16 without a mark has a zero byte beside each of its plain letters."""


class CopiesFolder:
    """A temporary folder for copies of files, removed once nothing uses this object."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="mmse-"))
        weakref.finalize(self, shutil.rmtree, self.path, True)


def is_known(encoding: str) -> bool:
    """Whether `encoding` is the name of a text encoding."""
    try:
        "".encode(encoding)
    except LookupError:
        return False
    return True


def check_head(file: str, table: str) -> None:
    """Raises `TableError` where the beginning of `file` shows that it is not UTF-8."""
    head = read_head(file)
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            raise _not_utf8(file, table, "it begins with the mark of UTF-16", encoding)
    zeros = head.count(0)
    if zeros > _HIDDEN_SHARE * len(head):
        order = "utf-16-le" if head[1::2].count(0) > head[0::2].count(0) else "utf-16-be"
        raise _not_utf8(file, table, "every other byte of it is zero, as in UTF-16", order)
    _check_bytes(file, table, head, is_end=len(head) < HEAD_BYTES)


def check_whole(file: str, table: str) -> None:
    """Raises `TableError` at the first byte of `file` that is not UTF-8."""
    with open_bytes(file) as stream:
        _check_bytes(file, table, stream.read(), is_end=True)


def copy_as_utf8(file: str, encoding: str, table: str, target: Path) -> None:
    """Writes `file`, which has `encoding`, to `target` as UTF-8; raises `TableError` where it has another encoding."""
    try:
        with (
            io.TextIOWrapper(open_bytes(file), encoding=encoding, newline="") as source,
            target.open("w", encoding="utf-8", newline="") as out,
        ):
            shutil.copyfileobj(source, out, 1 << 20)
    except (UnicodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TableError(
            f"{file} of the {table} table cannot be read as {encoding}, as [{table}] of shop.toml says: {error}.",
            "Name the encoding that it has, or write it again as UTF-8.",
        ) from error


def read_head(file: str) -> bytes:
    """The first bytes of `file`, none of a damaged .gz, which DuckDB will name."""
    try:
        with open_bytes(file) as stream:
            return stream.read(HEAD_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return b""


def open_bytes(file: str) -> io.BufferedReader | gzip.GzipFile:
    """The bytes of `file`, unpacked if it is a .gz."""
    return gzip.open(file, "rb") if file.lower().endswith(".gz") else Path(file).open("rb")


def _check_bytes(file: str, table: str, content: bytes, *, is_end: bool) -> None:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content, final=is_end)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        begin = content.rfind(b"\n", 0, error.start) + 1
        text = content[begin : error.start + 20].split(b"\n")[0].rstrip(b"\r").decode("cp1252", "replace")
        finding = f"line {line} has the byte 0x{content[error.start]:02x}: {text!r}"
        raise _not_utf8(file, table, finding, "windows-1252") from error


def _not_utf8(file: str, table: str, finding: str, encoding: str) -> TableError:
    return TableError(
        f"{file} of the {table} table should be UTF-8 and is not: {finding}; it looks like {encoding}.",
        f'Say so: encoding = "{encoding}" in [{table}] of shop.toml; or save the file as UTF-8. '
        'With encoding = "utf-8", lines that are not are set aside.',
    )
