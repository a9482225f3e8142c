"""Log lines of a server: JSON for machines or plain text for a terminal, each with the request's id.

A line of `mmse.access` has method, path, status, bytes and milliseconds of a request. What shoppers type is personal
data: the lines leave it out unless an option asks for it (`mmse.serving.middleware.telemetry` writes them).
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final, final

import msgspec

from mmse.core.errors import UsageError

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the current request; lines that are logged during the request have it."""

LEVELS: Final = ("debug", "info", "warning", "error")
_STANDARD: Final = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "request_id", "color_message"}


def configure(*, json: bool, level: str) -> None:
    """Sends all lines of `level` and above to standard error in one form; replaces the handlers set up before."""
    if level.lower() not in LEVELS:
        raise UsageError(f"'{level}' is no level of logging.", f"Write one of: {', '.join(LEVELS)}.")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if json else PlainLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


@final
class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request_id, the extra fields, and the exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of `record`."""
        line = {
            "time": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (line_id := _request_id(record)) is not None:
            line["request_id"] = line_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode({**_extra(record), **line}, enc_hook=str).decode()


@final
class PlainLines(logging.Formatter):
    """Time, level, logger, message and fields; line breaks are escaped, so that a message cannot forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of `record`, and below it the exception."""
        fields = _extra(record)
        if (line_id := _request_id(record)) is not None:
            fields["request_id"] = line_id
        text = " ".join((record.getMessage(), *(f"{name}={value}" for name, value in fields.items())))
        safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        line = f"{_time(record):%H:%M:%S} {record.levelname.lower():7} {record.name}: {safe}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _request_id(record: logging.LogRecord) -> str | None:
    record_id: str | None = getattr(record, "request_id", None)
    return record_id or request_id.get()


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}
