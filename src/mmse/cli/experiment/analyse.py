"""The command that says what a test showed."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from mmse.experiment.analysis import Analysis
    from mmse.sources.tables import EventsConfig

stdout = Console(highlight=False, emoji=False)
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
    history_start: Annotated[
        str | None, typer.Option("--before", help="Since when the past counts, for CUPED.")
    ] = None,
    slices: Annotated[list[str] | None, typer.Option("--slice", help="A column, once for each.")] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option("--weight", help="ARM=2: planned shares, if unequal. Default: what the site's experiment says."),
    ] = None,
    site: Annotated[
        Path | None, typer.Option("--site", help="Where the experiment ran. Default: the site of SITE/events.")
    ] = None,
    max_leaks: Annotated[
        float, typer.Option("--max-leaks", help="The share of shoppers in several arms that may be left out.")
    ] = 0.01,
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
    from mmse.core.extras import require_extra

    require_extra("experiment")
    from mmse.core.config import build
    from mmse.experiment.analysis import analyse as analysed
    from mmse.experiment.analysis_config import AnalysisConfig
    from mmse.experiment.units import Window, read_units

    window = Window(experiment, _day(start), _day(end), _day(history_start))
    units = read_units(source(table, shop), Path.cwd(), unit, window, slices or [])
    options = {
        "control": control,
        "primary": primary,
        "alpha": alpha,
        "sequential": peeked,
        "planned_effect": planned_effect,
        "max_leak_share": max_leaks,
        "weights": _weights(weights or []) or _planned_weights(site, table, experiment, set(units.arms.tolist())),
    }
    config = build(AnalysisConfig, options, "option")
    analysis = analysed(units, config)
    if report is not None:
        from mmse.experiment.report import write_report

        write_report(analysis, experiment or table.name, report)
    if as_json:
        stdout.print_json(json.dumps(asdict(analysis)))
        return
    stdout.print(analysis_text(analysis))
    if units.n_leaks:
        names = ", ".join(units.leak_examples)
        stdout.print(f"In several arms (the busiest): {names}", markup=False, soft_wrap=True)
    if report is not None:
        stdout.print(f"Report: {report}", markup=False, soft_wrap=True)


def analysis_text(analysis: Analysis) -> RenderableType:
    """The analysis for a terminal."""
    parts: list[RenderableType] = [Text(analysis.verdict, style="bold"), Text()]
    for arm in dict.fromkeys(effect.arm for effect in analysis.effects):
        parts += [_effects(analysis, arm), Text()]
    parts += [
        Text(f"! {warning}", style="yellow") for warning in (*analysis.checks.refusals[1:], *analysis.checks.warnings)
    ]
    for arm, trend in analysis.trends.items():
        if trend.p < analysis.alpha:
            way = "grows" if trend.slope > 0 else "fades"
            parts.append(
                Text(f"! The effect of {arm} {way} the longer shoppers have it (p {trend.p:.2g}).", style="yellow")
            )
    parts += [Text(line, style="dim") for line in _heavy_lines(analysis)]
    parts += [_slice(analysis, number) for number in range(len(analysis.slices))]
    sizes = " · ".join(f"{arm_size.name} {arm_size.units:,}" for arm_size in analysis.arms)
    looks = (
        "somebody looked before the end: the interval that always holds decides"
        if analysis.peeked
        else ("'if peeked' holds at any moment; look before the end and it decides (--peeked)")
    )
    mismatch = "" if analysis.checks.mismatch_p is None else f" · shares as planned: p {_p(analysis.checks.mismatch_p)}"
    parts.append(Text(f"{analysis.unit}s: {sizes}{mismatch} · {analysis.days:.1f} days", style="dim"))
    parts.append(
        Text(f"* significant; metrics but {analysis.primary} corrected together (Holm). {looks}.", style="dim")
    )
    return Group(*parts)


def _effects(analysis: Analysis, arm: str) -> Table:
    from mmse.experiment.capping import parts
    from mmse.experiment.metrics import METRICS, label

    parted = any(parts(effect, capped) for effect, capped in zip(analysis.effects, analysis.capped, strict=True))
    table = Table(
        title=Text(f"{arm} against {analysis.control}"),
        title_justify="left",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    table.add_column("metric", min_width=10)
    for name in (analysis.control, arm):
        table.add_column(name, justify="right", overflow="fold")
    for name in ("change", f"{1 - analysis.alpha:.0%} interval", "if peeked", "p", *(["capped"] if parted else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for effect, capped, holds in zip(analysis.effects, analysis.capped, analysis.significant, strict=True):
        if effect.arm != arm:
            continue
        style = ("green" if effect.relative > 0 else "red") if holds else ""
        table.add_row(
            label(effect.metric),
            METRICS[effect.metric].format(effect.control),
            METRICS[effect.metric].format(effect.treatment),
            Text(f"{effect.relative:+.1%}", style),
            f"{effect.interval.low:+.1%} {effect.interval.high:+.1%}",
            f"{effect.always.low:+.1%} {effect.always.high:+.1%}",
            _p(effect.p) + "*" * holds,
            *(["" if capped is None else f"{capped.relative:+.1%}"] if parted else []),
        )
    return table


def _heavy_lines(analysis: Analysis) -> list[str]:
    """The shop's own ids of units with much of an arm, for whoever looks at them; they are in no report."""
    from mmse.experiment.capping import HEAVY_SHARE

    return [
        f"  {heavy.share:.0%} of the {heavy.column} of {heavy.arm}: {analysis.unit} {heavy.name}"
        for heavy in analysis.heaviest
        if heavy.share > HEAVY_SHARE and heavy.name is not None
    ]


