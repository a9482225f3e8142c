"""The command that lets simulated shoppers meet the real server."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

stdout = Console(highlight=False, emoji=False)
stderr = Console(stderr=True, highlight=False, emoji=False)
_HEADS = ("round", "arm", "requests", "orders", "true", "new shown", "new sold", "shown", "gini")


def simulate(
    folder: Annotated[Path, typer.Option("--out", help="Where shop, runs, site and reports are written.")],
    config_file: Annotated[
        Path | None,
        typer.Argument(help="The test (docs/experiments.md). Default: bm25, dssm and mmse.", metavar="[TEST.toml]"),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds, each trained on those before.", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Simulates a shop and a test in it: arms are trained, served over HTTP, met by shoppers and judged; then again.

    Every number of it is simulated.
    """
    from dataclasses import replace

    from mmse.core.extras import require_extra

    require_extra("lab")
    from mmse.cli.console import progress_on
    from mmse.cli.experiment.analyse import analysis_text
    from mmse.core.config import build, read_toml
    from mmse.lab.simulated_test import trial
    from mmse.lab.simulated_test.arms import SimulatedArm
    from mmse.lab.simulated_test.trial import TrialConfig

    document = read_toml(config_file) if config_file is not None else {}
    arms = document.get("arms")
    if isinstance(arms, dict) and all(isinstance(values, dict) for values in arms.values()):
        document["arms"] = {
            name: build(SimulatedArm, values, f"{config_file} [arms.{name}]") for name, values in arms.items()
        }
    config = build(TrialConfig, document, str(config_file))
    if rounds is not None:
        config = replace(config, online=replace(config.online, rounds=rounds))
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # so that its server ends with it
    start = time.perf_counter()
    with progress_on(stderr) as listener:
        rounds_done = trial.run_trial(config, folder, listener)
    if as_json:
        stdout.print_json((folder / trial.OUTCOME).read_text("utf-8"))
        return
    for outcome in rounds_done:
        if outcome.analysis is not None:
            stdout.print(f"Round {outcome.number} (simulated)", style="bold underline")
            stdout.print(analysis_text(outcome.analysis))
            stdout.print()
    rows = Table(
        title="What each round came to (simulated)", title_justify="left", box=None, header_style="bold", pad_edge=False
    )
    for head in _HEADS:
        rows.add_column(head, justify="left" if head == "arm" else "right")
    for row in trial.table_rows(rounds_done):
        rows.add_row(*row)
    stdout.print(rows)
    stdout.print(
        "orders a request, counted and to be expected by the truth; new: items listed in the last fortnight, of slots "
        "and of orders; shown: different items, of those on sale; gini: how unevenly.",
        style="dim",
    )
    stdout.print(f"Reports: {folder}/round-N.html. {time.perf_counter() - start:.0f} s.", markup=False)
