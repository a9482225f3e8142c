"""The charts of the grid's page for Plotly; a colour is a name (`--s0`) that the page looks up in its theme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmse.evaluation.report.words import TARGET_NAMES
from mmse.evaluation.rows import ALL, Measure
from mmse.lab.compare.data import DataKind
from mmse.lab.compare.results import HEADLINES, MEAN_OVER_SHOPS, Comparison, Result
from mmse.lab.compare.words import chart_title

COLOURS = 8
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon", "star")
SIDES = ("middle left", "middle right")
"""The sides of the names of neighbouring points, in turn."""
VISIBLE_RIVALS = 4
"""The page first shows the subject and this many of the best rivals."""

Chart = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """The style of a system in charts; the first colour is for the subject alone."""

    colour: int
    dash: int
    symbol: int


def assign_looks(comparison: Comparison) -> dict[str, Look]:
    """The look of every system; with more systems than colours, colours repeat with other dashes and symbols."""
    names = list(dict.fromkeys(system for name, _ in comparison.data for system in comparison.systems(name)))
    subject = comparison.grid.subject
    rivals = [name for name in names if name != subject]
    n_colours = COLOURS - 1
    looks = {
        name: Look(1 + i % n_colours, (i // n_colours) % len(DASHES), (1 + i + 3 * (i // n_colours)) % len(SYMBOLS))
        for i, name in enumerate(rivals)
    }
    return ({subject: Look(0, 0, 0)} if subject in names else {}) | looks


def first_systems(comparison: Comparison) -> list[str]:
    """The subject and its best rivals by the first headline of the first table."""
    if not comparison.data:
        return []
    name, kind = comparison.data[0]
    rows = [(s, r.value) for s in comparison.systems(name) if (r := comparison.result(name, s, HEADLINES[kind][0]))]
    subject = comparison.grid.subject
    best = sorted((row for row in rows if row[0] != subject), key=lambda row: -row[1])
    return [subject, *(system for system, _ in best[:VISIBLE_RIVALS])]


def curves(comparison: Comparison, looks: dict[str, Look]) -> list[Chart]:
    """Recall over k: a chart per main table and target."""
    charts = []
    for name, kind in _main_tables(comparison):
        recalls = [r for r in comparison.results if (r.data, r.slice, r.metric) == (name, ALL, "recall")]
        for target in dict.fromkeys(r.target for r in recalls):
            traces = []
            for system in comparison.systems(name):
                rows = sorted((r for r in recalls if (r.system, r.target) == (system, target)), key=lambda r: r.k)
                traces += _line(system, [r.k for r in rows], rows, looks[system])
            ks = sorted({r.k for r in recalls if r.target == target})
            x = {"type": "log", "tickvals": ks, "ticktext": [str(k) for k in ks], "title": "first k"}
            charts.append(_chart(f"{TARGET_NAMES[target]}, {_label(name, kind)}", traces, x, {"rangemode": "tozero"}))
    return charts


def slice_gains(comparison: Comparison, looks: dict[str, Look]) -> list[Chart]:
    """The subject minus each other system by slice: a chart per main table for recall of orders and of clicks."""
    charts = []
    for name, kind in _main_tables(comparison):
        for measure in (Measure("ordered", "recall", 100), Measure("clicked", "recall", 100)):
            data_gaps = [g for g in comparison.gaps if g.data == name and Measure(g.target, g.metric, g.k) == measure]
            slices = list(dict.fromkeys(g.slice for g in data_gaps))
            if len(slices) < 2:
                continue
            traces = []
            for versus in dict.fromkeys(g.versus for g in data_gaps):
                gaps = [g for g in data_gaps if g.versus == versus]
                colour = f"--s{looks[versus].colour}"
                traces.append(
                    {
                        "system": versus,
                        "type": "scatter",
                        "mode": "markers",
                        "name": versus,
                        "row": True,
                        "x": [g.value for g in gaps],
                        "y": [slices.index(g.slice) for g in gaps],
                        "error_x": _errors(gaps, colour),
                        "customdata": [f"{g.slice}{g.mark and ' ' + g.mark}" for g in gaps],
                        "hovertemplate": "%{customdata}<br>%{x:+.3f}",
                        "marker": {
                            "size": 9,
                            "symbol": SYMBOLS[looks[versus].symbol],
                            "line": {"width": 2, "color": colour},
                            "color": [colour if g.significant else "--panel" for g in gaps],
                        },
                    }
                )
            y = {
                "tickvals": list(range(len(slices))),
                "ticktext": slices,
                "range": [len(slices) - 0.5, -0.5],
                "zeroline": False,
            }
            title = chart_title(measure, " of ", _label(name, kind))
            x = {
                "tickformat": "+.2~f",
                "nticks": 5,
                "zeroline": True,
                "title": f"{comparison.grid.subject} minus the other",
            }
            charts.append(_chart(title, traces, x, y, height=90 + 40 * len(slices)))
    return charts


def time_against_quality(comparison: Comparison, looks: dict[str, Look]) -> list[Chart]:
    """Training seconds against the two first headlines: a chart per main table."""
    charts = []
    for name, kind in _main_tables(comparison):
        for measure in HEADLINES[kind][:2]:
            points = []
            for system in comparison.systems(name):
                training, row = comparison.seconds(name, system), comparison.result(name, system, measure)
                if training and row:
                    points.append((training.seconds, system, row))
            if points:
                points.sort(key=lambda point: point[:2])
                shortest, longest = points[0][0], points[-1][0]
                margin = 0.3 * (longest - shortest) + 0.05 * longest  # for names
                title = chart_title(measure, ", ", _label(name, kind))
                x = {"title": "seconds of training, mean over seeds", "range": [shortest - margin, longest + margin]}
                traces = [_point(seconds, row, n, looks[system]) for n, (seconds, system, row) in enumerate(points)]
                charts.append(_chart(title, traces, x, {"tickformat": ".2f"}, height=360))
    return charts


def learning_curves(comparison: Comparison, looks: dict[str, Look]) -> list[Chart]:
    """The headline measures over the number of requests, for every simulated shop with several sizes."""
    charts = []
    for family in dict.fromkeys(d.family for d in comparison.grid.data if d.size is not None):
        sizes = sorted((d.size, d.name) for d in comparison.grid.data if d.family == family and d.size is not None)
        for measure in HEADLINES["simulated"]:
            traces = []
            for system in looks:
                points = [(size, r) for size, name in sizes if (r := comparison.result(name, system, measure))]
                traces += _line(system, [size for size, _ in points], [row for _, row in points], looks[system])
            if traces:
                x = {
                    "type": "log",
                    "tickvals": [size for size, _ in sizes],
                    "title": "requests simulated",
                    "ticktext": [f"{size:,}" for size, _ in sizes],
                }
                title = chart_title(measure, ", ", f"{family} (simulated)")
                charts.append(_chart(title, traces, x, {"rangemode": "tozero"}))
    return charts


def _main_tables(comparison: Comparison) -> list[tuple[str, DataKind]]:
    """The tables with charts: all but the sizes of learning curves and the shops in the mean over shops."""
    has_mean = any(name == MEAN_OVER_SHOPS for name, _ in comparison.data)
    left_out_names = {d.name for d in comparison.grid.data if d.size is not None or (d.in_mean and has_mean)}
    return [(name, kind) for name, kind in comparison.data if name not in left_out_names]


def _line(system: str, x: Sequence[int], rows: Sequence[Result], look: Look) -> list[Chart]:
    """A line with its band."""
    if not rows:
        return []
    colour, band = f"--s{look.colour}", []
    if all(row.low is not None for row in rows):
        band.append(
            {
                "system": system,
                "x": [*x, *reversed(x)],
                "fill": "toself",
                "fillcolor": f"{colour}/0.14",
                "y": [*(row.high for row in rows), *(row.low for row in reversed(rows))],
                "mode": "lines",
                "line": {"width": 0},
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    line = {
        "system": system,
        "name": system,
        "x": list(x),
        "y": [row.value for row in rows],
        "mode": "lines+markers",
        "line": {"color": colour, "dash": DASHES[look.dash], "width": 3 if look.colour == 0 else 2},
        "marker": {"color": colour, "symbol": SYMBOLS[look.symbol], "size": 8},
        "hovertemplate": "%{y:.3f}",
    }
    return [*band, line]


def _point(seconds: float, row: Result, number: int, look: Look) -> Chart:
    """A named point; the names of neighbours are on different sides."""
    colour = f"--s{look.colour}"
    return {
        "system": row.system,
        "type": "scatter",
        "mode": "markers+text",
        "name": row.system,
        "x": [seconds],
        "y": [row.value],
        "text": [row.system],
        "textposition": SIDES[number % len(SIDES)],
        "textfont": {"color": "--ink", "size": 11.5},
        "cliponaxis": False,
        "error_y": {**_errors([row], colour), "thickness": 1, "width": 0},
        "marker": {"size": 10, "color": colour, "symbol": SYMBOLS[look.symbol]},
        "hovertemplate": "%{text}: %{y:.3f} in %{x:,.0f} s<extra></extra>",
    }


def _errors(rows: Sequence[Any], colour: str) -> dict[str, Any]:
    lows = [row.value if row.low is None else row.low for row in rows]
    highs = [row.value if row.high is None else row.high for row in rows]
    return {**_ends([row.value for row in rows], lows, highs), "color": colour, "thickness": 1.6, "width": 3}


def _ends(values: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> dict[str, Any]:
    upper = [max(0.0, high - value) for value, high in zip(values, highs, strict=True)]
    lower = [max(0.0, value - low) for value, low in zip(values, lows, strict=True)]
    return {"type": "data", "symmetric": False, "array": upper, "arrayminus": lower}


def _chart(title: str, traces: list[Chart], x: dict[str, Any], y: dict[str, Any], height: int = 330) -> Chart:
    return {"title": title, "traces": traces, "x": x, "y": y, "height": height}


def _label(name: str, kind: DataKind) -> str:
    return f"{name} (simulated)" if kind == "simulated" and name != MEAN_OVER_SHOPS else name
