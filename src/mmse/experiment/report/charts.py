"""The charts of a test's report, as SVG: effects with their intervals, and the effect of each day."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from mmse.experiment.analysis import Analysis, DailyEffect
from mmse.experiment.effects import Interval
from mmse.experiment.metrics import label

_WIDTH, _ROW, _LABEL_WIDTH, _RIGHT, _AXIS = 720.0, 30.0, 190.0, 32.0, 64.0
_HEIGHT, _FOOT = 240.0, 26.0

_Scale = Callable[[float], float]
"""From a value to a coordinate."""


def signed(value: float) -> str:
    """`+3.1%` or `−0.4%`, with a true minus sign."""
    return f"{value:+.1%}".replace("-", "−")


def ticks(reach: float) -> list[float]:
    """Round numbers from `-reach` to `reach`, 0 among them, at most three on either side."""
    power = 10.0 ** math.floor(math.log10(reach))
    step = next(power * part for part in (0.2, 0.5, 1, 2, 5) if reach / (power * part) < 4)
    n = math.floor(reach / step + 1e-9)
    return [round(i * step, 12) for i in range(-n, n + 1)]


def _tick_label(tick: float) -> str:
    """A tick in per cent, with as many decimals as it needs."""
    return f"{100 * tick:+.6g}%".replace("-", "−") if tick else "0%"


def forest_chart(analysis: Analysis, arm: str) -> Markup:
    """The effects of an arm, a line each: thick the interval at the end, thin the one that always holds."""
    effects = [(e, holds) for e, holds in zip(analysis.effects, analysis.significant, strict=True) if e.arm == arm]
    if not effects:
        return Markup("")
    reach = _reach([effect.always for effect, _ in effects])
    x = _scale(-reach, reach, _LABEL_WIDTH, _WIDTH - _RIGHT)
    height = _ROW * len(effects) + _FOOT
    parts = [*_grid(x, reach, height)]
    for row, (effect, holds) in enumerate(effects):
        y = _ROW * row + _ROW / 2
        word = "level" if not holds else "ahead" if effect.relative > 0 else "behind"
        name = escape(label(effect.metric))
        parts += [
            f'<text class="name" x="{_LABEL_WIDTH - 12}" y="{y + 4:.0f}" text-anchor="end">{name}</text>',
            _line("thin", x(effect.always.low), x(effect.always.high), y, y),
            _line(f"thick {word}", x(effect.interval.low), x(effect.interval.high), y, y),
            f'<circle class="dot {word}" cx="{x(effect.relative):.1f}" cy="{y}" r="4.5"/>',
        ]
    description = "; ".join(f"{label(effect.metric)} {signed(effect.relative)}" for effect, _ in effects)
    return _svg(parts, height, f"Effects of {arm}: {description}")


def daily_chart(effects: Sequence[DailyEffect], *, show_always: bool) -> Markup:
    """An effect by day with its interval; with `show_always` also the wider one that holds on all days at once."""
    if len(effects) < 2:
        return Markup("")
    shown_days = effects[1 if len(effects) > 3 else 0 :]  # the first day's interval would squeeze the scale
    reach = _reach([daily.effect.always if show_always else daily.effect.interval for daily in shown_days])
    x = _scale(float(effects[0].day), float(effects[-1].day), _AXIS, _WIDTH - _RIGHT)
    y_scale = _scale(reach, -reach, 8.0, _HEIGHT)

    def y(value: float) -> float:
        return y_scale(min(max(value, -reach), reach))

    parts = []
    for tick in ticks(reach):
        tick_y = y(tick)
        parts.append(_line("grid" if tick else "zero", _AXIS, _WIDTH - _RIGHT, tick_y, tick_y))
        parts.append(f'<text x="{_AXIS - 8}" y="{tick_y + 4:.0f}" text-anchor="end">{_tick_label(tick)}</text>')
    if show_always:
        parts.append(_band(effects, x, y, "wide", lambda daily: daily.effect.always))
    parts.append(_band(effects, x, y, "narrow", lambda daily: daily.effect.interval))
    line = " ".join(f"{x(daily.day):.1f},{y(daily.effect.relative):.1f}" for daily in effects)
    parts.append(f'<polyline class="line" points="{line}"/>')
    for daily in effects[:: max(1, len(effects) // 10)]:
        parts.append(f'<text x="{x(daily.day):.1f}" y="{_HEIGHT + 20}" text-anchor="middle">{daily.day}</text>')
    latest = effects[-1]
    description = f"The effect by day; on day {latest.day} it is {signed(latest.effect.relative)}"
    return _svg(parts, _HEIGHT + _FOOT, description)


def _reach(intervals: Sequence[Interval]) -> float:
    """The largest distance of an interval's end from 0."""
    return max(max(abs(interval.low), abs(interval.high)) for interval in intervals) or 0.01


def _band(
    effects: Sequence[DailyEffect], x: _Scale, y: _Scale, name: str, interval: Callable[[DailyEffect], Interval]
) -> str:
    upper = [f"{x(daily.day):.1f},{y(interval(daily).high):.1f}" for daily in effects]
    lower = [f"{x(daily.day):.1f},{y(interval(daily).low):.1f}" for daily in reversed(effects)]
    return f'<polygon class="{name}" points="{" ".join(upper + lower)}"/>'


def _grid(x: _Scale, reach: float, height: float) -> list[str]:
    parts = []
    for tick in ticks(reach):
        tick_x = x(tick)
        parts.append(_line("grid" if tick else "zero", tick_x, tick_x, 0.0, height - _FOOT))
        parts.append(f'<text x="{tick_x:.1f}" y="{height - 6}" text-anchor="middle">{_tick_label(tick)}</text>')
    return parts


def _line(name: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _scale(low: float, high: float, start: float, end: float) -> _Scale:
    return lambda value: start + (value - low) / ((high - low) or 1) * (end - start)


def _svg(parts: Sequence[str], height: float, description: str) -> Markup:
    content = "".join(parts)
    return Markup(  # noqa: S704 - numbers and escaped names
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(description)}">'
        f"{content}</svg>"
    )
