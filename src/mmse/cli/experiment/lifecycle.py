"""The commands that run experiments on a site: start, ramp up, stop, list, and who is in which arm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from mmse.cli.versions import Json, Note, SiteFolder, who
from mmse.experiment.assignment import (
    HOLDOUT,
    Allocation,
    ExperimentState,
    add_experiment,
    assign,
    bucket_of,
    read_experiment,
)

stdout = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
Name = Annotated[str, typer.Argument(help="The experiment's name.", metavar="NAME")]


def start(
    site: SiteFolder,
    file: Annotated[Path, typer.Argument(help="What it is (docs/experiments.md).", metavar="EXPERIMENT.toml")],
) -> None:
    """Begins an experiment; running servers take it up within a second."""
    from mmse.serving import experiments
    from mmse.serving.versions.site import Site

    experiment = read_experiment(file)
    state = experiments.start(Site.open(site), experiment, who())
    stdout.print(_line(state.experiments[-1]))


def ramp(
    site: SiteFolder,
    name: Name,
    traffic: Annotated[float, typer.Argument(help="The share of its layer, more than now.", metavar="SHARE")],
    note: Note = "",
) -> None:
    """Gives an experiment more traffic; whoever is in it stays in their arm."""
    from mmse.experiment.assignment import find_experiment
    from mmse.serving import experiments
    from mmse.serving.versions.site import Site

    stdout.print(_line(find_experiment(experiments.ramp(Site.open(site), name, traffic, who(), note), name)))


def stop(site: SiteFolder, name: Name, note: Note = "") -> None:
    """Ends an experiment; its shoppers are served what is live."""
    from mmse.serving import experiments
    from mmse.serving.versions.site import Site

    experiments.stop(Site.open(site), name, who(), note)
    stdout.print(f"{name} is over.")


def holdout(
    site: SiteFolder,
    share: Annotated[float, typer.Argument(help="Of all shoppers; 0 ends it.", metavar="SHARE")],
    note: Note = "",
) -> None:
    """Keeps a share of shoppers out of all experiments, to tell later what all of them came to."""
    from mmse.serving import experiments
    from mmse.serving.versions.site import Site

    experiments.hold_out(Site.open(site), share, who(), note)
    stdout.print(f"{share:.2%} of shoppers are in no experiment.")


def list_(site: SiteFolder, as_json: Json = False) -> None:
    """Shows what runs, with its arms, and what was done before."""
    from mmse.serving import experiments

    site_experiments = experiments.read_experiments(site)
    if as_json:
        stdout.print(json.dumps(msgspec.to_builtins(site_experiments), indent=2))
        return
    for running_experiment in site_experiments.state.experiments:
        stdout.print(_line(running_experiment))
        for name, arm in running_experiment.experiment.arms.items():
            settings = ", ".join(f"{key} = {_setting_text(value)}" for key, value in arm.settings.items()) or "as live"
            stdout.print(f"    {name:16} weight {arm.weight:g}  {settings}")
    if not site_experiments.state.experiments:
        stdout.print("No experiment runs.")
    if site_experiments.state.holdout:
        stdout.print(f"{site_experiments.state.holdout:.2%} of shoppers are held out.")
    for step in site_experiments.history[-10:]:
        stdout.print(f"{step.at}  {step.action:8} {step.name}  {step.note}".rstrip())


def show_arms(
    path: Annotated[Path, typer.Argument(help="A site folder, or an experiment's file.", metavar="SITE|FILE.toml")],
    units: Annotated[list[str], typer.Argument(help="Ids of shoppers, visits or requests.", metavar="UNIT…")],
    as_json: Json = False,
) -> None:
    """Says in which arms shoppers are, and why."""
    from mmse.serving import experiments

    if path.suffix == ".toml":
        state = add_experiment(ExperimentState(), read_experiment(path))
    else:
        state = experiments.read_experiments(path).state
    layers = list(dict.fromkeys(allocation.experiment.layer for allocation in state.experiments))
    arms = {unit: dict(assign(state, user_id=unit, session_id=unit, request_id=unit).arms) for unit in units}
    buckets = {unit: {layer: bucket_of(layer, unit) for layer in layers} for unit in units}
    if as_json:
        rows = [{"unit": unit, "arms": arms[unit], "buckets": buckets[unit]} for unit in units]
        stdout.print(json.dumps(rows, indent=2))
        return
    for unit in units:
        text = ", ".join(f"{name}: {arm}" for name, arm in arms[unit].items()) or "in no experiment"
        text = "held out of all experiments" if HOLDOUT in arms[unit] else text
        location = ", ".join(f"bucket {bucket} of {layer}" for layer, bucket in buckets[unit].items())
        stdout.print(f"{unit}  {text}" + (f"  ({location})" if location else ""))


def _line(allocation: Allocation) -> str:
    experiment = allocation.experiment
    note = f"  {experiment.note}" if experiment.note else ""
    share = f"{experiment.traffic:.2%} of the {experiment.unit}s of layer {experiment.layer}"
    return f"{experiment.name}  {share}, since {allocation.started_at}{note}"


def _setting_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(msgspec.to_builtins(value))
