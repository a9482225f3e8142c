"""Real text and human grades: the judged-catalogue example over several seeds, on queries without training.

    python benchmarks/judged.py ITEMS JUDGEMENTS [--seeds 0 1 2] [--relevant-from 2.5] [--split dev]

Behaviour is simulated on the training queries only; the numbers are from human judgements. Writes
benchmarks/results/judged.json.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from machine import ROOT, environment, write_result

from mmse.core.run_folder import DATASET, INDEX, MODEL, RANKING, SERVING, VECTORS
from mmse.evaluation.judgements import evaluate_judged
from mmse.lab.simulator.judged_shop import JudgedConfig, simulate_judged
from mmse.pipeline import Listener, make
from mmse.shop import read_shop

EXAMPLE = ROOT / "examples" / "judged_catalogue" / "train.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", type=Path)
    parser.add_argument("judgements", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--relevant-from", type=float, default=2.5)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--train-split", default="train")
    options = parser.parse_args()
    result = environment() | {
        "items": options.items.parent.name,
        "split": options.split,
        "relevant_from": options.relevant_from,
    }
    rows: list[dict[str, object]] = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(options, seed, Path(folder))
    write_result("judged", result | {"rows": rows})


def measure(options: argparse.Namespace, seed: int, folder: Path) -> list[dict[str, object]]:
    """Simulates, trains, embeds, indexes and ranks with `seed`; gives the rows of the judged evaluation."""
    simulate_judged(JudgedConfig(seed=seed), options.items, options.judgements, folder / "shop", options.train_split)
    toml = folder / "shop" / "shop.toml"
    text = EXAMPLE.read_text("utf-8").replace("[train]\n", f"[train]\nseed = {seed}\n")
    toml.write_text(toml.read_text("utf-8") + text, "utf-8")
    shop, quiet = read_shop(toml), Listener()
    for kind in (DATASET, SERVING, MODEL):
        make(kind, shop, folder / "run", quiet)
    make("baselines/dssm", shop, folder / "run", quiet)
    for kind in (VECTORS, INDEX, RANKING):
        make(kind, shop, folder / "run", quiet)
    evaluation = evaluate_judged(
        folder / "run", options.judgements, shop.evaluate, relevant_from=options.relevant_from, split=options.split
    )
    fields = ("system", "metric", "k", "value", "low", "high", "queries")
    return [{"seed": seed} | {name: getattr(row, name) for name in fields} for row in evaluation.rows]


if __name__ == "__main__":
    main()
