"""The command that says what is wrong with a log before an hour is spent on it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from mmse.core.findings import Finding
    from mmse.mining.checkup import Checkup

stdout = Console(highlight=False, emoji=False)
stderr = Console(stderr=True, highlight=False, emoji=False)
_STYLES = {"blocks": "bold red", "warns": "yellow", "notes": "dim"}
_EXAMPLE = 160


def doctor(
    shop_file: Annotated[Path, typer.Argument(help="The shop.toml that names the two tables.", metavar="SHOP.toml")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Says what is wrong with a log and what to do, without training. Exit code 1 where something blocks, else 0."""
    from mmse.cli.console import progress_on
    from mmse.mining.checkup import examine_log
    from mmse.shop import read_shop

    shop = read_shop(shop_file)
    with mute_sources(), progress_on(stderr) as listener:
        checkup = examine_log(shop.items, shop.events, shop.mine, base=shop.base, progress=listener.part)
    if as_json:
        stdout.print_json(json.dumps(plain_checkup(checkup), default=str))
    else:
        stdout.print(describe_checkup(checkup, shop_file), soft_wrap=True)
    if checkup.is_blocked:
        raise typer.Exit(1)


@contextmanager
def mute_sources() -> Iterator[None]:
    """Keeps the readers' warnings back: what they would warn of is a finding here."""
    logger = logging.getLogger("mmse.sources")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def plain_checkup(checkup: Checkup) -> dict[str, object]:
    """The findings, the lessons and the totals as values for JSON."""
    return {
        "blocked": checkup.is_blocked,
        "findings": [asdict(finding) for finding in checkup.findings],
        "lessons": checkup.lessons,
        "totals": asdict(checkup.totals) if checkup.totals else None,
    }


def describe_checkup(checkup: Checkup, shop_file: Path) -> Text:
    """The findings for people, the worst first, then what the log teaches and what to do next."""
    lines = [describe_finding(finding) for finding in checkup.findings] or [Text("Nothing is wrong with this log.")]
    lines += [Text(), *(Text(lesson) for lesson in checkup.lessons)]
    n_blocks = sum(finding.severity == "blocks" for finding in checkup.findings)
    verdict = (
        f"{n_blocks} {'finding blocks' if n_blocks == 1 else 'findings block'}. Mend that, and ask the doctor again."
        if n_blocks
        else f"Nothing blocks. Next: mmse run {shop_file}"
    )
    return Text("\n").join([*lines, Text(verdict, style="bold")])


def describe_finding(finding: Finding) -> Text:
    """A finding for people: how bad, what, an example, and what to do."""
    text = Text.assemble((f"{finding.severity:6}", _STYLES[finding.severity]), " ", finding.cause)
    if finding.example:
        text.append(f"\n       for example {finding.example[:_EXAMPLE]}", style="dim")
    if finding.cure:
        text.append(f"\n       to do: {finding.cure}")
    return text
