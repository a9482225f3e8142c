"""The page of a cycle: what came in, what was checked, what was done, and the cycles before."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmse.core.artifact import write_file
from mmse.cycle.record import PAGE, CycleRecord

MAX_EARLIER = 14
"""How many cycles before are listed."""
LABELS = {"blocks": "refused", "warns": "warning", "notes": "passes"}
"""What a finding of each severity means for the version."""


def write_page(folder: Path, record: CycleRecord, earlier: Sequence[CycleRecord]) -> None:
    """Writes the page of `record` into `folder`; `earlier` are the cycles before, oldest first.

    Raises `OutputError` where that is refused.
    """
    environment = Environment(
        loader=PackageLoader("mmse.cycle", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = (
        (resources.files("mmse.evaluation") / "report" / "page.css").read_text("utf-8"),
        (resources.files("mmse.cycle") / "page" / "cycle.css").read_text("utf-8"),
    )
    page = environment.get_template("cycle.html.j2").render(
        record=record,
        labels=LABELS,
        earlier=list(reversed(earlier))[:MAX_EARLIER],
        css=Markup("\n".join(css)),  # noqa: S704 - our own files
    )
    write_file(folder / PAGE, page.encode())
