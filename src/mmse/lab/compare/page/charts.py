"""The charts of the grid's page, as Plotly draws them; a colour is a name (`--s0`) that the page looks up by theme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmse.evaluation.report.words import TARGET_NAMES
from mmse.evaluation.rows import ALL
from mmse.lab.compare.data import Kind
from mmse.lab.compare.results import HEADLINES, POOLED, Compared, Result
from mmse.lab.compare.words import long_name

COLOURS = 8
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon", "star")
SIDES = ("middle left", "middle right")
"""Where the names of neighbours stand, in turn."""
SHOWN = 4
"""So many rivals, the best ones, are shown until a reader asks for others."""

Chart = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """How a system is drawn; the first colour is for ours alone."""

    colour: int
    dash: int
    symbol: int


def looks(compared: Compared) -> dict[str, Look]:
    """The look of every system; with more systems than colours a colour comes again with another dash and symbol."""
    names = list(dict.fromkeys(system for name, _ in compared.data for system in compared.systems(name)))
    ours = compared.grid.ours
    others = [name for name in names if name != ours]
    rounds = COLOURS - 1
    found = {
        name: Look(
            1 + place % rounds, (place // rounds) % len(DASHES), (1 + place + 3 * (place // rounds)) % len(SYMBOLS)
        )
        for place, name in enumerate(others)
    }
    return ({ours: Look(0, 0, 0)} if ours in names else {}) | found


def shown_at_first(compared: Compared) -> list[str]:
    """Ours and its best rivals by the first headline of the first table."""
    if not compared.data:
        return []
    name, kind = compared.data[0]
    rows = [(s, r.value) for s in compared.systems(name) if (r := compared.result(name, s, HEADLINES[kind][0]))]
    ours = compared.grid.ours
    best = sorted((row for row in rows if row[0] != ours), key=lambda row: -row[1])
    return [ours, *(system for system, _ in best[:SHOWN])]


def curves(compared: Compared, looks: dict[str, Look]) -> list[Chart]:
    """Recall over k, a chart a target of the first table of each kind."""
    charts = []
    for name, kind in _firsts(compared):
        kept = [r for r in compared.results if (r.data, r.slice, r.metric) == (name, ALL, "recall")]
        for target in dict.fromkeys(r.target for r in kept):
            traces = []
            for system in compared.systems(name):
                rows = sorted((r for r in kept if (r.system, r.target) == (system, target)), key=lambda r: r.k)
                traces += _line(system, [r.k for r in rows], rows, looks[system])
            ks = sorted({r.k for r in kept if r.target == target})
            x = {"type": "log", "tickvals": ks, "ticktext": [str(k) for k in ks], "title": "first k"}
            charts.append(_chart(f"{TARGET_NAMES[target]}, {_about(name, kind)}", traces, x, {"rangemode": "tozero"}))
    return charts


def slice_gains(compared: Compared, looks: dict[str, Look]) -> list[Chart]:
    """Ours minus each other system by slice, of the first table of each kind, for recall of orders and clicks."""
    charts = []
    for name, kind in _firsts(compared):
        for measure in (("ordered", "recall", 100), ("clicked", "recall", 100)):
            kept = [g for g in compared.gaps if g.data == name and (g.target, g.metric, g.k) == measure]
            slices = list(dict.fromkeys(g.slice for g in kept))
            if len(slices) < 2:
                continue
            traces = []
            for versus in dict.fromkeys(g.versus for g in kept):
                gaps = [g for g in kept if g.versus == versus]
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
            title = f"{long_name(measure)[0]} of {long_name(measure)[1].lower()}, {_about(name, kind)}"
            x = {"tickformat": "+.2~f", "nticks": 5, "zeroline": True, "title": f"{compared.grid.ours} minus the other"}
            charts.append(_chart(title, traces, x, y, height=90 + 40 * len(slices)))
    return charts


def time_against_quality(compared: Compared, looks: dict[str, Look]) -> list[Chart]:
    """Training seconds against the first headlines, for the first table of each kind."""
    charts = []
    for name, kind in _firsts(compared):
        for measure in HEADLINES[kind][:2]:
            found = [(s, compared.seconds(name, s), compared.result(name, s, measure)) for s in compared.systems(name)]
            points = sorted(
                ((spent.seconds, system, row) for system, spent, row in found if spent and row),
                key=lambda point: point[:2],
            )
            if points:
                left, right = points[0][0], points[-1][0]
                room = 0.3 * (right - left) + 0.05 * right  # for names
                title = f"{long_name(measure)[0]}, {long_name(measure)[1].lower()}, {_about(name, kind)}"
                x = {"title": "seconds of training, mean over seeds", "range": [left - room, right + room]}
                traces = [_point(seconds, row, n, looks[system]) for n, (seconds, system, row) in enumerate(points)]
                charts.append(_chart(title, traces, x, {"tickformat": ".2f"}, height=360))
    return charts


def learning_curves(compared: Compared, looks: dict[str, Look]) -> list[Chart]:
    """The headline measures over the number of requests, for every world that has several sizes."""
    charts = []
    for family in dict.fromkeys(d.family for d in compared.grid.data if d.size is not None):
        sizes = sorted((d.size, d.name) for d in compared.grid.data if d.family == family and d.size is not None)
        for measure in HEADLINES["simulated"]:
            traces = []
            for system in looks:
                found = [(size, r) for size, name in sizes if (r := compared.result(name, system, measure))]
                traces += _line(system, [size for size, _ in found], [row for _, row in found], looks[system])
            if traces:
                x = {
                    "type": "log",
                    "tickvals": [size for size, _ in sizes],
                    "title": "requests simulated",
                    "ticktext": [f"{size:,}" for size, _ in sizes],
                }
                title = f"{long_name(measure)[0]}, {long_name(measure)[1].lower()}, {family} (simulated)"
                charts.append(_chart(title, traces, x, {"rangemode": "tozero"}))
    return charts


def _firsts(compared: Compared) -> list[tuple[str, Kind]]:
    """What is drawn: the mean over simulated shops if there is one, else every table but those of learning curves."""
    sized = {d.name for d in compared.grid.data if d.size is not None}
    names = [name for name, _ in compared.data]
    pooled = {d.name for d in compared.grid.data if d.pooled} if POOLED in names else set()
    return [(name, kind) for name, kind in compared.data if name not in sized and name not in pooled]


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


def _point(seconds: float, row: Result, place: int, look: Look) -> Chart:
    """A named point; names of neighbours stand on different sides."""
    colour = f"--s{look.colour}"
    return {
        "system": row.system,
        "type": "scatter",
        "mode": "markers+text",
        "name": row.system,
        "x": [seconds],
        "y": [row.value],
        "text": [row.system],
        "textposition": SIDES[place % len(SIDES)],
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
    above = [max(0.0, high - value) for value, high in zip(values, highs, strict=True)]
    below = [max(0.0, value - low) for value, low in zip(values, lows, strict=True)]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below}


def _chart(title: str, traces: list[Chart], x: dict[str, Any], y: dict[str, Any], height: int = 330) -> Chart:
    return {"title": title, "traces": traces, "x": x, "y": y, "height": height}


def _about(name: str, kind: Kind) -> str:
    return f"{name} (simulated)" if kind == "simulated" and name != POOLED else name
