"""The command that says what a new run would have earned on an old log."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmse.cli.experiment.analyse import ShopFile, source

out = Console(highlight=False, emoji=False)
_KINDS = ("ips", "snips", "dr")


def off_policy(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, none of which has seen the log.", metavar="RUN…")],
    log: Annotated[Path, typer.Option(help="Exposures with propensities: a file, or a folder such as SITE/events.")],
    experiment: Annotated[str | None, typer.Option(help="The one in which an arm explored.")] = None,
    arm: Annotated[str | None, typer.Option(help="The arm that explored.")] = None,
    reward: Annotated[Literal["orders", "clicks"], typer.Option(help="What is counted.")] = "orders",
    k: Annotated[int, typer.Option(help="Slots of a page.", min=1)] = 20,
    channel: Annotated[
        Literal["hybrid", "vector", "lexical", "rrf"], typer.Option(help="How the runs find their pages.")
    ] = "hybrid",
    most: Annotated[int | None, typer.Option(help="The first so many requests of the log.", min=1)] = None,
    shop: ShopFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Says what new runs would have earned on a log that explored, before any shopper sees them."""
    from mmse.experiment.off_policy import estimate
    from mmse.experiment.search_log import new_pages, read_log, read_looks, slots_of
    from mmse.retrieval.retriever import Retriever

    logged = read_log(source(log, shop), Path.cwd(), experiment=experiment, arm=arm, most=most)
    looks = read_looks(runs[0], k)
    made = {}
    for run in runs:
        pages = new_pages(Retriever.open(run, edits=False), logged, k, channel)
        made[str(run)] = estimate(slots_of(logged, pages, looks, reward))
    own = logged.value(reward)
    if as_json:
        out.print_json(json.dumps({"log": asdict(own), "runs": {name: asdict(one) for name, one in made.items()}}))
        return
    out.print(f"{reward} a request, by {len(logged.queries):,} requests of {log.name}", style="bold")
    rows = Table(box=None, header_style="bold", pad_edge=False)
    rows.add_column("")
    for head in (*_KINDS, "95% interval", "worth", "weight"):
        rows.add_column(head, justify="right", no_wrap=True)
    rows.add_row("the log itself", "", "", f"{own.estimate:.4f}", f"{own.interval.low:.4f} {own.interval.high:.4f}")
    for name, one in made.items():
        values = ["–" if one.refusal else f"{getattr(one, kind).estimate:.4f}" for kind in _KINDS]
        span = "" if one.refusal else f"{one.dr.interval.low:.4f} {one.dr.interval.high:.4f}"
        rows.add_row(Path(name).name, *values, span, f"{one.sample:,.0f}", f"{one.mean_weight.estimate:.2f}")
    out.print(rows)
    for name, one in made.items():
        if one.refusal:
            out.print(Text(f"! {name}: {one.refusal}", style="yellow"))
    out.print(
        "ips: inverse propensity; snips: self-normalised; dr: doubly robust, which the interval is of. worth: so many "
        "requests of the new run; weight: 1 where the log shows all that the run would.",
        style="dim",
    )
