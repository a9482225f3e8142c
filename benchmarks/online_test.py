"""What `mmse experiment simulate benchmarks/online_test.toml --out OUT` found, each rival in turn as the control.

    python benchmarks/online_test.py OUT

Effects of `mmse` on conversion (shoppers with an order) and on orders a request, with 95% intervals, beside what the
simulated truth has of orders a request. Everything is simulated. Writes benchmarks/results/online_test.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from machine import keep, where

from mmse.experiment.analysis import AnalysisConfig, analyse
from mmse.experiment.units import Window, read_units
from mmse.sources.tables import EventsConfig

OURS, RIVALS = "mmse", ("bm25", "dssm", "weighted_softmax")


def main() -> None:
    """Analyses each round against each rival, and keeps it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    went = json.loads((out / "outcome.json").read_text("utf-8"))
    keep(
        "online_test",
        {
            "where": where(),
            "simulated": True,
            "rounds": [{"arms": one["arms"], "mmse_against": against(out, one)} for one in went],
        },
    )


def against(out: Path, went: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, object]]:
    """Ours against each rival in a round."""
    events = EventsConfig(str((out / "site" / "events").absolute()))
    units = read_units(events, out, "user", Window(f"round-{went['number']}"))
    true = {name: arm["true_orders"] for name, arm in went["arms"].items()}
    found: dict[str, dict[str, object]] = {}
    for rival in RIVALS:
        analysis = analyse(units, AnalysisConfig(control=rival))
        found[rival] = {"true_orders_per_request": round(true[OURS] / true[rival] - 1, 4)}
        for metric in ("conversion", "request_conversion", "orders_per_request"):
            effect = analysis.of(OURS, metric)
            assert effect is not None
            low, high = effect.interval.low, effect.interval.high
            found[rival][metric] = [round(number, 4) for number in (effect.relative, low, high)]
    return found


if __name__ == "__main__":
    main()
