"""Days on the command line: a date, or so many days ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from mmse.core.errors import UsageError

DayOption = Annotated[
    str | None,
    typer.Option(help="The first day of the log that is read (UTC): 2026-11-29, or 90d: 90 days ago.", metavar="DAY"),
]


def parse_since(text: str | None, today: datetime | None = None) -> str | None:
    """The date that `text` names; `90d` is 90 days before `today`. Raises `UsageError` for what is no day."""
    if text is None:
        return None
    days = re.fullmatch(r"(\d{1,5})d", text)
    try:
        moment = (today or datetime.now(UTC)) - timedelta(days=int(days[1])) if days else datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--since is {text!r}.", "Write a date such as 2026-11-29, or days such as 90d.") from error
    return moment.date().isoformat()
