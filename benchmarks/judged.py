"""Real text and human grades: the judged-catalogue example over several seeds, on queries it never trained on.

    python benchmarks/judged.py ITEMS JUDGEMENTS [--seeds 0 1 2] [--relevant-from 2.5] [--split dev]

Behaviour is simulated on the training queries alone; the numbers are of human judgements. Writes
benchmarks/results/judged.json.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from machine import ROOT, keep, where

from mmse.evaluation.judgements import evaluate_judged
from mmse.lab.simulator.judged import JudgedConfig, simulate_judged
from mmse.pipeline import (
    Listener,
    baseline_stage,
    embed_stage,
    index_stage,
    mine_stage,
    ranking_stage,
    read_shop,
    train_stage,
)

EXAMPLE = ROOT / "examples" / "judged_catalogue" / "train.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", type=Path)
    parser.add_argument("judgements", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--relevant-from", type=float, default=2.5)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--train-split", default="train")
    asked = parser.parse_args()
    result = where() | {"items": asked.items.parent.name, "split": asked.split, "relevant_from": asked.relevant_from}
    rows: list[dict[str, object]] = []
    for seed in asked.seeds:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(asked, seed, Path(folder))
    keep("judged", result | {"rows": rows})


def measure(asked: argparse.Namespace, seed: int, folder: Path) -> list[dict[str, object]]:
    """Simulates, trains, embeds, indexes and ranks with `seed`; gives the rows of the judged evaluation."""
    simulate_judged(JudgedConfig(seed=seed), asked.items, asked.judgements, folder / "shop", asked.train_split)
    toml = folder / "shop" / "shop.toml"
    text = EXAMPLE.read_text("utf-8").replace("[train]\n", f"[train]\nseed = {seed}\n")
    toml.write_text(toml.read_text("utf-8") + text, "utf-8")
    shop, quiet = read_shop(toml), Listener()
    for stage in (mine_stage, train_stage):
        stage(shop, folder / "run", quiet)
    baseline_stage(shop, folder / "run", "dssm", quiet)
    for stage in (embed_stage, index_stage, ranking_stage):
        stage(shop, folder / "run", quiet)
    found = evaluate_judged(
        folder / "run", asked.judgements, shop.evaluate, relevant_from=asked.relevant_from, split=asked.split
    )
    shown = ("system", "metric", "k", "value", "low", "high", "queries")
    return [{"seed": seed} | {name: getattr(row, name) for name in shown} for row in found.rows]


if __name__ == "__main__":
    main()
