"""The charts of a test's report, as SVG: effects with their intervals, and the effect as it stood each day."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from mmse.experiment.analysis import Analysis, Dated
from mmse.experiment.metrics import words

_WIDTH, _ROW, _LEFT, _RIGHT, _AXIS = 720.0, 30.0, 190.0, 32.0, 64.0
_HEIGHT, _FOOT = 240.0, 26.0


def signed(value: float) -> str:
    """`+3.1%` or `−0.4%`, the minus as wide as the plus."""
    return f"{value:+.1%}".replace("-", "−")


def ticks(reach: float) -> list[float]:
    """Round numbers from `-reach` to `reach`, 0 among them, at most three on either side."""
    power = 10.0 ** math.floor(math.log10(reach))
    step = next(power * part for part in (0.2, 0.5, 1, 2, 5) if reach / (power * part) < 4)
    last = math.floor(reach / step + 1e-9)
    return [round(place * step, 12) for place in range(-last, last + 1)]


def _named(tick: float) -> str:
    """A tick as whole per cents, or with what decimals it has."""
    return f"{100 * tick:+.6g}%".replace("-", "−") if tick else "0%"


def forest(found: Analysis, arm: str) -> Markup:
    """The effects of an arm, a line each: the interval at the end, thin the one that always holds."""
    rows = [(one, holds) for one, holds in zip(found.effects, found.significant, strict=True) if one.arm == arm]
    if not rows:
        return Markup("")
    reach = max(max(abs(one.always.low), abs(one.always.high)) for one, _ in rows) or 0.01
    x = _scale(-reach, reach, _LEFT, _WIDTH - _RIGHT)
    height = _ROW * len(rows) + _FOOT
    parts = [*_grid(x, reach, height)]
    for place, (one, holds) in enumerate(rows):
        y = _ROW * place + _ROW / 2
        way = "level" if not holds else "ahead" if one.relative > 0 else "behind"
        parts += [
            f'<text class="name" x="{_LEFT - 12}" y="{y + 4:.0f}" text-anchor="end">{escape(words(one.metric))}</text>',
            _line("thin", x(one.always.low), x(one.always.high), y, y),
            _line(f"thick {way}", x(one.interval.low), x(one.interval.high), y, y),
            f'<circle class="dot {way}" cx="{x(one.relative):.1f}" cy="{y}" r="4.5"/>',
        ]
    said = "; ".join(f"{words(one.metric)} {signed(one.relative)}" for one, _ in rows)
    return _svg(parts, height, f"Effects of {arm}: {said}")


def over_days(dated: Sequence[Dated], *, peeked: bool) -> Markup:
    """An effect by day, in its interval; with `peeked` also the wider one that holds on all days at once."""
    if len(dated) < 2:
        return Markup("")
    bands = [one.effect.always if peeked else one.effect.interval for one in dated[1 if len(dated) > 3 else 0 :]]
    reach = max(max(abs(band.low), abs(band.high)) for band in bands) or 0.01
    x = _scale(float(dated[0].day), float(dated[-1].day), _AXIS, _WIDTH - _RIGHT)
    clip = _scale(reach, -reach, 8.0, _HEIGHT)

    def y(value: float) -> float:
        return clip(min(max(value, -reach), reach))

    parts = []
    for tick in ticks(reach):
        at = y(tick)
        parts.append(_line("grid" if tick else "zero", _AXIS, _WIDTH - _RIGHT, at, at))
        parts.append(f'<text x="{_AXIS - 8}" y="{at + 4:.0f}" text-anchor="end">{_named(tick)}</text>')
    if peeked:
        parts.append(_band(dated, x, y, "wide", lambda one: (one.effect.always.low, one.effect.always.high)))
    parts.append(_band(dated, x, y, "narrow", lambda one: (one.effect.interval.low, one.effect.interval.high)))
    line = " ".join(f"{x(one.day):.1f},{y(one.effect.relative):.1f}" for one in dated)
    parts.append(f'<polyline class="line" points="{line}"/>')
    for one in dated[:: max(1, len(dated) // 10)]:
        parts.append(f'<text x="{x(one.day):.1f}" y="{_HEIGHT + 20}" text-anchor="middle">{one.day}</text>')
    last = dated[-1]
    return _svg(parts, _HEIGHT + _FOOT, f"The effect by day; on day {last.day} it is {signed(last.effect.relative)}")


def _band(
    dated: Sequence[Dated],
    x: Callable[[float], float],
    y: Callable[[float], float],
    name: str,
    limits: Callable[[Dated], tuple[float, float]],
) -> str:
    upper = [f"{x(one.day):.1f},{y(limits(one)[1]):.1f}" for one in dated]
    lower = [f"{x(one.day):.1f},{y(limits(one)[0]):.1f}" for one in reversed(dated)]
    return f'<polygon class="{name}" points="{" ".join(upper + lower)}"/>'


def _grid(x: Callable[[float], float], reach: float, height: float) -> list[str]:
    parts = []
    for tick in ticks(reach):
        at = x(tick)
        parts.append(_line("grid" if tick else "zero", at, at, 0.0, height - _FOOT))
        parts.append(f'<text x="{at:.1f}" y="{height - 6}" text-anchor="middle">{_named(tick)}</text>')
    return parts


def _line(name: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _scale(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    return lambda value: first + (value - low) / ((high - low) or 1) * (last - first)


def _svg(parts: Sequence[str], height: float, said: str) -> Markup:
    inside = "".join(parts)
    return Markup(  # noqa: S704 - numbers and escaped names
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(said)}">{inside}</svg>'
    )
