"""A sealed file of the log: Parquet that any reader takes, with digests of its own between the pages and the footer.

    PAR1 pages | mark, digest of the pages, digest of the footer | footer, its length, PAR1

Readers find the footer from the end and the pages by the offsets in it, so they step over what is between. A reader
that meets a damaged page or footer gives other rows, or takes its process down; the digests are compared before. A file
of an earlier mmse has none, and is taken as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmse.core.drafts import sync
from mmse.core.errors import ArtifactError

_MARK = b"mmse\xf5rws"
_DIGEST_BYTES = 16
_SEAL_BYTES = len(_MARK) + 2 * _DIGEST_BYTES
_END_BYTES = 8
"""The length of the footer, and the four bytes with which Parquet ends."""


def write_sealed(rows: pa.Table, file: Path) -> None:
    """Writes a sealed file to the disk; raises `OSError` where that refuses."""
    sink = BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    data = sink.getvalue()
    start = _footer_start(data, len(data))
    pages, footer = data[:start], data[start:]
    with file.open("wb") as target:
        target.write(pages + _MARK + _digest(pages) + _digest(footer) + footer)
    sync(file)


def require_whole(file: Path) -> None:
    """Compares all bytes of a sealed file with its digests; raises `ArtifactError` where they are others."""
    with explain_damage(file):
        data = file.read_bytes()
        start = _footer_start(data, len(data))
        seal = _read_seal(data[max(start - _SEAL_BYTES, 0) : start])
        if seal is None:
            _require_no_mark(data)
        elif seal != (_digest(data[: start - _SEAL_BYTES]), _digest(data[start:])):
            raise ValueError("its content is not what was written")


def read_footer(file: Path) -> pq.FileMetaData:
    """The footer of a sealed file, compared with its digest; raises `ArtifactError` where it is another."""
    with explain_damage(file):
        with file.open("rb") as source:
            size = source.seek(0, 2)
            source.seek(max(size - _END_BYTES, 0))
            length = size - _footer_start(source.read(), size)
            source.seek(max(size - length - _SEAL_BYTES, 0))
            data = source.read()
        seal, footer = _read_seal(data[:-length]), data[-length:]
        if seal is None:
            _require_no_mark(file.read_bytes())
        elif seal[1] != _digest(footer):
            raise ValueError("its footer is not what was written")
        return pq.read_metadata(file)


@contextlib.contextmanager
def explain_damage(file: Path) -> Iterator[None]:
    """Turns what reading a file raises into an `ArtifactError`; a file that is gone raises `FileNotFoundError`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, ArithmeticError, pa.ArrowException) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ArtifactError(
            f"{file} is damaged: {reason.rstrip('.')}.",
            "Restore it from a backup, or move it away: its rows are lost then, and no others.",
        ) from error


def _footer_start(end: bytes, size: int) -> int:
    """Where the footer of a file of `size` bytes begins, whose last bytes `end` has."""
    start = size - _END_BYTES - int.from_bytes(end[-_END_BYTES:-4], "little")
    if end[-4:] != b"PAR1" or start <= 0:
        raise ValueError("it does not end as Parquet does")
    return start


def _read_seal(data: bytes) -> tuple[bytes, bytes] | None:
    """The digests of the pages and of the footer; None where there are none."""
    if len(data) != _SEAL_BYTES or not data.startswith(_MARK):
        return None
    return data[len(_MARK) : -_DIGEST_BYTES], data[-_DIGEST_BYTES:]


def _require_no_mark(data: bytes) -> None:
    """Raises `ValueError` where a file has digests, and not where its footer says."""
    if _MARK in data:
        raise ValueError("the length of its footer is not what was written")


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
