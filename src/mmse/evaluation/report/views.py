"""The report's sections as plain values, computed from rows; the template and the charts only show them."""

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
"""The measures worth a card, the most important first; the first four that were measured are shown."""

COLOURS = 8
"""The number of colours (with dashes and markers); a ninth system has the first rival's colour again."""


@dataclass(frozen=True)
class Verdict:
    """The subject against one rival on one measure and slice: `ahead`, `behind`, `level`, or `untested`.

    `untested` means that there is no interval.
    """

    word: str
    value: float
    low: float | None
    high: float | None
    versus: str


@dataclass(frozen=True)
class Card:
    """One headline measure: the subject's row, every system's row, best first, and the verdict on the best rival."""

    measure: Measure
    name: str
    target: str
    subject_row: Row
    rows: list[Row]
    top: float
    verdict: Verdict | None


@dataclass(frozen=True)
class Line:
    """One line of the full table: every system's row (None: not measured) and the verdict on each."""

    slice: str
    measure: Measure
    name: str
    target: str
    cells: list[tuple[Row | None, Verdict | None]]
    verdict: Verdict | None


@dataclass(frozen=True)
class Results:
    """The rows and differences of one evaluation; `subject` is the system that the report is about."""

    rows: Sequence[Row]
    differences: Sequence[Difference]
    subject: str

    @property
    def systems(self) -> list[str]:
        """The subject first, then its rivals in order of appearance."""
        names = list(dict.fromkeys(row.system for row in self.rows))
        return [name for name in names if name == self.subject] + [name for name in names if name != self.subject]

    @property
    def colours(self) -> dict[str, int]:
        """The number of each system's colour; 0 is the subject's alone."""
        rivals = [name for name in self.systems if name != self.subject]
        return {self.subject: 0} | {name: 1 + i % (COLOURS - 1) for i, name in enumerate(rivals)}

    @property
    def table(self) -> Pivot:
        """The slice of every request."""
        return pivot(self.rows)

    def verdict(self, row: Row | None, rival: Row | None) -> Verdict | None:
        """The subject's row against the rival's, by their paired difference if there is one."""
        if row is None or rival is None or rival.system == self.subject:
            return None
        d = self._by_key.get((rival.system, rival.slice, measure_of(rival)))
        if d is None or d.low is None:
            return Verdict("untested", row.value - rival.value, None, None, rival.system)
        word = "level" if not d.significant else "ahead" if d.value > 0 else "behind"
        return Verdict(word, d.value, d.low, d.high, rival.system)

    @cached_property
    def _by_key(self) -> dict[tuple[str, str, Measure], Difference]:
        return {(d.versus, d.slice, measure_of(d)): d for d in self.differences if d.system == self.subject}


def cards(results: Results) -> list[Card]:
    """Up to four headline measures that the subject has."""
    table = results.table
    measures = [Measure(*headline) for headline in HEADLINES]
    measures += [m for m in table.measures if m not in measures]
    headline_cards = []
    for measure in measures:
        row = table.get(results.subject, measure)
        if row is None:
            continue
        rows = sorted((cell for s in table.systems if (cell := table.get(s, measure))), key=lambda cell: -cell.value)
        rival = next((cell for cell in rows if results.verdict(row, cell) is not None), None)
        top = max(max(cell.value, cell.high or 0.0) for cell in rows) or 1.0
        name, target = measure_name(measure), target_name(measure.target)
        headline_cards.append(Card(measure, name, target, row, rows, top, results.verdict(row, rival)))
    return headline_cards[:4]


def lines(results: Results) -> list[Line]:
    """Every row of the evaluation by slice and measure; the slice of all requests first."""
    slices = list(dict.fromkeys([ALL, *(row.slice for row in results.rows)]))
    table_lines = []
    for slice_ in slices:
        table = pivot(results.rows, slice_)
        for measure in table.measures:
            row = table.get(results.subject, measure)
            cells = [(cell := table.get(s, measure), results.verdict(row, cell)) for s in results.systems]
            rivals = [cell for cell, verdict in cells if cell is not None and verdict is not None]
            best = max(rivals, key=lambda rival: rival.value, default=None)
            name, target = measure_name(measure), target_name(measure.target)
            table_lines.append(Line(slice_, measure, name, target, cells, results.verdict(row, best)))
    return table_lines


def tally(table_lines: Sequence[Line]) -> dict[str, int]:
    """In how many comparisons with a rival, on all requests, the subject is ahead, level, behind or untested."""
    words = [verdict.word for line in table_lines if line.slice == ALL for _, verdict in line.cells if verdict]
    return {word: words.count(word) for word in ("ahead", "level", "behind", "untested")}


def curves(results: Results) -> list[dict[str, Any]]:
    """Recall over k, one chart per target that has at least two k."""
    charts = []
    for target in TARGETS:
        rows = [r for r in results.rows if (r.slice, r.target, r.metric) == (ALL, target, "recall")]
        if len({row.k for row in rows}) < 2:
            continue
        series = []
        for system in results.systems:
            points = sorted((row for row in rows if row.system == system), key=lambda row: row.k)
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
    """The subject minus each rival by slice, for up to four headline measures that have slices.

    Only the two nearest rivals are visible at first, so that a distant baseline does not squeeze the scale; a reader
    can show the rest.
    """
    slice_measures = {measure_of(d) for d in results.differences if d.slice != ALL and d.system == results.subject}
    order = [Measure(*headline) for headline in HEADLINES]
    measures = sorted(slice_measures, key=lambda m: (order.index(m) if m in order else len(order), m))[:4]
    charts = []
    for measure in measures:
        differences = [d for d in results.differences if measure_of(d) == measure and d.system == results.subject]
        slices = list(dict.fromkeys(["all", *(d.slice for d in differences)]))
        series: list[dict[str, Any]] = []
        for versus in results.systems:
            points = [d for s in slices for d in differences if (d.versus, d.slice) == (versus, s)]
            if points and versus != results.subject:
                extra = {"y": [d.slice for d in points], "significant": [d.significant for d in points]}
                series.append({**_series(results, versus, points), **extra})
        nearest = sorted(series, key=lambda rival: abs(float(np.mean(rival["value"]))))[:2]
        for rival in series:
            rival["visible"] = rival in nearest
        title = f"{measure_name(measure)}, {target_name(measure.target).lower()}"
        charts.append({"kind": "gains", "title": title, "slices": slices, "series": series})
    return charts


def training_curves(training: Sequence[Mapping[str, float | None]]) -> list[dict[str, Any]]:
    """One chart of the losses and one of the shares (recall and the like), over `step`; other values are not drawn."""
    charts: dict[str, list[dict[str, Any]]] = {"Training loss": [], "While training": []}
    for name in dict.fromkeys(name for point in training for name in point if name not in ("step", "epoch")):
        points = [(p["step"], value) for p in training if (value := p.get(name)) is not None and math.isfinite(value)]
        series = charts["Training loss" if "loss" in name else "While training"]
        if points and ("loss" in name or all(0 <= value <= 1 for _, value in points)):
            x, values = zip(*points, strict=True)
            colour = len(series) % COLOURS
            series.append({"name": name.replace("_", " "), "colour": colour, "x": x, "value": values})
    return [{"kind": "training", "title": title, "series": series} for title, series in charts.items() if series]


def _series(results: Results, system: str, points: Sequence[Row | Difference]) -> dict[str, Any]:
    return {
        "name": system,
        "colour": results.colours[system],
        "value": [p.value for p in points],
        "low": [p.low for p in points],
        "high": [p.high for p in points],
    }
