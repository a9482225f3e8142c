"""What a training step costs in the memory of items, by the size of the catalogue: a dense Adam and `RowAdam`.

    python benchmarks/table_steps.py [--items 20000 1000000 5000000] [--touched 3000] [--steps 12] [--seed 0]

A table of 64 numbers for each item; each step looks up `--touched` random rows, as many as a batch of 256 requests has
items, and updates them, on one thread. Milliseconds of CPU of the quickest step. Writes
benchmarks/results/table_steps.json.
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F
from machine import environment, write_result
from torch import nn

from mmse.training.optimizer import RowAdam

DIM = 64


def measure(n_items: int, n_touched: int, n_steps: int, *, is_sparse: bool) -> float:
    """Milliseconds of CPU of the quickest of `n_steps` steps."""
    table = nn.Parameter(torch.zeros(n_items, DIM))
    optimizer: torch.optim.Optimizer = RowAdam([table]) if is_sparse else torch.optim.Adam([table], fused=True)
    optimizer.param_groups[0]["lr"] = 0.004
    seconds = []
    for _ in range(n_steps):
        ids = torch.randint(0, n_items, (n_touched,))
        begin = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        (F.embedding(ids, table, sparse=is_sparse) - 1).square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seconds.append(time.process_time() - begin)
    return round(min(seconds) * 1000, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[20_000, 1_000_000, 5_000_000])
    parser.add_argument("--touched", type=int, default=3_000)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    rows = [
        {
            "items": n_items,
            "dense_ms": measure(n_items, options.touched, options.steps, is_sparse=False),
            "rows_ms": measure(n_items, options.touched, options.steps, is_sparse=True),
        }
        for n_items in options.items
    ]
    write_result(
        "table_steps", environment() | {"seed": options.seed, "threads": 1, "touched": options.touched, "rows": rows}
    )


if __name__ == "__main__":
    main()
