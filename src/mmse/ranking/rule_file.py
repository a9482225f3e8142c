"""Reads and checks the TOML file of a merchandiser's rules, and writes one rule.

A file is accepted as a whole or not at all: each mistake is a `UsageError` that names the file, the rule, the key, what
was expected and what was found.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmse.core.errors import UsageError, suggest
from mmse.ranking.patterns import Pattern
from mmse.ranking.rule_checks import check_conflicts
from mmse.ranking.rules import MAX_PHRASE_WORDS, Boost, Bury, Pin, Redirect, Rule, RuleHead, Rules, Synonym
from mmse.schema.filters import Filter, Kind, parse_filter
from mmse.text.normalise import normalise, words

MAX_RULES = 10_000
MAX_BYTES = 20_000_000
MAX_ITEMS = 1_000
MAX_POSITION = 1_000
MAX_PHRASES = 50
MAX_NAME = 80
_NAME = re.compile(r"[^\W_]+(-[^\W_]+)*")
_COMMON = ("name", "query", "from", "until", "note")
KEYS = {
    "pin": (*_COMMON, "items", "place"),
    "bury": (*_COMMON, "items", "where"),
    "boost": (*_COMMON, "where", "factor"),
    "synonym": (*_COMMON, "words", "when", "also"),
    "redirect": (*_COMMON, "to", "url"),
}
"""The keys that a rule of each kind may have."""
_EXAMPLES = {
    "name": 'name = "summer-tents"',
    "query": 'query = "tent" or query = "* tent"',
    "from": "from = 2026-06-01",
    "until": "until = 2026-08-31",
    "note": 'note = "until the stock is sold"',
    "items": 'items = ["i1", "i2"]',
    "place": "place = 1",
    "where": 'where = { brand = "Acme" }',
    "factor": "factor = 1.5",
    "also": 'also = ["sneakers"]',
    "words": 'words = ["sofa", "couch"]',
    "when": 'when = "trainers"',
    "to": 'to = "another query"',
    "url": 'url = "https://shop.example/returns"',
}


def read_rules(source: Path | str, kinds: Mapping[str, Kind], source_name: str = "The rules") -> Rules:
    """The rules of a file (`source` is a path) or of its text, for a catalogue whose filterable columns are `kinds`.

    `source_name` names a text in messages. Raises `UsageError` at the first mistake.
    """
    text, source_name = (read_text(source), str(source)) if isinstance(source, Path) else (source, source_name)
    parsed_file = _parse(text, source_name)
    tables = [(kind, n, table) for kind in parsed_file for n, table in enumerate(parsed_file[kind], 1)]
    if len(tables) > MAX_RULES:
        raise UsageError(
            f"{source_name} has {len(tables):,} rules, at most {MAX_RULES:,} are allowed.", "Take some out."
        )
    rules = Rules([_rule(_RuleTable(source_name, kind, number, table), kinds) for kind, number, table in tables])
    check_conflicts(rules, source_name)
    return rules


def read_text(path: Path) -> str:
    """The text of a rules file, without a byte order mark; raises `UsageError`."""
    if not path.is_file():
        raise UsageError(f"There is no file {path}.", "Give the path of a rules file (docs/rules.md).")
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{path} has more than {MAX_BYTES:,} bytes.", "Is it a rules file? Take some rules out.")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(f"{path} is not valid TOML: it is not UTF-8 (at line {line}).", "Save it as UTF-8.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Give a file that you may read.") from error


def write_rule(kind: str, values: Mapping[str, object]) -> str:
    """One rule as TOML: text, numbers, flags, dates, lists and objects of them; keys in the order of `values`."""
    lines = [f"{_key(key)} = {_toml(value)}" for key, value in values.items()]
    return "\n".join([f"[[{kind}]]", *lines, ""])


@dataclass(frozen=True)
class _RuleTable:
    """One rule as its file has it, and its name in messages."""

    source_name: str
    kind: str
    number: int
    table: Mapping[str, Any]

    @property
    def location(self) -> str:
        name = self.table.get("name")
        label = f"'{name[:MAX_NAME]}'" if isinstance(name, str) and name else str(self.number)
        return f"{self.source_name}, {self.kind} {label}"

    def error(self, key: str, requirement: str, value: object = ...) -> UsageError:
        """The error of `key`, which is `value`, or its value in the table."""
        value = self.table.get(key) if value is ... else value
        problem = f"'{key}' is missing" if value is None else f"'{key}' is {_short(value)}"
        return UsageError(f"{self.location}: {problem}, expected {requirement}.", f"Such as: {_EXAMPLES[key]}.")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.table.get(key, default)
        if not isinstance(value, str) or not (value.strip() or value == default):
            raise self.error(key, "text")
        return value

    def texts(self, key: str, at_most: int) -> tuple[str, ...]:
        """The texts of a list, all different; none where the key is missing."""
        value = self.table.get(key, [])
        if not isinstance(value, list) or (key in self.table and not value):
            raise self.error(key, "a list of texts")
        for text in value:
            if not isinstance(text, str) or not text.strip():
                raise self.error(key, "a list of texts", text)
        if len(value) > at_most:
            raise self.error(key, f"at most {at_most:,} of them", f"{len(value):,} long")
        if len(set(value)) < len(value):
            raise self.error(key, "each of them once")
        return tuple(value)

    def filter(self, kinds: Mapping[str, Kind]) -> Filter | None:
        """`where`, or `None` where the rule has none."""
        if "where" not in self.table:
            return None
        if self.table["where"] == {}:
            raise self.error("where", "a condition")
        try:
            return parse_filter(self.table["where"], kinds)
        except UsageError as error:
            raise UsageError(f"{self.location}, 'where': {error.cause}", error.cure) from error

    def moment(self, key: str, time_of_day: time) -> datetime | None:
        """A moment in UTC; if the value is a day, that time of the day."""
        value = self.table.get(key)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, date):
            return datetime.combine(value, time_of_day, UTC)
        if value is not None:
            raise self.error(key, "a date without quotation marks")
        return None

    def require_one(self, *keys: str) -> None:
        """Raises `UsageError` unless exactly one of two `keys` is in the rule."""
        present_keys = [key for key in keys if key in self.table]
        if len(present_keys) != 1:
            names = " or ".join(f"'{key}'" for key in keys)
            state = "both" if present_keys else "neither"
            raise UsageError(f"{self.location}: expected {names}, found {state}.", f"Such as: {_EXAMPLES[keys[0]]}.")


def _parse(text: str, source_name: str) -> dict[str, list[Mapping[str, Any]]]:
    """The tables of the file by kind of rule."""
    if len(text) > MAX_BYTES:
        raise UsageError(f"{source_name}: more than {MAX_BYTES:,} characters.", "Are these rules? Take some out.")
    try:
        text.encode()  # half a surrogate pair is no text
        tables_by_kind = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source_name}: not valid TOML: {error}.", "Mend that line.") from error
    except (RecursionError, ValueError) as error:  # a thousand brackets, a number of ten thousand digits
        raise UsageError(f"{source_name}: not valid TOML: {error}.", "Mend what it names.") from error
    for kind, tables in tables_by_kind.items():
        if kind not in KEYS:
            raise UsageError(f"{source_name}: there is no rule of kind '{kind}'.", _nearest(kind, KEYS))
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise UsageError(
                f"{source_name}: '{kind}' is {_short(tables)}, expected a table.",
                f"Begin each rule with a line [[{kind}]], two brackets on either side.",
            )
    return tables_by_kind


def _rule(rule: _RuleTable, kinds: Mapping[str, Kind]) -> Rule:
    for key in rule.table:
        if key not in KEYS[rule.kind]:
            raise UsageError(f"{rule.location}: there is no key '{key}'.", _nearest(key, KEYS[rule.kind]))
    return _MAKE[rule.kind](rule, _head(rule), kinds)


def _head(rule: _RuleTable) -> RuleHead:
    name = rule.text("name")
    if len(name) > MAX_NAME or name != name.lower() or not _NAME.fullmatch(name):
        raise rule.error("name", f"up to {MAX_NAME} small letters and digits, with hyphens between words")
    try:
        query = Pattern.parse(rule.text("query", "*" if rule.kind == "synonym" else None))
    except ValueError as error:
        raise rule.error("query", str(error)) from error
    start, end = rule.moment("from", time.min), rule.moment("until", time.max)
    if start is not None and end is not None and start > end:
        raise rule.error("until", "a date not before 'from'", f"{rule.table['until']}")
    return RuleHead(name, query, start, end, rule.text("note", ""))


def _pin(rule: _RuleTable, head: RuleHead, _: Mapping[str, Kind]) -> Pin:
    position = rule.table.get("place", 1)
    if type(position) is not int or not 1 <= position <= MAX_POSITION:
        raise rule.error("place", f"a whole number from 1 to {MAX_POSITION:,}")
    items = rule.texts("items", MAX_ITEMS)
    if not items:
        raise rule.error("items", "a list of item ids")
    return Pin(head, items, position)


def _bury(rule: _RuleTable, head: RuleHead, kinds: Mapping[str, Kind]) -> Bury:
    rule.require_one("items", "where")
    return Bury(head, rule.texts("items", MAX_ITEMS), rule.filter(kinds))


def _boost(rule: _RuleTable, head: RuleHead, kinds: Mapping[str, Kind]) -> Boost:
    condition, factor = rule.filter(kinds), rule.table.get("factor")
    if condition is None:
        raise rule.error("where", "a condition")
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not _positive(factor):
        raise rule.error("factor", "a finite number above 0")
    return Boost(head, condition, float(factor))


def _synonym(rule: _RuleTable, head: RuleHead, _: Mapping[str, Kind]) -> Synonym:
    rule.require_one("words", "when")
    if "words" in rule.table:
        if "also" in rule.table:
            raise rule.error("also", "'when' beside it, for one way, or 'words' alone, for both")
        phrases = _phrases(rule, "words", rule.texts("words", MAX_PHRASES))
        if len(phrases) < 2:
            raise rule.error("words", "two different phrases or more")
        return Synonym(head, phrases, phrases)
    alternatives = _phrases(rule, "also", rule.texts("also", MAX_PHRASES))
    phrases = _phrases(rule, "when", (rule.text("when"),))
    if not set(alternatives) - set(phrases):
        raise rule.error("also", "a list of other phrases to search")
    return Synonym(head, phrases, alternatives)


def _redirect(rule: _RuleTable, head: RuleHead, _: Mapping[str, Kind]) -> Redirect:
    rule.require_one("to", "url")
    if "url" in rule.table:
        url = rule.text("url")
        if not _is_web(url):
            raise rule.error("url", "an address that begins with https:// or http://")
        return Redirect(head, None, url)
    target_query = normalise(rule.text("to"))
    if "*" in target_query.split() or head.query.text == target_query:
        raise rule.error("to", "another query, without `*`")
    return Redirect(head, target_query, None)


_MAKE: dict[str, Callable[[_RuleTable, RuleHead, Mapping[str, Kind]], Rule]] = {
    "pin": _pin,
    "bury": _bury,
    "boost": _boost,
    "synonym": _synonym,
    "redirect": _redirect,
}


def _phrases(rule: _RuleTable, key: str, texts: Sequence[str]) -> tuple[str, ...]:
    phrases = []
    for text in texts:
        phrase_words = words(normalise(text))
        if not 1 <= len(phrase_words) <= MAX_PHRASE_WORDS:
            raise rule.error(key, f"phrases of 1 to {MAX_PHRASE_WORDS} words", text)
        phrases.append(" ".join(phrase_words))
    return tuple(dict.fromkeys(phrases))


def _positive(factor: int | float) -> bool:
    try:
        return math.isfinite(factor) and factor > 0
    except OverflowError:  # a whole number past any float
        return False


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url
    except ValueError:
        return False


def _nearest(key: str, options: Iterable[str]) -> str:
    return suggest(key, options, f"Known: {', '.join(options)}.")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(value: object) -> str:
    if isinstance(value, str):  # a TOML string is a JSON string, but for half surrogates and the control U+007F
        clean = value.encode("utf-8", "replace").decode("utf-8")
        return json.dumps(clean, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(str(key))} = {_toml(entry)}" for key, entry in value.items()) + " }"
    assert isinstance(value, Sequence)
    return "[" + ", ".join(map(_toml, value)) + "]"
