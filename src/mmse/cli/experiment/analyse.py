"""The command that says what a test showed."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from mmse.experiment.analysis import Analysis
    from mmse.experiment.effects import Effect
    from mmse.sources.tables import EventsConfig

out = Console(highlight=False, emoji=False)
TableFile = Annotated[
    Path, typer.Argument(help="Exposures: a file, or a folder such as SITE/events.", metavar="EXPOSURES")
]
Name = Annotated[str | None, typer.Option("--experiment", help="Which one. Default: whatever the column 'arm' says.")]
UnitOption = Annotated[Literal["user", "session", "request"], typer.Option(help="Who was assigned.")]
ShopFile = Annotated[Path | None, typer.Option("--shop", help="A shop.toml that says what the columns are called.")]
_DAY = "%Y-%m-%d"


def analyse(
    table: TableFile,
    experiment: Name = None,
    control: Annotated[str | None, typer.Option(help="The arm that others are held against.")] = None,
    unit: UnitOption = "user",
    primary: Annotated[str, typer.Option(help="The metric that decides.")] = "conversion",
    start: Annotated[str | None, typer.Option("--from", help="2026-01-31: when it began.")] = None,
    end: Annotated[str | None, typer.Option("--until", help="The first day that does not count any more.")] = None,
    before: Annotated[str | None, typer.Option(help="Since when the past counts, for CUPED.")] = None,
    slices: Annotated[list[str] | None, typer.Option("--slice", help="A column, once for each.")] = None,
    weights: Annotated[list[str] | None, typer.Option("--weight", help="ARM=2: planned shares, if unequal.")] = None,
    planned_effect: Annotated[float | None, typer.Option(help="0.03: the effect that was to be found.")] = None,
    peeked: Annotated[
        bool, typer.Option("--peeked", help="Somebody looked before the end and might have ended it.")
    ] = False,
    alpha: Annotated[float, typer.Option(help="How often a difference may be claimed that is none.")] = 0.05,
    shop: ShopFile = None,
    report: Annotated[Path | None, typer.Option("--report", help="Writes an HTML page, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Says what a test of arms showed: the effect on conversion and six more metrics, and whether to believe it."""
    from mmse.core.config import build
    from mmse.experiment.analysis import AnalysisConfig
    from mmse.experiment.analysis import analyse as analysed
    from mmse.experiment.units import Window, read_units

    window = Window(experiment, _day(start), _day(end), _day(before))
    units = read_units(source(table, shop), Path.cwd(), unit, window, slices or [])
    asked = {"control": control, "primary": primary, "alpha": alpha, "peeked": peeked, "planned_effect": planned_effect}
    config = build(AnalysisConfig, asked | {"weights": _weights(weights or [])}, "option")
    found = analysed(units, config)
    if report is not None:
        from mmse.experiment.report import write_report

        write_report(found, experiment or table.name, report)
    if as_json:
        out.print_json(json.dumps(asdict(found)))
        return
    out.print(shown(found))
    if report is not None:
        out.print(f"Report: {report}", markup=False, soft_wrap=True)


def shown(found: Analysis) -> RenderableType:
    """The analysis for a terminal."""
    parts: list[RenderableType] = [Text(found.verdict, style="bold"), Text()]
    for other in dict.fromkeys(one.arm for one in found.effects):
        parts += [_effects(found, other), Text()]
    parts += [Text(f"! {said}", style="yellow") for said in (*found.checks.refusals[1:], *found.checks.warnings)]
    for arm, trend in found.trends.items():
        if trend.p < found.alpha:
            way = "grows" if trend.slope > 0 else "fades"
            parts.append(
                Text(f"! The effect of {arm} {way} the longer shoppers have it (p {trend.p:.2g}).", style="yellow")
            )
    parts += [_slice(found, number) for number in range(len(found.slices))]
    counted = " · ".join(f"{seen.name} {seen.units:,}" for seen in found.arms)
    looks = (
        "somebody looked before the end: the interval that always holds decides"
        if found.peeked
        else ("'if peeked' holds at any moment; look before the end and it decides (--peeked)")
    )
    mismatch = "" if found.checks.mismatch_p is None else f" · shares as planned: p {found.checks.mismatch_p:.2f}"
    parts.append(Text(f"{found.unit}s: {counted}{mismatch} · {found.days:.1f} days", style="dim"))
    parts.append(Text(f"* significant; metrics but {found.primary} corrected together (Holm). {looks}.", style="dim"))
    return Group(*parts)


def _effects(found: Analysis, arm: str) -> Table:
    from mmse.experiment.metrics import words

    table = Table(
        title=Text(f"{arm} against {found.control}"),
        title_justify="left",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    table.add_column("metric", min_width=10)
    for name in (found.control, arm):
        table.add_column(name, justify="right", overflow="fold")
    for name in ("change", f"{1 - found.alpha:.0%} interval", "if peeked", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for one, holds in zip(found.effects, found.significant, strict=True):
        if one.arm != arm:
            continue
        style = ("green" if one.relative > 0 else "red") if holds else ""
        table.add_row(
            words(one.metric),
            value(one, one.control),
            value(one, one.treatment),
            Text(f"{one.relative:+.1%}", style),
            f"{one.interval.low:+.1%} {one.interval.high:+.1%}",
            f"{one.always.low:+.1%} {one.always.high:+.1%}",
            ("<.001" if one.p < 0.001 else f"{one.p:.3f}") + "*" * holds,
        )
    return table


def _slice(found: Analysis, number: int) -> RenderableType:
    one = found.slices[number]
    lines = [Text(f"{one.column}, {one.arm} against {found.control} ({found.primary}):", style="bold")]
    for name, part in one.effects.items():
        lines.append(Text(f"  {name:20} {part.relative:+.1%} ({part.interval.low:+.1%} to {part.interval.high:+.1%})"))
    said = (
        "no test: fewer than two parts"
        if one.p is None
        else (
            f"the parts differ (p {one.p:.2g}, corrected)"
            if one.holds
            else f"no sign that the parts differ (p {one.p:.2g}): the best of several parts always looks good by chance"
        )
    )
    return Group(*lines, Text(f"  {said}", style="dim"), Text())


def value(one: Effect, number: float) -> str:
    """A value of a metric."""
    from mmse.experiment.metrics import METRICS

    kind = METRICS[one.metric].kind
    return f"{number:.2%}" if kind == "share" else f"{number:,.2f}" if kind == "money" else f"{number:.4f}"


def source(table: Path, shop: Path | None) -> EventsConfig:
    """The table as events, with the names of a shop's columns."""
    from mmse.core.errors import UsageError
    from mmse.pipeline import read_shop
    from mmse.serving.events import segments as journal
    from mmse.sources.tables import EventsConfig

    if (table / journal.OPEN).is_dir() and not journal.sealed_files(table):
        raise UsageError(
            f"Nothing in {table} is sealed yet: a server does that every five minutes, and when it ends.",
            f"Wait, or give what `mmse events export {table.parent} events.parquet` writes.",
        )
    own = read_shop(shop).events if shop is not None else EventsConfig()
    return EventsConfig(str(table.absolute()), own.columns, own.max_rejected_share)


def _day(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.strptime(text, _DAY)
    except ValueError as error:
        raise typer.BadParameter(f"'{text}' is no day; write 2026-01-31.") from error


def _weights(given: list[str]) -> dict[str, float]:
    weights = {}
    for one in given:
        name, _, number = one.partition("=")
        try:
            weights[name] = float(number)
        except ValueError as error:
            raise typer.BadParameter(f"'{one}' is no weight; write ARM=2.") from error
    return weights
