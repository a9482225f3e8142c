"""The rows of an evaluation: one number with its interval, for one system, target, slice and metric.

The terminal, the report and `report.json` all show these rows, so their numbers cannot differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mmse.core.artifact import explain_os_errors
from mmse.core.config import require
from mmse.core.errors import ArtifactError

TARGETS = ("ordered", "clicked", "off_search", "truth", "judged")
"""What a ranking should find: logged orders, logged clicks (and orders), orders drawn from the simulated truth outside
the search, the best items by the simulated truth, what people judged relevant."""

ALL = "all"
"""The slice of every request."""


@dataclass(frozen=True)
class Row:
    """A mean over requests; `low` and `high` are None without an interval, `queries` counts distinct queries."""

    system: str
    target: str
    slice: str
    metric: str
    k: int
    value: float
    low: float | None
    high: float | None
    queries: int

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class Difference:
    """`system` minus `versus`, paired; `significant` if the interval excludes 0."""

    system: str
    versus: str
    target: str
    slice: str
    metric: str
    k: int
    value: float
    low: float | None
    high: float | None
    significant: bool

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, order=True)
class Measure:
    """What is measured: the column of a table whose rows are systems."""

    target: str
    metric: str
    k: int

    def __str__(self) -> str:
        return f"{self.target} {self.metric}@{self.k}"


@dataclass(frozen=True)
class Pivot:
    """A table of systems by measures for one slice, both in order of first appearance; cells may be missing."""

    systems: list[str]
    measures: list[Measure]
    cells: Mapping[tuple[str, Measure], Row]

    def get(self, system: str, measure: Measure) -> Row | None:
        """The row of that cell, None if it was not measured."""
        return self.cells.get((system, measure))

    def best(self, measure: Measure) -> float | None:
        """The highest value of a measure, None if no system has it."""
        values = [row.value for (_, m), row in self.cells.items() if m == measure]
        return max(values, default=None)


def pivot(rows: Iterable[Row], slice_: str = ALL) -> Pivot:
    """The rows of one slice as a table: systems down, (target, metric, k) across, targets in `TARGETS` order."""
    slice_rows = [row for row in rows if row.slice == slice_]
    systems = list(dict.fromkeys(row.system for row in slice_rows))
    cells = {(row.system, measure_of(row)): row for row in slice_rows}
    assert len(cells) == len(slice_rows), "two rows measure the same"
    measures = sorted(dict.fromkeys(m for _, m in cells), key=lambda m: TARGETS.index(m.target))
    return Pivot(systems, measures, cells)


def measure_of(row: Row | Difference) -> Measure:
    """The (target, metric, k) of a row."""
    return Measure(row.target, row.metric, row.k)


def find_difference(
    differences: Iterable[Difference], system: str, versus: str, measure: Measure, slice_: str = ALL
) -> Difference | None:
    """The difference of two systems on a measure, None if there is none."""
    for d in differences:
        if (d.system, d.versus, d.slice) == (system, versus, slice_) and measure_of(d) == measure:
            return d
    return None


def write_rows(path: Path, rows: Sequence[Row], differences: Sequence[Difference], **extra: object) -> None:
    """Writes `{"rows": […], "differences": […], …}` as JSON; `extra` are the further keys."""
    assert not {"rows", "differences"} & extra.keys()
    content = msgspec.json.encode({"rows": rows, "differences": differences, **extra})
    with explain_os_errors(path):
        path.write_bytes(msgspec.json.format(content, indent=2) + b"\n")


def read_rows(path: Path) -> tuple[list[Row], list[Difference]]:
    """The rows and differences of a file that `write_rows` wrote; raises `ArtifactError` for any other file."""
    try:
        content: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        return (
            msgspec.convert(content["rows"], type=list[Row]),
            msgspec.convert(content["differences"], type=list[Difference]),
        )
    except FileNotFoundError as error:
        raise ArtifactError(f"There is no file {path}.", "Make it: mmse evaluate --help.") from error
    except (msgspec.MsgspecError, KeyError) as error:
        raise ArtifactError(f"{path} does not hold evaluation rows: {error}.", "Evaluate again.") from error


def _check(row: Row | Difference) -> None:
    require(row.target in TARGETS, "target", row.target, f"one of {', '.join(TARGETS)}")
    require(row.k >= 1, "k", row.k, "at least 1")
    require(math.isfinite(row.value), "value", row.value, "a finite number (leave out what was not measured)")
    require((row.low is None) == (row.high is None), "low", row.low, "an interval with both ends, or none")
    ends = (row.low or 0.0, row.high or 0.0)
    require(all(math.isfinite(end) for end in ends), "low", ends, "finite ends")
