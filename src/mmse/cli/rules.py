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
from mmse.core.run_folder import RunFolder

if TYPE_CHECKING:
    from mmse.ranking.rulebook import Rulebook
    from mmse.ranking.rules import Rule, RuleEffects, Rules
    from mmse.schema.filters import Filter, Kind

FOLDER = "rules"
"""Where in a run folder its rules are."""

stdout = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, emoji=False, markup=False, soft_wrap=True)
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
    stdout.print(f"{file} is in order: {_count_text(rules)}.")


@rules_app.command(epilog='Example: mmse rules publish run rules.toml --note "summer sale"')
def publish(run: Run, file: File, note: Note = "") -> None:
    """Makes a file of rules the live ones, in place of those before."""
    from mmse.ranking.rule_file import read_rules, read_text

    book = _book(run)
    rules = read_rules(file, book.kinds)
    _warn(rules, run)
    version = book.publish(read_text(file), note, _who())
    stdout.print(f"Version {version} is live: {_count_text(rules)}.")


@rules_app.command("list", epilog='Example: mmse rules list run --query "tent"')
def list_(run: Run, query: Annotated[str | None, typer.Option(help="Only what applies to it now.")] = None) -> None:
    """Shows the live rules, or what they make of a query."""
    book = _book(run)
    rules, status, moment = book.current(), book.status(), datetime.now(UTC)
    if status.problem:
        raise ArtifactError(status.problem, "Publish the rules again; a running search keeps those it has.")
    if query is not None:
        for line in _applied_lines(rules.apply(_as_text(query), moment)):
            stdout.print(line)
        return
    stdout.print(f"Version {status.version}: {_count_text(rules)}." if status.version else "No rules were published.")
    for rule in rules.rules:
        asleep = "" if rule.head.is_active(moment) else "  (asleep)"
        note = f"  # {' '.join(rule.head.note.split())}" if rule.head.note else ""
        stdout.print(f"{_kind(rule):8}  {rule.head.name}  “{rule.head.query.text}”: {_effect(rule)}{asleep}{note}")


@rules_app.command(epilog="Example: mmse rules history run")
def history(run: Run) -> None:
    """Shows which versions were live from when, who made them so and why; the last line is live."""
    for edition in _book(run).history():
        stdout.print(
            f"{edition.version:04}  {edition.at}  {edition.by or '-'}  {' '.join(edition.note.split())}".rstrip()
        )


@rules_app.command(epilog='Example: mmse rules rollback run 2 --note "the sale is over"')
def rollback(
    run: Run, version: Annotated[int, typer.Argument(help="The version to make live again.")], note: Note = ""
) -> None:
    """Makes a former version live again."""
    _book(run).rollback(version, note or f"back to version {version}", _who())
    stdout.print(f"Version {version} is live again.")


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
    position: Annotated[
        int | None, typer.Option("--place", help="pin: the place of the first item. Default: 1.")
    ] = None,
    terms: Annotated[
        list[str] | None, typer.Option("--where", help="bury, boost: column=value, price=10..20, or JSON.")
    ] = None,
    factor: Annotated[float | None, typer.Option(help="boost: of the odds; below 1 pushes down.")] = None,
    word: Annotated[list[str] | None, typer.Option(help="synonym: words that stand for each other.")] = None,
    phrase: Annotated[str | None, typer.Option("--when", help="synonym, one way: when the query says this.")] = None,
    expansions: Annotated[list[str] | None, typer.Option("--also", help="synonym, one way: search this, too.")] = None,
    to: Annotated[str | None, typer.Option(help="redirect: the query whose results are given.")] = None,
    url: Annotated[str | None, typer.Option(help="redirect: the page that the shop shows.")] = None,
    first_day: Annotated[str | None, typer.Option("--from", help="The first day, YYYY-MM-DD (UTC).")] = None,
    last_day: Annotated[str | None, typer.Option("--until", help="The last day, YYYY-MM-DD (UTC).")] = None,
    note: Note = "",
) -> None:
    """Adds one rule to the end of the live ones and publishes them."""
    from mmse.ranking.rule_file import read_rules, write_rule
    from mmse.schema.filters import parse_terms

    book = _book(run)
    condition = parse_terms(terms or [], book.kinds)
    fields = {
        "name": name,
        "query": query,
        "items": item,
        "place": position,
        "where": _plain(condition) if condition else None,
        "factor": factor,
        "words": word,
        "when": phrase,
        "also": expansions,
        "to": to,
        "url": url,
        "from": _day(first_day, "--from"),
        "until": _day(last_day, "--until"),
        "note": note or None,
    }
    rule = write_rule(kind.value, {key: value for key, value in fields.items() if value is not None})
    _warn(read_rules(rule, book.kinds, "The new rule"), run)
    version = book.add(rule, note or f"{kind.value} {name}", _who())
    stdout.print(f"Version {version} is live, with:\n{rule}", end="")


