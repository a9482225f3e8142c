"""Which encoding a text file has: UTF-8 is read as it is, another one is read when declared and named when not."""

from __future__ import annotations

import codecs
import io
import re
import shutil
from pathlib import Path

import charset_normalizer

from mmse.core.errors import TableError
from mmse.sources.file_contents import DAMAGED, HEAD_BYTES, open_bytes, read_head

_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_HIDDEN_SHARE = 0.2
"""Text in UTF-16 without a mark has a zero byte beside each of its plain letters: all of them even, or all odd."""
_MAX_OTHER_SHARE = 0.02
_MAX_GUESSED = 1 << 16
"""Bytes from the first that is not UTF-8 on, by which an encoding is guessed."""
_OTHER_SIGNS, _MIN_ALONE = re.compile(r"[^\x00-\x7f]+"), 0.5
_WESTERN = frozenset("àâäáãåæçèéêëíîïñóôöõøœùúûüÿßÀÂÄÁÃÅÆÇÈÉÊËÍÎÏÑÓÔÖÕØŒÙÚÛÜŸ€£§°²®™–—‘’“”„…«»·´½¼¾×\xa0")
"""What Western languages write beside ASCII: in a text of another encoding, windows-1252 shows further signs."""
_USUAL_NAMES = {"cp932": "shift_jis", "cp949": "euc_kr", "euc_jis_2004": "euc_jp", "mac_iceland": "mac_roman"}
"""Encodings by the names under which they are known."""


class EncodingError(TableError):
    """A file is not UTF-8; `encoding` is what it seems to be."""

    def __init__(self, cause: str, cure: str, encoding: str) -> None:
        super().__init__(cause, cure)
        self.encoding = encoding


def is_known(encoding: str) -> bool:
    """Whether `encoding` is the name of a text encoding."""
    try:
        "".encode(encoding)
    except LookupError:
        return False
    return True


def check_head(file: str, table: str) -> None:
    """Raises `EncodingError` where the beginning of `file` shows that it is not UTF-8."""
    head = read_head(file)
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            raise _not_utf8(file, table, f"it begins with the mark of {encoding.upper()}", encoding)
    zeros = head.count(0)
    n_odd = head[1::2].count(0)
    if zeros > _HIDDEN_SHARE * len(head) and min(n_odd, zeros - n_odd) <= _MAX_OTHER_SHARE * zeros:
        order = "utf-16-le" if n_odd > zeros - n_odd else "utf-16-be"
        raise _not_utf8(file, table, "every other byte of it is zero, as in UTF-16", order)
    if b"\0" * 16 in head:
        raise TableError(
            f"{file} of the {table} table has {zeros} bytes that are zero, the first after {head.find(0)} bytes of "
            "text: it was not written to its end.",
            "Write it again.",
        )
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
    except (UnicodeError, *DAMAGED) as error:
        raise TableError(
            f"{file} of the {table} table cannot be read as {encoding}, as [{table}] of shop.toml says: {error}.",
            "Name the encoding that it has, or write it again as UTF-8.",
        ) from error


def _check_bytes(file: str, table: str, content: bytes, *, is_end: bool) -> None:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content, final=is_end)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        begin = content.rfind(b"\n", 0, error.start) + 1
        encoding = guess_encoding(content[begin : begin + _MAX_GUESSED])
        text = content[begin : error.start + 40].split(b"\n")[0].rstrip(b"\r").decode(encoding, "replace")
        finding = f"line {line} has the byte 0x{content[error.start]:02x}: {text!r}"
        raise _not_utf8(file, table, finding, encoding) from error


def guess_encoding(content: bytes) -> str:
    """The encoding that the lines of `content` seem to have that are not UTF-8."""
    bad_lines = b"\n".join(line for line in content.split(b"\n") if not _is_utf8(line)) or content
    if _looks_western(bad_lines):
        return "windows-1252"
    best = charset_normalizer.from_bytes(bad_lines).best()
    name = best.encoding if best else "cp1252"
    return _USUAL_NAMES.get(name, name.replace("cp125", "windows-125"))


def _looks_western(content: bytes) -> bool:
    """Whether windows-1252 shows nothing but usual letters and signs, and these one by one, as in `Größe` and `été`."""
    try:
        signs = _OTHER_SIGNS.findall(content.decode("cp1252"))
    except UnicodeDecodeError:
        return False  # some bytes mean nothing in windows-1252
    n_alone = sum(len(run) == 1 for run in signs)
    return set("".join(signs)) <= _WESTERN and n_alone >= _MIN_ALONE * len(signs)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _not_utf8(file: str, table: str, finding: str, encoding: str) -> EncodingError:
    return EncodingError(
        f"{file} of the {table} table should be UTF-8 and is not: {finding}; it looks like {encoding}.",
        f'If that reads well, say so: encoding = "{encoding}" in [{table}] of shop.toml; or save the file as UTF-8. '
        'With encoding = "utf-8", lines that are not are set aside.',
        encoding,
    )
