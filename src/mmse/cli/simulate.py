"""The command that simulates a shop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmse.cli.options import stderr, stdout
from mmse.core.errors import UsageError


def simulate(
    folder: Annotated[Path, typer.Argument(help="The shop folder to write.", metavar="OUT")],
    n_items: Annotated[int, typer.Option(help="Items of a made-up catalogue.", min=100)] = 20_000,
    n_requests: Annotated[int, typer.Option(help="Requests to a made-up catalogue.", min=100)] = 60_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    presets: Annotated[
        list[str] | None,
        typer.Option("--preset", help="A shop that differs in kind, such as titles_alone; may be given several times."),
    ] = None,
    items: Annotated[Path | None, typer.Option(help="A real catalogue, instead of a made-up one.")] = None,
    judgements: Annotated[
        Path | None, typer.Option(help="Human grades of its items: query, item_id, relevance.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Use only the judgements of this `split`.")] = None,
    requests_per_query: Annotated[int, typer.Option(help="Requests per judged query, on average.", min=1)] = 12,
) -> None:
    """Writes a shop whose truth is known: items, a behaviour log, shop.toml, and the truth apart."""
    from mmse.cli.console import progress_on
    from mmse.core.artifact import read_manifest
    from mmse.core.config import build
    from mmse.lab.simulator.judged_shop import JudgedConfig, simulate_judged
    from mmse.lab.simulator.simulate import KIND, SimulatorConfig
    from mmse.lab.simulator.simulate import simulate as simulate_shop

    if (items is None) != (judgements is None):
        raise UsageError("--items and --judgements go together.", "Give both, or neither for a made-up catalogue.")
    if items is not None and presets:
        raise UsageError("--preset is for made-up catalogues.", "Leave it out, or --items and --judgements.")
    with progress_on(stderr) as listener:
        if items is not None and judgements is not None:
            judged_config = JudgedConfig(seed=seed, requests_per_query=requests_per_query)
            simulate_judged(judged_config, items, judgements, folder, split, listener.part)
        else:
            values = {"seed": seed, "n_items": n_items, "n_requests": n_requests, "presets": presets or []}
            config = build(SimulatorConfig, values, "mmse simulate")
            simulate_shop(config, folder, listener.part)
    for name, value in read_manifest(folder, KIND).counts.items():
        stdout.print(
            f"{name.replace('_', ' '):>28}  {value:,.4g}"
            if isinstance(value, float)
            else f"{name.replace('_', ' '):>28}  {value:,}"
        )
    stdout.print(f"\nThe behaviour is simulated. Next: mmse run {folder / 'shop.toml'}", markup=False, soft_wrap=True)
