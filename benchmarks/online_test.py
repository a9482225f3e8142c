"""The results of `mmse experiment simulate benchmarks/online_test.toml --out OUT`, with each rival as the control.

    python benchmarks/online_test.py OUT

Effects of `mmse` on conversion (shoppers with an order) and on orders a request, with 95% intervals, and the
effect on orders a request by the simulated truth. Everything is simulated. Writes benchmarks/results/online_test.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from machine import environment, write_result

from mmse.experiment.analysis import analyse
from mmse.experiment.analysis_config import AnalysisConfig
from mmse.experiment.units import Window, read_units
from mmse.sources.tables import EventsConfig

SUBJECT, RIVALS = "mmse", ("bm25", "dssm", "weighted_softmax")


def main() -> None:
    """Analyses each round against each rival and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    folder = parser.parse_args().out
    rounds = json.loads((folder / "outcome.json").read_text("utf-8"))
    write_result(
        "online_test",
        {
            "where": environment(),
            "simulated": True,
            "rounds": [
                {"arms": result["arms"], "mmse_against": effects_against_rivals(folder, result)} for result in rounds
            ],
        },
    )


def effects_against_rivals(
    folder: Path, result: dict[str, dict[str, dict[str, float]]]
) -> dict[str, dict[str, object]]:
    """The effects of `mmse` against each rival in a round."""
    events = EventsConfig(str((folder / "site" / "events").absolute()))
    units = read_units(events, folder, "user", Window(f"round-{result['number']}"))
    true_orders = {name: arm["true_orders"] for name, arm in result["arms"].items()}
    effects: dict[str, dict[str, object]] = {}
    for rival in RIVALS:
        analysis = analyse(units, AnalysisConfig(control=rival))
        effects[rival] = {"true_orders_per_request": round(true_orders[SUBJECT] / true_orders[rival] - 1, 4)}
        for metric in ("conversion", "request_conversion", "orders_per_request"):
            effect = analysis.effect(SUBJECT, metric)
            assert effect is not None
            low, high = effect.interval.low, effect.interval.high
            effects[rival][metric] = [round(number, 4) for number in (effect.relative, low, high)]
    return effects


if __name__ == "__main__":
    main()
