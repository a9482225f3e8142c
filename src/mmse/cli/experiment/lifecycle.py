"""The commands that run experiments on a site: start, ramp up, stop, list, and who is in which arm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from mmse.cli.versions import Json, Note, SiteFolder, who
from mmse.experiment.assignment import HOLDOUT, Placed, Running, assign, bucket_of, read_experiment, started

out = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
Name = Annotated[str, typer.Argument(help="The experiment's name.", metavar="NAME")]


def start(
    site: SiteFolder,
    file: Annotated[Path, typer.Argument(help="What it is (docs/experiments.md).", metavar="EXPERIMENT.toml")],
) -> None:
    """Begins an experiment; running servers take it up within a second."""
    from mmse.serving import experiments
    from mmse.serving.versions.site import Site

    experiment = read_experiment(file)
    running = experiments.start(Site.open(site), experiment, who())
    out.print(_line(running.experiments[-1]))


def ramp(
    site: SiteFolder,
    name: Name,
    traffic: Annotated[float, typer.Argument(help="The share of its layer, more than now.", metavar="SHARE")],
    note: Note = "",
) -> None:
    """Gives an experiment more traffic; whoever is in it stays in their arm."""
    from mmse.experiment.assignment import found
    from mmse.serving import experiments
    from mmse.serving.versions.site import Site

    out.print(_line(found(experiments.ramp(Site.open(site), name, traffic, who(), note), name)))


def stop(site: SiteFolder, name: Name, note: Note = "") -> None:
    """Ends an experiment; its shoppers are served what is live."""
    from mmse.serving import experiments
    from mmse.serving.versions.site import Site

    experiments.stop(Site.open(site), name, who(), note)
    out.print(f"{name} is over.")


def holdout(
    site: SiteFolder,
    share: Annotated[float, typer.Argument(help="Of all shoppers; 0 ends it.", metavar="SHARE")],
    note: Note = "",
) -> None:
    """Keeps a share of shoppers out of all experiments, to tell later what all of them came to."""
    from mmse.serving import experiments
    from mmse.serving.versions.site import Site

    experiments.hold_out(Site.open(site), share, who(), note)
    out.print(f"{share:.2%} of shoppers are in no experiment.")


def list_(site: SiteFolder, as_json: Json = False) -> None:
    """Shows what runs, with its arms, and what was done before."""
    from mmse.serving import experiments

    found = experiments.read(site)
    if as_json:
        out.print(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    for placed in found.running.experiments:
        out.print(_line(placed))
        for name, arm in placed.experiment.arms.items():
            settings = ", ".join(f"{key} = {_said(value)}" for key, value in arm.settings.items()) or "as live"
            out.print(f"    {name:16} weight {arm.weight:g}  {settings}")
    if not found.running.experiments:
        out.print("No experiment runs.")
    if found.running.holdout:
        out.print(f"{found.running.holdout:.2%} of shoppers are held out.")
    for step in found.history[-10:]:
        out.print(f"{step.at}  {step.what:8} {step.name}  {step.note}".rstrip())


def assigned(
    place: Annotated[Path, typer.Argument(help="A site folder, or an experiment's file.", metavar="SITE|FILE.toml")],
    units: Annotated[list[str], typer.Argument(help="Ids of shoppers, visits or requests.", metavar="UNIT…")],
    as_json: Json = False,
) -> None:
    """Says in which arms shoppers are, and why."""
    from mmse.serving import experiments

    alone = place.suffix == ".toml"
    running = started(Running(), read_experiment(place)) if alone else experiments.read(place).running
    rows = [
        {
            "unit": unit,
            "arms": dict(assign(running, user_id=unit, session_id=unit, request_id=unit).arms),
            "buckets": {layer: bucket_of(layer, unit) for layer in _layers(running)},
        }
        for unit in units
    ]
    if as_json:
        out.print(json.dumps(rows, indent=2))
        return
    for row in rows:
        arms = ", ".join(f"{name}: {arm}" for name, arm in row["arms"].items()) or "in no experiment"  # type: ignore[attr-defined]
        arms = "held out of all experiments" if arms == f"{HOLDOUT}: {HOLDOUT}" else arms
        where = ", ".join(f"bucket {bucket} of {layer}" for layer, bucket in row["buckets"].items())  # type: ignore[attr-defined]
        out.print(f"{row['unit']}  {arms}" + (f"  ({where})" if where else ""))


def _line(placed: Placed) -> str:
    one = placed.experiment
    note = f"  {one.note}" if one.note else ""
    return f"{one.name}  {one.traffic:.2%} of the {one.unit}s of layer {one.layer}, since {placed.since}{note}"


def _layers(running: Running) -> list[str]:
    return list(dict.fromkeys(placed.experiment.layer for placed in running.experiments))


def _said(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(msgspec.to_builtins(value))
