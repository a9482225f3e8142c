"""Keeps the results of `mmse compare`: a grid's headline measures as a table and its differences as JSON.

    mmse compare benchmarks/grids/worlds.toml --out worlds --workers 2
    python benchmarks/comparison.py worlds

Writes benchmarks/results/compare_NAME.json and .md; NAME is the name of the folder.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from machine import ROOT, environment, write_result

from mmse.evaluation.rows import ALL, Measure
from mmse.lab.compare.results import DIFFERENCES, HEADLINES, MEAN_OVER_SHOPS, RESULTS

Rows = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="The --out of mmse compare.")
    options = parser.parse_args()
    name = f"compare_{options.folder.resolve().name}"
    results, gaps = (
        [row for row in pq.read_table(options.folder / file).to_pylist() if row["slice"] == ALL]
        for file in (RESULTS, DIFFERENCES)
    )
    grid = tomllib.loads((ROOT / "benchmarks" / "grids" / f"{options.folder.resolve().name}.toml").read_text("utf-8"))
    write_result(name, environment() | {"grid": grid, "results": headlines(results), "differences": headlines(gaps)})
    names = sorted(dict.fromkeys(row["data"] for row in results), key=lambda data: data != MEAN_OVER_SHOPS)
    parts = [f"**{data}**\n\n{table(data, results, gaps)}" for data in names]
    (ROOT / "benchmarks" / "results" / f"{name}.md").write_text("\n\n".join(parts) + "\n", "utf-8")


def headlines(rows: Rows) -> Rows:
    """The rows of the headline measures."""
    return [row for row in rows if measure(row) in HEADLINES[row["kind"]]]


def table(data: str, results: Rows, gaps: Rows) -> str:
    """One line per system: its value, and the subject minus it with interval and mark."""
    rows = [row for row in results if row["data"] == data]
    measures = [m for m in HEADLINES[rows[0]["kind"]] if any(measure(row) == m for row in rows)]
    values = {(row["system"], measure(row)): row for row in rows}
    gap_of = {(row["versus"], measure(row)): row for row in gaps if row["data"] == data}
    lines = ["| system | " + " | ".join(f"{m.target.replace('_', ' ')} {m.metric}@{m.k}" for m in measures) + " |"]
    lines.append("|---|" + "---|" * len(measures))
    for system in dict.fromkeys(row["system"] for row in sorted(rows, key=lambda row: row["seeds"] == 0)):
        cells = [cell(values.get((system, m)), gap_of.get((system, m))) for m in measures]
        lines.append(f"| {system} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(value: dict[str, Any] | None, gap: dict[str, Any] | None) -> str:
    if value is None:
        return "–"
    text = f"{value['value']:.3f}"
    if gap is None:
        return text if value["low"] is None else f"{text} [{value['low']:.3f}, {value['high']:.3f}]"
    mark = "" if not gap["significant"] else "\\*\\*" if gap["holm"] else "\\*"
    interval = "" if gap["low"] is None else f" [{gap['low']:+.3f}, {gap['high']:+.3f}]"
    return f"{text} ({gap['value']:+.3f}{interval}{mark})"


def measure(row: dict[str, Any]) -> Measure:
    return Measure(row["target"], row["metric"], row["k"])


if __name__ == "__main__":
    main()
