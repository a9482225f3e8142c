"""The TOML file of a merchandiser's rules: read, checked, and one rule written.

A file is taken whole or not at all: whatever cannot be meant is a `UsageError` that names the file, the rule, the
key, what was expected and what was found.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmse.core.errors import UsageError
from mmse.ranking.patterns import Pattern
from mmse.ranking.rule_checks import check_together
from mmse.ranking.rules import MAX_PHRASE_WORDS, Boost, Bury, Head, Pin, Redirect, Rule, Rules, Synonym
from mmse.schema.filters import Filter, Kind, parse_filter
from mmse.text.bm25 import words
from mmse.text.tokenizer import normalise

MAX_RULES = 10_000
MAX_BYTES = 20_000_000
MAX_ITEMS = 1_000
MAX_PLACE = 1_000
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
_SUCH_AS = {
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


def read_rules(source: Path | str, kinds: Mapping[str, Kind], called: str = "The rules") -> Rules:
    """The rules of a file (`source` is a path) or of its text, for a catalogue whose filterable columns are `kinds`.

    `called` names a text in messages. Raises `UsageError` at the first thing that cannot be meant.
    """
    text, called = (read_text(source), str(source)) if isinstance(source, Path) else (source, called)
    tables = [(kind, n, table) for kind, those in _parse(text, called).items() for n, table in enumerate(those, 1)]
    if len(tables) > MAX_RULES:
        raise UsageError(f"{called} has {len(tables):,} rules, at most {MAX_RULES:,} are allowed.", "Take some out.")
    rules = Rules([_rule(_Said(called, kind, number, table), kinds) for kind, number, table in tables])
    check_together(rules, called)
    return rules


def read_text(path: Path) -> str:
    """The text of a rules file, without the mark that some editors begin it with; raises `UsageError`."""
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
    """One rule as TOML: text, numbers, flags, dates, lists and objects of them; keys stand in the order given."""
    lines = [f"{_key(key)} = {_toml(value)}" for key, value in values.items()]
    return "\n".join([f"[[{kind}]]", *lines, ""])


@dataclass(frozen=True)
class _Said:
    """One rule as its file says it, and how to speak of it."""

    called: str
    kind: str
    number: int
    table: Mapping[str, Any]

    @property
    def where(self) -> str:
        name = self.table.get("name")
        shown = f"'{name[:MAX_NAME]}'" if isinstance(name, str) and name else str(self.number)
        return f"{self.called}, {self.kind} {shown}"

    def wrong(self, key: str, expected: str, found: object = ...) -> UsageError:
        """The failure of `key`; `found` is what stands there unless given."""
        value = self.table.get(key) if found is ... else found
        what = f"'{key}' is missing" if value is None else f"'{key}' is {_short(value)}"
        return UsageError(f"{self.where}: {what}, expected {expected}.", f"Such as: {_SUCH_AS[key]}.")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.table.get(key, default)
        if not isinstance(value, str) or not (value.strip() or value == default):
            raise self.wrong(key, "text")
        return value

    def texts(self, key: str, at_most: int) -> tuple[str, ...]:
        """Different texts of a list; none where the key is not there."""
        value = self.table.get(key, [])
        if not isinstance(value, list) or (key in self.table and not value):
            raise self.wrong(key, "a list of texts")
        for one in value:
            if not isinstance(one, str) or not one.strip():
                raise self.wrong(key, "a list of texts", one)
        if len(value) > at_most:
            raise self.wrong(key, f"at most {at_most:,} of them", f"{len(value):,} long")
        if len(set(value)) < len(value):
            raise self.wrong(key, "each of them once")
        return tuple(value)

    def filter(self, kinds: Mapping[str, Kind]) -> Filter | None:
        """`where`, or `None` where the rule has none."""
        if "where" not in self.table:
            return None
        if self.table["where"] == {}:
            raise self.wrong("where", "a condition")
        try:
            return parse_filter(self.table["where"], kinds)
        except UsageError as error:
            raise UsageError(f"{self.where}, 'where': {error.cause}", error.cure) from error

    def moment(self, key: str, of_a_day: time) -> datetime | None:
        """A moment in UTC: what is said, or that time of a day that is said."""
        value = self.table.get(key)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, date):
            return datetime.combine(value, of_a_day, UTC)
        if value is not None:
            raise self.wrong(key, "a date without quotation marks")
        return None

    def one_of(self, *keys: str) -> None:
        """Holds if exactly one of `keys` is there."""
        there = [key for key in keys if key in self.table]
        if len(there) != 1:
            named = " or ".join(f"'{key}'" for key in keys)
            found = "both" if there else "neither"
            raise UsageError(f"{self.where}: expected {named}, found {found}.", f"Such as: {_SUCH_AS[keys[0]]}.")


def _parse(text: str, called: str) -> dict[str, list[Mapping[str, Any]]]:
    """The tables of the file by kind of rule."""
    if len(text) > MAX_BYTES:
        raise UsageError(f"{called}: more than {MAX_BYTES:,} characters.", "Are these rules? Take some out.")
    try:
        text.encode()  # half a surrogate pair is no text
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{called}: not valid TOML: {error}.", "Mend that line.") from error
    except (RecursionError, ValueError) as error:  # a thousand brackets, a number of ten thousand digits
        raise UsageError(f"{called}: not valid TOML: {error}.", "Mend what it names.") from error
    for kind, tables in said.items():
        if kind not in KEYS:
            raise UsageError(f"{called}: there is no rule of kind '{kind}'.", _nearest(kind, tuple(KEYS)))
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise UsageError(
                f"{called}: '{kind}' is {_short(tables)}, expected a table.",
                f"Begin each rule with a line [[{kind}]], two brackets on either side.",
            )
    return said


def _rule(said: _Said, kinds: Mapping[str, Kind]) -> Rule:
    for key in said.table:
        if key not in KEYS[said.kind]:
            raise UsageError(f"{said.where}: there is no key '{key}'.", _nearest(key, KEYS[said.kind]))
    return _MAKE[said.kind](said, _head(said), kinds)


def _head(said: _Said) -> Head:
    name = said.text("name")
    if len(name) > MAX_NAME or name != name.lower() or not _NAME.fullmatch(name):
        raise said.wrong("name", f"up to {MAX_NAME} small letters and digits, with hyphens between words")
    try:
        query = Pattern.of(said.text("query", "*" if said.kind == "synonym" else None))
    except ValueError as error:
        raise said.wrong("query", str(error)) from error
    start, end = said.moment("from", time.min), said.moment("until", time.max)
    if start is not None and end is not None and start > end:
        raise said.wrong("until", "a date not before 'from'", f"{said.table['until']}")
    return Head(name, query, start, end, said.text("note", ""))


def _pin(said: _Said, head: Head, _: Mapping[str, Kind]) -> Pin:
    place = said.table.get("place", 1)
    if type(place) is not int or not 1 <= place <= MAX_PLACE:
        raise said.wrong("place", f"a whole number from 1 to {MAX_PLACE:,}")
    items = said.texts("items", MAX_ITEMS)
    if not items:
        raise said.wrong("items", "a list of item ids")
    return Pin(head, items, place)


def _bury(said: _Said, head: Head, kinds: Mapping[str, Kind]) -> Bury:
    said.one_of("items", "where")
    return Bury(head, said.texts("items", MAX_ITEMS), said.filter(kinds))


def _boost(said: _Said, head: Head, kinds: Mapping[str, Kind]) -> Boost:
    where, factor = said.filter(kinds), said.table.get("factor")
    if where is None:
        raise said.wrong("where", "a condition")
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not _positive(factor):
        raise said.wrong("factor", "a finite number above 0")
    return Boost(head, where, float(factor))


def _synonym(said: _Said, head: Head, _: Mapping[str, Kind]) -> Synonym:
    said.one_of("words", "when")
    if "words" in said.table:
        if "also" in said.table:
            raise said.wrong("also", "'when' beside it, for one way, or 'words' alone, for both")
        both = _phrases(said, "words", said.texts("words", MAX_PHRASES))
        if len(both) < 2:
            raise said.wrong("words", "two different phrases or more")
        return Synonym(head, both, both)
    also = _phrases(said, "also", said.texts("also", MAX_PHRASES))
    when = _phrases(said, "when", (said.text("when"),))
    if not set(also) - set(when):
        raise said.wrong("also", "a list of other phrases to search")
    return Synonym(head, when, also)


def _redirect(said: _Said, head: Head, _: Mapping[str, Kind]) -> Redirect:
    said.one_of("to", "url")
    if "url" in said.table:
        url = said.text("url")
        if not _is_web(url):
            raise said.wrong("url", "an address that begins with https:// or http://")
        return Redirect(head, None, url)
    to = normalise(said.text("to"))
    if "*" in to.split() or head.query.text == to:
        raise said.wrong("to", "another query, without `*`")
    return Redirect(head, to, None)


_MAKE: dict[str, Callable[[_Said, Head, Mapping[str, Kind]], Rule]] = {
    "pin": _pin,
    "bury": _bury,
    "boost": _boost,
    "synonym": _synonym,
    "redirect": _redirect,
}


def _phrases(said: _Said, key: str, texts: Sequence[str]) -> tuple[str, ...]:
    phrases = []
    for text in texts:
        found = words(normalise(text))
        if not 1 <= len(found) <= MAX_PHRASE_WORDS:
            raise said.wrong(key, f"phrases of 1 to {MAX_PHRASE_WORDS} words", text)
        phrases.append(" ".join(found))
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


def _nearest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(known)}."


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
        return "{ " + ", ".join(f"{_key(str(key))} = {_toml(one)}" for key, one in value.items()) + " }"
    assert isinstance(value, Sequence)
    return "[" + ", ".join(map(_toml, value)) + "]"
