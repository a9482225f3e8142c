"""Keeps what `mmse compare` found: a grid's headline measures as a table and its differences as JSON.

    mmse compare benchmarks/grids/worlds.toml --out worlds --workers 2
    python benchmarks/compared.py worlds

Writes benchmarks/results/compare_NAME.json and .md, NAME being the folder's.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from machine import ROOT, keep, where

from mmse.evaluation.rows import ALL
from mmse.lab.compare.results import DIFFERENCES, HEADLINES, POOLED, RESULTS, Measure

Rows = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="The --out of mmse compare.")
    asked = parser.parse_args()
    name = f"compare_{asked.folder.resolve().name}"
    results, gaps = (
        [row for row in pq.read_table(asked.folder / file).to_pylist() if row["slice"] == ALL]
        for file in (RESULTS, DIFFERENCES)
    )
    grid = tomllib.loads((ROOT / "benchmarks" / "grids" / f"{asked.folder.resolve().name}.toml").read_text("utf-8"))
    keep(name, where() | {"grid": grid, "results": headlines(results), "differences": headlines(gaps)})
    names = sorted(dict.fromkeys(row["data"] for row in results), key=lambda data: data != POOLED)
    parts = [f"**{data}**\n\n{table(data, results, gaps)}" for data in names]
    (ROOT / "benchmarks" / "results" / f"{name}.md").write_text("\n\n".join(parts) + "\n", "utf-8")


def headlines(rows: Rows) -> Rows:
    """The rows of measures that tables show."""
    return [row for row in rows if measure(row) in HEADLINES[row["kind"]]]


def table(data: str, results: Rows, gaps: Rows) -> str:
    """One line a system: value, and ours minus it with its interval and mark."""
    rows = [row for row in results if row["data"] == data]
    shown = [m for m in HEADLINES[rows[0]["kind"]] if any(measure(row) == m for row in rows)]
    values = {(row["system"], measure(row)): row for row in rows}
    apart = {(row["versus"], measure(row)): row for row in gaps if row["data"] == data}
    lines = ["| system | " + " | ".join(f"{t.replace('_', ' ')} {m}@{k}" for t, m, k in shown) + " |"]
    lines.append("|---|" + "---|" * len(shown))
    for system in dict.fromkeys(row["system"] for row in sorted(rows, key=lambda row: row["seeds"] == 0)):
        cells = [cell(values.get((system, m)), apart.get((system, m))) for m in shown]
        lines.append(f"| {system} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(value: dict[str, Any] | None, gap: dict[str, Any] | None) -> str:
    if value is None:
        return "–"
    said = f"{value['value']:.3f}"
    if gap is None:
        return said if value["low"] is None else f"{said} [{value['low']:.3f}, {value['high']:.3f}]"
    mark = "" if not gap["significant"] else "\\*\\*" if gap["holm"] else "\\*"
    half = "" if gap["low"] is None else f" [{gap['low']:+.3f}, {gap['high']:+.3f}]"
    return f"{said} ({gap['value']:+.3f}{half}{mark})"


def measure(row: dict[str, Any]) -> Measure:
    return row["target"], row["metric"], row["k"]


if __name__ == "__main__":
    main()
