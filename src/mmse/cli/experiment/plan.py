"""The command that says how long a test has to run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mmse.cli.experiment.analyse import ShopFile, TableFile, UnitOption, source

stdout = Console(highlight=False, emoji=False)


def plan(
    table: TableFile,
    metric: Annotated[str, typer.Option(help="The metric that will decide.")] = "conversion",
    effect: Annotated[float, typer.Option(help="The smallest relative change worth finding.")] = 0.05,
    power: Annotated[float, typer.Option(help="In how many tests it should be test_plan.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="How often a difference may be claimed that is none.")] = 0.05,
    arms: Annotated[int, typer.Option(help="Arms, the control among them.", min=2)] = 2,
    traffic: Annotated[float, typer.Option(help="The share of all traffic in the test.")] = 1.0,
    sequential: Annotated[bool, typer.Option("--sequential", help="Somebody may look at any time.")] = False,
    unit: UnitOption = "user",
    shop: ShopFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Says from the shop's own log how many shoppers and days a test needs, and what it could find in fewer."""
    from mmse.core.extras import require_extra

    require_extra("experiment")
    from mmse.core.config import build
    from mmse.experiment.plan import PlanConfig
    from mmse.experiment.plan import plan as planned
    from mmse.experiment.units import Window, read_units

    options = {"metric": metric, "effect": effect, "alpha": alpha, "power": power, "arms": arms, "traffic": traffic}
    config = build(PlanConfig, options | {"sequential": sequential}, "option")
    units = read_units(source(table, shop), Path.cwd(), unit, Window(single_arm=True))
    test_plan = planned(units, config)
    if as_json:
        stdout.print_json(json.dumps(asdict(test_plan)))
        return
    if test_plan.days is None:
        longest = test_plan.steps[-1]
        message = (
            f"A change of {effect:.1%} in {metric} cannot be found in the {longest.days} days that this log has: "
            f"they find {longest.effect:.1%}."
        )
    else:
        needs = f"{test_plan.days} days and {test_plan.units:,} {unit}s in {arms} arms"
        message = f"A change of {effect:.1%} in {metric} takes {needs}."
    stdout.print(message, style="bold", soft_wrap=True)
    rows = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("days", f"{unit}s", "smallest change found"):
        rows.add_column(name, justify="right")
    for step in test_plan.steps:
        rows.add_row(str(step.days), f"{step.units:,}", f"{step.effect:.1%}")
    stdout.print(rows)
    looks = "looked at at any time" if sequential else "looked at once, at the end"
    stdout.print(
        f"power {power:.0%}, level {alpha:.0%}, {looks}; {metric} is {test_plan.value:.4g} in this log", style="dim"
    )
