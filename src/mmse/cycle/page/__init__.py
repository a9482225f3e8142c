"""The page of a cycle: what came in, what was checked, what was done, and the cycles before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmse.core.artifact import write_file
from mmse.core.pages import page_environment
from mmse.cycle.record import PAGE, CycleRecord

MAX_EARLIER = 14
"""How many cycles before are listed."""
LABELS = {"blocks": "refused", "warns": "warning", "notes": "passes"}
"""What a finding of each severity means for the version."""


def write_page(folder: Path, record: CycleRecord, earlier: Sequence[CycleRecord]) -> None:
    """Writes the page of `record` into `folder`; `earlier` are the cycles before, oldest first.

    Raises `OutputError` where that is refused.
    """
    environment = page_environment(
        "mmse.cycle", "page", ("mmse.evaluation", "report/page.css"), ("mmse.cycle", "page/cycle.css")
    )
    page = environment.get_template("cycle.html.j2").render(
        record=record, labels=LABELS, earlier=list(reversed(earlier))[:MAX_EARLIER]
    )
    write_file(folder / PAGE, page.encode())