def _slice(analysis: Analysis, number: int) -> RenderableType:
    part_test = analysis.slices[number]
    lines = [
        Text(f"{part_test.column}, {part_test.arm} against {analysis.control} ({analysis.primary}):", style="bold")
    ]
    for name, part in part_test.effects.items():
        lines.append(Text(f"  {name:20} {part.relative:+.1%} ({part.interval.low:+.1%} to {part.interval.high:+.1%})"))
    verdict = (
        "no test: fewer than two parts"
        if part_test.p is None
        else (
            f"the parts differ (p {part_test.p:.2g}, corrected)"
            if part_test.holds
            else f"no sign that the parts differ (p {part_test.p:.2g}): "
            "the best of several parts always looks good by chance"
        )
    )
    return Group(*lines, Text(f"  {verdict}", style="dim"), Text())


def source(table: Path, shop: Path | None) -> EventsConfig:
    """The table as events, with the names of a shop's columns."""
    from mmse.core.errors import UsageError
    from mmse.serving.events import segments
    from mmse.shop import read_shop
    from mmse.sources.tables import EventsConfig

    if (table / segments.OPEN_FOLDER).is_dir() and not segments.sealed_files(table):
        raise UsageError(
            f"Nothing in {table} is sealed yet: a server does that every five minutes, and when it ends.",
            f"Wait, or give what `mmse events export {table.parent} events.parquet` writes.",
        )
    own = read_shop(shop).events if shop is not None else None
    return replace(own or EventsConfig(), source=str(table.absolute()), sources=(), format=None, only=None)


def _p(value: float) -> str:
    return "<.001" if value < 0.001 else f"{value:.3f}"


def _planned_weights(site: Path | None, table: Path, experiment: str | None, arms: set[str]) -> dict[str, float]:
    """The weights of the arms as the site's experiment has them; none where no site or no such experiment is known."""
    from mmse.serving.experiments import EXPERIMENTS, find_described

    folder = site or table.absolute().parent
    if site is None and not (folder / EXPERIMENTS).exists():
        return {}
    described = find_described(folder, experiment, arms)
    return {} if described is None else {name: arm.weight for name, arm in described.arms.items()}


def _day(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.strptime(text, _DAY)
    except ValueError as error:
        raise typer.BadParameter(f"'{text}' is no day; write 2026-01-31.") from error


def _weights(options: list[str]) -> dict[str, float]:
    weights = {}
    for option in options:
        name, _, number = option.partition("=")
        try:
            weights[name] = float(number)
        except ValueError as error:
            raise typer.BadParameter(f"'{option}' is no weight; write ARM=2.") from error
    return weights