def run_kinds(run: Path) -> dict[str, Kind]:
    """The columns of a run's items that can be filtered by; raises `ArtifactError` where they cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mmse.index.columns import filter_kinds

    items, features = RunFolder(run).serving / "items.parquet", RunFolder(run).model / "features.json"
    try:
        return filter_kinds(pq.read_schema(items).names, json.loads(features.read_text("utf-8"))["declared"])
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ArtifactError(
            f"{run} does not say which columns its items have: {error}.", "Give a run folder that `mmse run` finished."
        ) from error


def _book(run: Path) -> Rulebook:
    from mmse.ranking.rulebook import Rulebook

    return Rulebook(run / FOLDER, run_kinds(run))


def _warn(rules: Rules, run: Path) -> None:
    import pyarrow.parquet as pq

    from mmse.ranking.rule_checks import find_warnings

    ids = set(pq.read_table(RunFolder(run).serving / "items.parquet", columns=["item_id"])["item_id"].to_pylist())
    for warning in find_warnings(rules, ids.__contains__):
        stderr.print(f"warning: {warning}")


def _applied_lines(matches: RuleEffects) -> list[str]:
    pins = [f"pinned to place {pin.position}: {pin.item_id} ({pin.rule})" for pin in matches.pins]
    changes_by_rule: list[Rule] = [*matches.boosts, *matches.buries]
    changes = [f"{_effect(rule)} ({rule.head.name})" for rule in changes_by_rule]
    synonyms = [f"“{phrase}” also searches {', '.join(words)}" for phrase, words in matches.expansions]
    pages = [f"shows {matches.redirect_url}"] if matches.redirect_url else []
    rules = f"Rules that apply: {', '.join(matches.rules)}" if matches.rules else "No rule applies."
    return [f"Searched: {matches.query}", *pages, *synonyms, *changes, *pins, rules]


def _kind(rule: Rule) -> str:
    return type(rule).__name__.lower()


def _effect(rule: Rule) -> str:
    from mmse.ranking.rules import Boost, Bury, Pin, Redirect

    match rule:
        case Pin():
            return f"from place {rule.position}: {', '.join(rule.items)}"
        case Boost():
            return f"odds x{rule.factor:g} where {_filter_text(rule.condition)}"
        case Bury(condition=None):
            return f"last: {', '.join(rule.items)}"
        case Bury():
            assert rule.condition is not None
            return f"last where {_filter_text(rule.condition)}"
        case Redirect():
            return f"searches {rule.target_query}" if rule.target_query is not None else f"shows {rule.url}"
    symmetric = rule.phrases == rule.alternatives
    return " = ".join(rule.phrases) if symmetric else f"{rule.phrases[0]} → {', '.join(rule.alternatives)}"


def _filter_text(condition: Filter) -> str:
    return json.dumps(_plain(condition), ensure_ascii=False)


def _plain(condition: Filter) -> dict[str, Any]:
    """A filter as the plain values that `parse_filter` reads."""
    from mmse.schema.filters import And, Between, Not, OneOf

    if isinstance(condition, OneOf):
        return {condition.column: condition.values[0] if len(condition.values) == 1 else list(condition.values)}
    if isinstance(condition, Between):
        if condition.low == condition.high is not None:
            return {condition.column: condition.low}
        ends: Mapping[str, float | None] = {"from": condition.low, "to": condition.high}
        return {condition.column: {end: value for end, value in ends.items() if value is not None}}
    if isinstance(condition, Not):
        return {"not": _plain(condition.part)}
    return {"and" if isinstance(condition, And) else "or": [_plain(part) for part in condition.parts]}


def _count_text(rules: Rules) -> str:
    return f"{len(rules):,} rule{'' if len(rules) == 1 else 's'}"


def _day(text: str | None, option: str) -> date | None:
    try:
        return date.fromisoformat(text) if text is not None else None
    except ValueError as error:
        raise UsageError(f"{option} is {text!r}, expected a day.", f"Such as {option} 2026-06-01.") from error


def _as_text(argument: str) -> str:
    return argument.encode("utf-8", "replace").decode("utf-8")


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container need not name its user
        return ""
