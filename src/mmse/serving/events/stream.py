"""The bytes of a segment: frames, the first one of the schema, each further one of a batch of rows.

Arrow parses a damaged batch to other rows, or takes the process down; a frame's checksum is looked at before. What is
no whole frame is a gap: torn, where an interrupted write may have left it at the end; otherwise damage, after which the
next whole frame is read. An earlier mmse wrote an Arrow stream without checksums, which is read as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from mmse.core import frames


@dataclass(frozen=True)
class StreamGap:
    """Bytes of a segment that are no whole frame."""

    start: int
    end: int
    is_torn: bool


@dataclass(frozen=True)
class StreamContent:
    """The batches of a segment, in order, and what is between them."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    gaps: list[StreamGap] = field(default_factory=list)


def encode_schema(schema: pa.Schema) -> bytes:
    """The beginning of a segment."""
    return frames.encode_frame(schema.serialize().to_pybytes())


def encode_batch(batch: pa.RecordBatch) -> bytes:
    """A batch as it is appended to a segment."""
    return frames.encode_frame(batch.serialize().to_pybytes())


def decode(data: bytes, schema: pa.Schema) -> StreamContent:
    """What a segment holds; `schema` is that of its rows where its own is lost."""
    content, at = StreamContent(), 0
    while at < len(data):
        body = frames.read_body(data, at)
        if body is None:
            end = frames.find_frame(data, at + 1)
            content.gaps.append(StreamGap(at, end, frames.is_torn(data, at)))
            at = end
            continue
        end = at + frames.HEAD.size + len(body)
        try:
            message = pa.ipc.read_message(body)
            if message.type == "schema":
                schema = pa.ipc.read_schema(message)
            else:
                content.batches.append(pa.ipc.read_record_batch(message, schema))
        except (pa.ArrowException, OSError, EOFError):  # whole, and of something else
            content.gaps.append(StreamGap(at, end, is_torn=False))
        at = end
    return content


def decode_arrow(data: bytes) -> StreamContent:
    """What an Arrow stream holds, up to where it is torn."""
    content, source = StreamContent(), pa.BufferReader(data)
    end = 0
    try:
        with pa.ipc.open_stream(source) as stream:
            for batch in stream:
                content.batches.append(batch)
                end = source.tell()
    except (pa.ArrowInvalid, OSError):
        if not data:
            return content  # its process was killed before it began
        content.gaps.append(StreamGap(end, len(data), is_torn=True))
    return content
