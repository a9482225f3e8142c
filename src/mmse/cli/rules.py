"""The commands of a merchandiser's rules: check, publish, list, add, go back."""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mmse.core.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from mmse.ranking.rulebook import Rulebook
    from mmse.ranking.rules import Applied, Rule, Rules
    from mmse.schema.filters import Filter, Kind

FOLDER = "rules"
"""Where in a run folder its rules are."""

out = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, emoji=False, markup=False, soft_wrap=True)
rules_app = typer.Typer(
    name="rules",
    help="Pins, buries, boosts, synonyms and redirects: live in a running search within a second.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Run = Annotated[Path, typer.Argument(help="A run folder, made by `mmse run`.", metavar="RUN")]
File = Annotated[Path, typer.Argument(help="A TOML file of rules (docs/rules.md).", metavar="FILE.toml")]
Note = Annotated[str, typer.Option(help="Why, for the history.")]


class RuleKind(StrEnum):
    """What a rule does."""

    PIN = "pin"
    BURY = "bury"
    BOOST = "boost"
    SYNONYM = "synonym"
    REDIRECT = "redirect"


@rules_app.command(epilog="Example: mmse rules check rules.toml run")
def check(file: File, run: Run) -> None:
    """Checks a file of rules against a run's columns and items; publishes nothing."""
    from mmse.ranking.rule_file import read_rules

    rules = read_rules(file, run_kinds(run))
    _warn(rules, run)
    out.print(f"{file} is in order: {_counted(rules)}.")


@rules_app.command(epilog='Example: mmse rules publish run rules.toml --note "summer sale"')
def publish(run: Run, file: File, note: Note = "") -> None:
    """Makes a file of rules the live ones, in place of those before."""
    from mmse.ranking.rule_file import read_rules, read_text

    book = _book(run)
    rules = read_rules(file, book.kinds)
    _warn(rules, run)
    version = book.publish(read_text(file), note, _who())
    out.print(f"Version {version} is live: {_counted(rules)}.")


@rules_app.command("list", epilog='Example: mmse rules list run --query "tent"')
def list_(run: Run, query: Annotated[str | None, typer.Option(help="Only what applies to it now.")] = None) -> None:
    """Shows the live rules, or what they make of a query."""
    book = _book(run)
    rules, status, now = book.current(), book.status(), datetime.now(UTC)
    if status.problem:
        raise ArtifactError(status.problem, "Publish the rules again; a running search keeps those it has.")
    if query is not None:
        for line in _applied_lines(rules.for_query(_as_text(query), now)):
            out.print(line)
        return
    out.print(f"Version {status.version}: {_counted(rules)}." if status.version else "No rules were published.")
    for rule in rules.rules:
        asleep = "" if rule.head.awake(now) else "  (asleep)"
        note = f"  # {' '.join(rule.head.note.split())}" if rule.head.note else ""
        out.print(f"{_kind(rule):8}  {rule.head.name}  “{rule.head.query.text}”: {_does(rule)}{asleep}{note}")


@rules_app.command(epilog="Example: mmse rules history run")
def history(run: Run) -> None:
    """Shows which versions were live from when, who made them so and why; the last line is live."""
    for edition in _book(run).history():
        out.print(f"{edition.version:04}  {edition.at}  {edition.by or '-'}  {' '.join(edition.note.split())}".rstrip())


@rules_app.command(epilog='Example: mmse rules rollback run 2 --note "the sale is over"')
def rollback(
    run: Run, version: Annotated[int, typer.Argument(help="The version to make live again.")], note: Note = ""
) -> None:
    """Makes a former version live again."""
    _book(run).rollback(version, note or f"back to version {version}", _who())
    out.print(f"Version {version} is live again.")


@rules_app.command(
    epilog="Examples: mmse rules add run pin --name summer-tents --query tent --item i1 --item i2 · "
    "mmse rules add run boost --name own-brand --query '*' --where brand=Acme --factor 1.5 · "
    "mmse rules add run synonym --name sofa --word sofa --word couch"
)
def add(
    run: Run,
    kind: Annotated[RuleKind, typer.Argument(help="What the rule does.")],
    name: Annotated[str, typer.Option(help="Its name, such as summer-tents.")],
    query: Annotated[str | None, typer.Option(help="Its queries: 'tent', 'tent *', '*'.")] = None,
    item: Annotated[list[str] | None, typer.Option(help="pin, bury: an item id; may come more than once.")] = None,
    place: Annotated[int | None, typer.Option(help="pin: the place of the first item. Default: 1.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="bury, boost: column=value, price=10..20, or JSON.")] = None,
    factor: Annotated[float | None, typer.Option(help="boost: of the odds; below 1 pushes down.")] = None,
    word: Annotated[list[str] | None, typer.Option(help="synonym: words that stand for each other.")] = None,
    when: Annotated[str | None, typer.Option(help="synonym, one way: when the query says this.")] = None,
    also: Annotated[list[str] | None, typer.Option(help="synonym, one way: search this, too.")] = None,
    to: Annotated[str | None, typer.Option(help="redirect: the query whose results are given.")] = None,
    url: Annotated[str | None, typer.Option(help="redirect: the page that the shop shows.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="The first day, YYYY-MM-DD (UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="The last day, YYYY-MM-DD (UTC).")] = None,
    note: Note = "",
) -> None:
    """Adds one rule to the end of the live ones and publishes them."""
    from mmse.ranking.rule_file import read_rules, write_rule
    from mmse.schema.filters import parse_terms

    book = _book(run)
    filtered = parse_terms(where or [], book.kinds)
    said = {
        "name": name,
        "query": query,
        "items": item,
        "place": place,
        "where": _plain(filtered) if filtered else None,
        "factor": factor,
        "words": word,
        "when": when,
        "also": also,
        "to": to,
        "url": url,
        "from": _day(from_, "--from"),
        "until": _day(until, "--until"),
        "note": note or None,
    }
    rule = write_rule(kind.value, {key: value for key, value in said.items() if value is not None})
    _warn(read_rules(rule, book.kinds, "The new rule"), run)
    version = book.add(rule, note or f"{kind.value} {name}", _who())
    out.print(f"Version {version} is live, with:\n{rule}", end="")


def run_kinds(run: Path) -> dict[str, Kind]:
    """The columns of a run's items that can be filtered by; raises `ArtifactError` where they cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mmse.index.columns import filterable

    items, features = run / "dataset" / "items.parquet", run / "model" / "features.json"
    try:
        return filterable(pq.read_schema(items).names, json.loads(features.read_text("utf-8"))["declared"])
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ArtifactError(
            f"{run} does not say which columns its items have: {error}.", "Give a run folder that `mmse run` finished."
        ) from error


def _book(run: Path) -> Rulebook:
    from mmse.ranking.rulebook import Rulebook

    return Rulebook(run / FOLDER, run_kinds(run))


def _warn(rules: Rules, run: Path) -> None:
    import pyarrow.parquet as pq

    from mmse.ranking.rule_checks import warnings_of

    ids = set(pq.read_table(run / "dataset" / "items.parquet", columns=["item_id"])["item_id"].to_pylist())
    for warning in warnings_of(rules, ids.__contains__):
        err.print(f"warning: {warning}")


def _applied_lines(applied: Applied) -> list[str]:
    pins = [f"pinned to place {pin.place}: {pin.item_id} ({pin.rule})" for pin in applied.pins]
    changing: list[Rule] = [*applied.boosts, *applied.buries]
    changes = [f"{_does(rule)} ({rule.head.name})" for rule in changing]
    synonyms = [f"“{phrase}” also searches {', '.join(also)}" for phrase, also in applied.expansions]
    shown = [f"shows {applied.redirect_url}"] if applied.redirect_url else []
    rules = f"Rules that apply: {', '.join(applied.rules)}" if applied.rules else "No rule applies."
    return [f"Searched: {applied.query}", *shown, *synonyms, *changes, *pins, rules]


def _kind(rule: Rule) -> str:
    return type(rule).__name__.lower()


def _does(rule: Rule) -> str:
    from mmse.ranking.rules import Boost, Bury, Pin, Redirect

    match rule:
        case Pin():
            return f"from place {rule.place}: {', '.join(rule.items)}"
        case Boost():
            return f"odds x{rule.factor:g} where {_filter_text(rule.where)}"
        case Bury(where=None):
            return f"last: {', '.join(rule.items)}"
        case Bury():
            assert rule.where is not None
            return f"last where {_filter_text(rule.where)}"
        case Redirect():
            return f"searches {rule.to}" if rule.to is not None else f"shows {rule.url}"
    both = rule.phrases == rule.also
    return " = ".join(rule.phrases) if both else f"{rule.phrases[0]} → {', '.join(rule.also)}"


def _filter_text(said: Filter) -> str:
    return json.dumps(_plain(said), ensure_ascii=False)


def _plain(said: Filter) -> dict[str, Any]:
    """A filter as the plain values that `parse_filter` reads."""
    from mmse.schema.filters import And, Between, Not, OneOf

    if isinstance(said, OneOf):
        return {said.column: said.values[0] if len(said.values) == 1 else list(said.values)}
    if isinstance(said, Between):
        if said.low == said.high is not None:
            return {said.column: said.low}
        ends: Mapping[str, float | None] = {"from": said.low, "to": said.high}
        return {said.column: {end: value for end, value in ends.items() if value is not None}}
    if isinstance(said, Not):
        return {"not": _plain(said.part)}
    return {"and" if isinstance(said, And) else "or": [_plain(part) for part in said.parts]}


def _counted(rules: Rules) -> str:
    return f"{len(rules):,} rule{'' if len(rules) == 1 else 's'}"


def _day(said: str | None, option: str) -> date | None:
    try:
        return date.fromisoformat(said) if said is not None else None
    except ValueError as error:
        raise UsageError(f"{option} is {said!r}, expected a day.", f"Such as {option} 2026-06-01.") from error


def _as_text(argument: str) -> str:
    return argument.encode("utf-8", "replace").decode("utf-8")


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container need not name its user
        return ""
