"""Frames: what is appended to a file that is only ever appended to, so that damage is seen before anything is parsed.

A frame is a mark, a length, two checksums and a body. A frame is begun only when the one before is on the disk; so a
broken one at the end was never acknowledged, unless the file was cut.
"""

from __future__ import annotations

import zlib
from struct import Struct

MARK = b"\xf5mj\n"
HEAD = Struct("<4sIII")
"""Mark, length of the body, checksum of the body, checksum of the three."""
_SECTOR = 512


def encode_frame(body: bytes) -> bytes:
    """The frame of a body of less than four billion bytes."""
    head = HEAD.pack(MARK, len(body), zlib.crc32(body), 0)
    return head[:12] + zlib.crc32(head[:12]).to_bytes(4, "little") + body


def read_body(data: bytes, offset: int) -> bytes | None:
    """The body of the frame at byte `offset`; None where the frame is not whole."""
    head = data[offset : offset + HEAD.size]
    if len(head) < HEAD.size:
        return None
    mark, length, body_checksum, head_checksum = HEAD.unpack(head)
    if mark != MARK or head_checksum != zlib.crc32(head[:12]):
        return None
    body = data[offset + HEAD.size : offset + HEAD.size + length]
    return body if len(body) == length and zlib.crc32(body) == body_checksum else None


def find_frame(data: bytes, offset: int) -> int:
    """The byte from `offset` on where a whole frame begins, or the length of `data` where none does."""
    mark = data.find(MARK, offset)
    while mark >= 0 and read_body(data, mark) is None:
        mark = data.find(MARK, mark + 1)
    return len(data) if mark < 0 else mark


def is_torn(data: bytes, offset: int) -> bool:
    """Whether the broken frame at `offset` is an interrupted write: cut short, or with zeros that a power cut left."""
    if find_frame(data, offset + 1) < len(data):
        return False
    head = data[offset : offset + HEAD.size]
    if len(head) < HEAD.size:
        return True
    mark, length, _, head_checksum = HEAD.unpack(head)
    is_head_valid = mark == MARK and head_checksum == zlib.crc32(head[:12])
    is_short = is_head_valid and offset + HEAD.size + length > len(data)
    return is_short or bytes(_SECTOR) in data[offset:] or not any(head)
