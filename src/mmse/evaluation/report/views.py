"""The report's sections as plain values, worked out from rows: what the template and the charts then only show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mmse.evaluation.report.words import METRIC_NAMES, measure_name, target_name
from mmse.evaluation.rows import ALL, TARGETS, Difference, Measure, Pivot, Row, measure_of, pivot

HEADLINES = (
    ("truth", "order_rate", 10),
    ("off_search", "recall", 100),
    ("judged", "recall", 100),
    ("ordered", "recall", 100),
    ("judged", "ndcg", 10),
    ("clicked", "recall", 100),
    ("truth", "share_of_top", 100),
    ("ordered", "ndcg", 10),
)
"""The measures worth a card, most telling first; the first four that were measured are shown."""

SLOTS = 8
"""Colours (with dashes and markers) there are; a ninth system wears the first colour of the others again."""


@dataclass(frozen=True)
class Verdict:
    """How ours compares on one measure and slice: `ahead`, `behind`, `level`, or `untested` without an interval."""

    word: str
    value: float
    low: float | None
    high: float | None
    versus: str


@dataclass(frozen=True)
class Card:
    """One headline measure: every system's row, the best first, and how ours does against the best of the others."""

    measure: Measure
    name: str
    target: str
    ours: Row
    rows: list[Row]
    top: float
    verdict: Verdict | None


@dataclass(frozen=True)
class Line:
    """One line of the full table: every system's row (None: not measured) and how ours does against each."""

    slice: str
    measure: Measure
    name: str
    target: str
    cells: list[tuple[Row | None, Verdict | None]]
    verdict: Verdict | None


@dataclass(frozen=True)
class Results:
    """The rows and differences of one evaluation, seen from the system called `ours`."""

    rows: Sequence[Row]
    differences: Sequence[Difference]
    ours: str

    @property
    def systems(self) -> list[str]:
        """Ours first, then the others as they came."""
        names = list(dict.fromkeys(row.system for row in self.rows))
        return [name for name in names if name == self.ours] + [name for name in names if name != self.ours]

    @property
    def slots(self) -> dict[str, int]:
        """The colour slot of each system; 0 is ours alone."""
        others = [name for name in self.systems if name != self.ours]
        return {self.ours: 0} | {name: 1 + place % (SLOTS - 1) for place, name in enumerate(others)}

    @property
    def table(self) -> Pivot:
        """The slice of every request."""
        return pivot(self.rows)

    def verdict(self, ours: Row | None, other: Row | None) -> Verdict | None:
        """How ours compares with the other row, by the paired difference where one was taken."""
        if ours is None or other is None or other.system == self.ours:
            return None
        d = self._by_key.get((other.system, other.slice, measure_of(other)))
        if d is None or d.low is None:
            return Verdict("untested", ours.value - other.value, None, None, other.system)
        word = "level" if not d.significant else "ahead" if d.value > 0 else "behind"
        return Verdict(word, d.value, d.low, d.high, other.system)

    @cached_property
    def _by_key(self) -> dict[tuple[str, str, Measure], Difference]:
        return {(d.versus, d.slice, measure_of(d)): d for d in self.differences if d.system == self.ours}


def cards(results: Results) -> list[Card]:
    """Up to four headline measures that ours has."""
    table = results.table
    wanted = [Measure(*headline) for headline in HEADLINES]
    wanted += [m for m in table.measures if m not in wanted]
    made = []
    for measure in wanted:
        ours = table.get(results.ours, measure)
        if ours is None:
            continue
        rows = sorted((row for s in table.systems if (row := table.get(s, measure))), key=lambda row: -row.value)
        best = next((row for row in rows if results.verdict(ours, row) is not None), None)
        top = max(max(row.value, row.high or 0.0) for row in rows)
        name = measure_name(measure)
        made.append(
            Card(measure, name, target_name(measure.target), ours, rows, top or 1.0, results.verdict(ours, best))
        )
    return made[:4]


def lines(results: Results) -> list[Line]:
    """Every row of the evaluation, gathered by slice and measure; the slice of all requests first."""
    slices = list(dict.fromkeys([ALL, *(row.slice for row in results.rows)]))
    made = []
    for slice_ in slices:
        table = pivot(results.rows, slice_)
        for measure in table.measures:
            ours = table.get(results.ours, measure)
            cells = [(row := table.get(s, measure), results.verdict(ours, row)) for s in results.systems]
            rivals = [row for row, verdict in cells if row is not None and verdict is not None]
            best = max(rivals, key=lambda row: row.value, default=None)
            name, target = measure_name(measure), target_name(measure.target)
            made.append(Line(slice_, measure, name, target, cells, results.verdict(ours, best)))
    return made


