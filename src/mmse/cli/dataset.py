"""The command that says whether mmse can train on a dataset folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from mmse.cli.doctor import describe_finding

stdout = Console(highlight=False, emoji=False)
dataset_app = typer.Typer(
    name="dataset",
    help="Checks the folder that mining writes, whichever engine made it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@dataset_app.command(epilog="Example: mmse dataset check run/dataset")
def check(
    folder: Annotated[
        Path, typer.Argument(help="A dataset folder: items.parquet, train/, valid/ …", metavar="DATASET")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Says what is wrong with a dataset folder: files, columns, order, splits, and what lies in a request's future.

    Exit code 1 where a rule is broken, else 0. To train on a folder that another engine made, write engine = "adopt"
    and dataset = "FOLDER" below [mine] in shop.toml.
    """
    from mmse.dataset.contract import check_dataset

    findings = check_dataset(folder)
    if as_json:
        stdout.print_json(json.dumps([asdict(finding) for finding in findings]))
    else:
        lines = [describe_finding(finding) for finding in findings]
        verdict = f"{len(findings)} to mend." if findings else f"{folder} keeps every rule."
        stdout.print(Text("\n").join([*lines, Text(verdict, style="bold")]), soft_wrap=True)
    if findings:
        raise typer.Exit(1)
