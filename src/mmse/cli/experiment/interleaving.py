"""The command that says which of two interleaved lists shoppers prefer."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from mmse.cli.experiment.analyse import Name, ShopFile, TableFile, source

stdout = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)


def judge(
    table: TableFile,
    experiment: Name = None,
    arm: Annotated[str | None, typer.Option(help="The arm that interleaves, if there are several.")] = None,
    credit: Annotated[Literal["orders", "clicks"], typer.Option(help="What wins a request.")] = "orders",
    scoring: Annotated[
        Literal["team", "alone", "balanced"],
        typer.Option(help="By the list that brought an item; by items that one list alone has; by depth (balanced)."),
    ] = "team",
    alpha: Annotated[
        float, typer.Option(help="How often a preference may be claimed that is none.", min=1e-6, max=0.5)
    ] = 0.05,
    shop: ShopFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Says which of two interleaved lists shoppers prefer, request by request."""
    from mmse.core.errors import UsageError
    from mmse.experiment.interleaving import estimate_preference, read_margins

    margins, units = read_margins(source(table, shop), Path.cwd(), experiment, credit, arm=arm, scoring=scoring)
    result = estimate_preference(margins, units, credit, alpha)
    if result is None:
        raise UsageError(
            f"None of {len(margins):,} interleaved requests is decided by {credit} ({scoring}): nothing was taken of "
            "either list, or as much of one as of the other.",
            "Wait for more requests" + (", or count --credit clicks." if credit == "orders" else "."),
        )
    if as_json:
        stdout.print_json(json.dumps(asdict(result) | {"scoring": scoring, "verdict": result.verdict}))
        return
    stdout.print(result.verdict, style="bold")
    stdout.print(
        f"{result.requests:,} requests were interleaved; b won {result.won_by_b:,}, a {result.won_by_a:,}, "
        f"p {result.p:.2g}. Scoring: {scoring}. It says which list wins, not by how many orders.",
        style="dim",
    )