def tally(made: Sequence[Line]) -> dict[str, int]:
    """How many comparisons with each other system, on all requests, ours leads, shares and loses."""
    words = [verdict.word for line in made if line.slice == ALL for _, verdict in line.cells if verdict]
    return {word: words.count(word) for word in ("ahead", "level", "behind", "untested")}


def curves(results: Results) -> list[dict[str, Any]]:
    """Recall over k, one chart a target that has at least two k."""
    charts = []
    for target in TARGETS:
        kept = [r for r in results.rows if (r.slice, r.target, r.metric) == (ALL, target, "recall")]
        if len({row.k for row in kept}) < 2:
            continue
        series = []
        for system in results.systems:
            points = sorted((row for row in kept if row.system == system), key=lambda row: row.k)
            if points:
                series.append({**_series(results, system, points), "x": [row.k for row in points]})
        charts.append({"kind": "curve", "title": target_name(target), "series": series})
    return charts


def truth_bars(results: Results) -> list[dict[str, Any]]:
    """One chart for each metric of the simulated truth, a group of bars for each k."""
    table = results.table
    charts = []
    for metric in dict.fromkeys(m.metric for m in table.measures if m.target == "truth"):
        measures = sorted(m for m in table.measures if (m.target, m.metric) == ("truth", metric))
        series = []
        for system in results.systems:
            rows = [row for m in measures if (row := table.get(system, m))]
            if rows:
                series.append({**_series(results, system, rows), "x": [f"first {row.k}" for row in rows]})
        charts.append({"kind": "bars", "title": METRIC_NAMES.get(metric, metric), "series": series})
    return charts


def slice_gains(results: Results) -> list[dict[str, Any]]:
    """Ours minus each other system by slice, for up to four headline measures that were sliced.

    The two nearest rivals are shown at first, so that a distant baseline does not squeeze the scale; a reader can
    show the others.
    """
    sliced = {measure_of(d) for d in results.differences if d.slice != ALL and d.system == results.ours}
    order = [Measure(*headline) for headline in HEADLINES]
    wanted = sorted(sliced, key=lambda m: (order.index(m) if m in order else len(order), m))[:4]
    charts = []
    for measure in wanted:
        kept = [d for d in results.differences if measure_of(d) == measure and d.system == results.ours]
        slices = list(dict.fromkeys(["all", *(d.slice for d in kept)]))
        series = []
        for versus in results.systems:
            points = [d for s in slices for d in kept if (d.versus, d.slice) == (versus, s)]
            if points and versus != results.ours:
                extra = {"y": [d.slice for d in points], "significant": [d.significant for d in points]}
                series.append({**_series(results, versus, points), **extra})
        nearest = sorted(series, key=lambda one: abs(float(np.mean(one["value"]))))[:2]
        for one in series:
            one["shown"] = one in nearest
        title = f"{measure_name(measure)}, {target_name(measure.target).lower()}"
        charts.append({"kind": "gains", "title": title, "slices": slices, "series": series})
    return charts


def training_curves(training: Sequence[Mapping[str, float | None]]) -> list[dict[str, Any]]:
    """One chart of the losses and one of the shares (recall and its like), over `step`; others are not drawn."""
    drawn: dict[str, list[dict[str, Any]]] = {"Training loss": [], "While training": []}
    for name in dict.fromkeys(name for point in training for name in point if name not in ("step", "epoch")):
        points = [(p["step"], value) for p in training if (value := p.get(name)) is not None and math.isfinite(value)]
        group = drawn["Training loss" if "loss" in name else "While training"]
        if points and ("loss" in name or all(0 <= value <= 1 for _, value in points)):
            x, values = zip(*points, strict=True)
            group.append({"name": name.replace("_", " "), "slot": len(group) % SLOTS, "x": x, "value": values})
    return [{"kind": "training", "title": title, "series": series} for title, series in drawn.items() if series]


def _series(results: Results, system: str, points: Sequence[Row | Difference]) -> dict[str, Any]:
    return {
        "name": system,
        "slot": results.slots[system],
        "value": [p.value for p in points],
        "low": [p.low for p in points],
        "high": [p.high for p in points],
    }
