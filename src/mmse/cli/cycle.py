"""The command of the daily loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from mmse.cli.days import DayOption, parse_since

if TYPE_CHECKING:
    from mmse.cycle.record import CycleRecord

stdout = Console(highlight=False, emoji=False)
stderr = Console(stderr=True, highlight=False, emoji=False)
_STYLES = {"blocks": "bold red", "warns": "yellow", "notes": "green"}


def cycle(
    site: Annotated[Path, typer.Argument(help="The site folder; the first cycle makes it.", metavar="SITE")],
    shop_file: Annotated[Path, typer.Argument(help="The shop.toml that names the tables.", metavar="SHOP.toml")],
    folder: Annotated[Path | None, typer.Option("--out", help="The run folder. Default: `run` in the site.")] = None,
    arm: Annotated[str, typer.Option(help="Who is to be served: 'live', or an experiment's arm.")] = "live",
    keep: Annotated[int, typer.Option(help="How many of the newest versions stay, at least two.", min=2)] = 5,
    accept: Annotated[
        list[str] | None, typer.Option(help="The name of a finding that is right this time, such as prices.")
    ] = None,
    discard_edits: Annotated[
        bool, typer.Option("--discard-edits", help="Leave the live version's edits behind: the tables have them.")
    ] = False,
    since: DayOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Makes a version of the newest tables and exposures, and publishes it if no check speaks against it.

    Exit code 0 where a version was published or nothing has changed, 1 where it was refused or something failed.
    """
    from mmse.cli.console import progress_on
    from mmse.cli.doctor import mute_sources
    from mmse.cli.versions import who
    from mmse.cycle.loop import CycleOptions, run_cycle
    from mmse.cycle.record import PAGE, folder_of

    edits: Literal["carry", "discard"] = "discard" if discard_edits else "carry"
    options = CycleOptions(folder, arm, keep, accept or [], edits, who(), parse_since(since))
    with mute_sources(), progress_on(stderr) as listener:
        record = run_cycle(site, shop_file, options, listener)
    if as_json:
        stdout.print_json(msgspec.json.encode(record).decode())
    else:
        stdout.print(_describe(record), soft_wrap=True)
        page = folder_of(site, record.number) / PAGE
        stdout.print(f"Page: {page}", markup=False, soft_wrap=True)
    if record.outcome in ("refused", "failed"):
        raise typer.Exit(1)


def _describe(record: CycleRecord) -> Text:
    """The findings, the worst first, with what to do where something is wrong, and the outcome."""
    from mmse.cycle.page import LABELS

    lines = []
    for finding in record.findings:
        line = Text.assemble((f"{LABELS[finding.severity]:7}", _STYLES[finding.severity]), " ", finding.cause)
        if finding.severity != "notes":
            line.append(f"\n        to do: {finding.cure}")
        lines.append(line)
    return Text("\n").join([*lines, Text(), Text(f"{record.outcome}: {record.summary}", style="bold")])
