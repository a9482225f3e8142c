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

stdout = Console(highlight=False, emoji=False)
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
    max_requests: Annotated[
        int | None, typer.Option("--most", help="The first so many requests of the log.", min=1)
    ] = None,
    shop: ShopFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Says what new runs would have earned on a log that explored, before any shopper sees them."""
    from mmse.experiment.off_policy import estimate
    from mmse.experiment.search_log import new_pages, read_log, read_looks, weigh_log
    from mmse.retrieval.retriever import Retriever

    log_sample = read_log(source(log, shop), Path.cwd(), experiment=experiment, arm=arm, limit=max_requests)
    looks = read_looks(runs[0], k)
    estimates = {}
    for run in runs:
        pages = new_pages(Retriever.open(run, edits=False), log_sample, k, channel)
        estimates[str(run)] = estimate(weigh_log(log_sample, pages, looks, reward))
    log_value = log_sample.value(reward)
    if as_json:
        stdout.print_json(
            json.dumps(
                {
                    "log": asdict(log_value),
                    "runs": {name: asdict(policy_value) for name, policy_value in estimates.items()},
                }
            )
        )
        return
    stdout.print(f"{reward} a request, by {len(log_sample.queries):,} requests of {log.name}", style="bold")
    rows = Table(box=None, header_style="bold", pad_edge=False)
    rows.add_column("")
    for head in (*_KINDS, "95% interval", "worth", "weight"):
        rows.add_column(head, justify="right", no_wrap=True)
    rows.add_row(
        "the log itself",
        "",
        "",
        f"{log_value.estimate:.4f}",
        f"{log_value.interval.low:.4f} {log_value.interval.high:.4f}",
    )
    for name, policy_value in estimates.items():
        values = ["–" if policy_value.refusal else f"{getattr(policy_value, kind).estimate:.4f}" for kind in _KINDS]
        span = "" if policy_value.refusal else f"{policy_value.dr.interval.low:.4f} {policy_value.dr.interval.high:.4f}"
        rows.add_row(
            Path(name).name, *values, span, f"{policy_value.sample:,.0f}", f"{policy_value.mean_weight.estimate:.2f}"
        )
    stdout.print(rows)
    for name, policy_value in estimates.items():
        if policy_value.refusal:
            stdout.print(Text(f"! {name}: {policy_value.refusal}", style="yellow"))
    stdout.print(
        "ips: inverse propensity; snips: self-normalised; dr: doubly robust, which the interval is of. worth: so many "
        "requests of the new run; weight: 1 where the log shows all that the run would.",
        style="dim",
    )
