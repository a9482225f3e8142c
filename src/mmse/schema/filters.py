"""Which items a search may find: conditions on declared columns, joined by and, or, not.

A filter is a value. Each channel applies it in its own way (as a mask over rows, as a query of the lexical index), and
both must find the same items: a property test checks it. An item without a value meets no condition on it, so `not`
lets it through.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mmse.core.errors import UsageError, suggest
from mmse.schema.flags import parse_flag

MAX_DEPTH = 16
MAX_CONDITIONS = 1_000
MAX_PARTS = 6_000
"""Keys and list entries, counted before anything is looked at."""
MAX_TEXT = 2_000
"""Characters of a value. More than a shop needs, and few enough that no request can block a server."""

_DOTTED_I = re.compile("i\u0307+")
_NUMBERS = 'a number or {"from": …, "to": …}'
EXAMPLE = '{"brand": ["Bosch", "Makita"], "price": {"to": 100}, "category": "Tools > Drills", "not": {"seller": "X"}}'


class Kind(Enum):
    """What a filterable column holds."""

    NAME = "name"
    """Text that is compared as a whole, in the form of `comparison_key`: a brand, a seller, a colour."""
    PATH = "path"
    """A path `a > b > c`: a condition on `a > b` holds for everything below it too."""
    NUMBER = "number"
    FLAG = "flag"


@dataclass(frozen=True)
class OneOf:
    """The column holds one of `values`: names, paths (or what is below them), or the flags true and false."""

    column: str
    values: tuple[str | bool, ...]


@dataclass(frozen=True)
class Between:
    """The number in the column lies from `low` to `high`, both included; `None` leaves an end open."""

    column: str
    low: float | None
    high: float | None


@dataclass(frozen=True)
class And:
    """Every part holds; without parts it is true."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Or:
    """At least one part holds; without parts it is false."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: Filter


Filter = OneOf | Between | And | Or | Not


def parse_filter(value: object, kinds: Mapping[str, Kind]) -> Filter:
    """The filter that plain JSON values describe, for a catalogue whose filterable columns are `kinds`.

    An object joins its keys by `and`. A key is a column, with a value, a list of values (one of them), or for numbers
    `{"from": …, "to": …}`; or it is `and`, `or` (a list of objects) or `not` (an object). Raises `UsageError` naming
    the column, what it takes and what was found.
    """
    _check_parts(value)
    parsed_filter = _parse(value, kinds, 0)
    n_values = _count_values(parsed_filter)
    if n_values > MAX_CONDITIONS:
        raise UsageError(
            f"The filter has {n_values} values to compare with, at most {MAX_CONDITIONS} are allowed.",
            "Filter by a column that gathers these items, such as a category.",
        )
    return parsed_filter


def _check_parts(value: object) -> None:
    """Raises `UsageError` where a filter has too many keys and list entries; it looks at no more than are allowed."""
    waiting, n_parts = [value], 0
    while waiting:
        entry = waiting.pop()
        parts = entry.values() if isinstance(entry, Mapping) else entry if isinstance(entry, (list, tuple)) else ()
        n_parts += len(parts)
        if n_parts > MAX_PARTS:
            raise UsageError(
                f"The filter has more than {MAX_PARTS:,} parts (keys and entries of lists).", "Write a simpler filter."
            )
        waiting.extend(parts)


def parse_terms(terms: Sequence[str], kinds: Mapping[str, Kind]) -> Filter | None:
    """The filter of a command line: `brand=Bosch`, `price=10..20`, `price=..20`, or JSON; all of `terms` must hold."""
    parts = tuple(_parse_term(term, kinds) for term in terms)
    return And(parts) if len(parts) > 1 else parts[0] if parts else None


def comparison_key(name: str) -> str:
    """The form in which two names are compared: without regard to case, blanks, and how a letter is encoded.

    As Unicode's canonical caseless match: `STRASSE` is `Straße`. The Turkish `İ` is an `i`, as people type it.
    """
    name = " ".join(name.split())
    if name.isascii():
        return name.lower()
    decomposed = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
    return unicodedata.normalize("NFC", _DOTTED_I.sub("i", decomposed))


def comparison_path(text: str) -> str:
    """The form in which two paths are compared: `a > b > c`, lower-cased, single spaces around each `>`."""
    return " > ".join(part for part in (comparison_key(p) for p in text.split(">")) if part)


def comparison_form(text: str, kind: Kind) -> str:
    """The form in which two values of a column of names or of paths are compared."""
    return comparison_path(text) if kind is Kind.PATH else comparison_key(text)


def path_prefixes(path: str) -> list[str]:
    """`a > b > c` as `a`, `a > b`, `a > b > c`; `path` is in the form of `comparison_path`."""
    parts = path.split(" > ") if path else []
    return [" > ".join(parts[: depth + 1]) for depth in range(len(parts))]


def named_values(filter: Filter) -> Iterator[tuple[str, str]]:
    """The column and the form of each name and each path in `filter`."""
    if isinstance(filter, OneOf):
        yield from ((filter.column, value) for value in filter.values if isinstance(value, str))
    elif isinstance(filter, Not):
        yield from named_values(filter.part)
    elif isinstance(filter, And | Or):
        for part in filter.parts:
            yield from named_values(part)


def _parse(value: object, kinds: Mapping[str, Kind], depth: int) -> Filter:
    if depth > MAX_DEPTH:
        raise UsageError(f"The filter is nested more than {MAX_DEPTH} deep.", "Write it with fewer levels.")
    if not isinstance(value, Mapping):
        raise UsageError(f"A filter is an object of columns and values, found {_short(value)}.", f"Such as {EXAMPLE}.")
    parts = tuple(_parse_key(str(key), entry, kinds, depth) for key, entry in value.items())
    return parts[0] if len(parts) == 1 else And(parts)


def _parse_key(key: str, value: object, kinds: Mapping[str, Kind], depth: int) -> Filter:
    if key == "not":
        return Not(_parse(value, kinds, depth + 1))
    if key in ("and", "or"):
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise _type_error(key, "a list of filters", value)
        parts = tuple(_parse(part, kinds, depth + 1) for part in value)
        return And(parts) if key == "and" else Or(parts)
    if key not in kinds:
        columns = f"Columns that can be filtered: {', '.join(kinds) or 'none'}."
        raise UsageError(f"There is no column '{key}' to filter by.", suggest(key, kinds, columns))
    return _between(key, value) if kinds[key] is Kind.NUMBER else _one_of(key, value, kinds[key])


def _between(column: str, value: object) -> Filter:
    if isinstance(value, Mapping) and value and set(value) <= {"from", "to"}:
        low, high = (_number(column, value.get(end)) for end in ("from", "to"))
        if low is not None and high is not None and low > high:
            raise UsageError(f"'{column}' is asked to lie from {low} to {high}: nothing can.", "Swap the two ends.")
        return Between(column, low, high)
    if isinstance(value, Mapping):
        raise _type_error(column, _NUMBERS, value)
    if isinstance(value, (list, tuple)):
        return Or(tuple(_equal(column, entry) for entry in value))
    return _equal(column, value)


def _equal(column: str, value: object) -> Between:
    number = _number(column, value)
    if number is None:
        raise _type_error(column, _NUMBERS, value)
    return Between(column, number, number)


def _one_of(column: str, value: object, kind: Kind) -> Filter:
    values = value if isinstance(value, (list, tuple)) else [value]
    if kind is Kind.FLAG:
        return OneOf(column, tuple(dict.fromkeys(_flag(column, entry) for entry in values)))
    texts = [entry for entry in values if isinstance(entry, str)]
    if len(texts) < len(values):
        raise _type_error(column, "text or a list of texts", next(e for e in values if not isinstance(e, str)))
    longest = max(map(len, texts), default=0)
    if longest > MAX_TEXT:
        cause = f"A value of '{column}' in a filter has {longest:,} characters, at most {MAX_TEXT:,} are allowed."
        raise UsageError(cause, "Shorten it.")
    return OneOf(column, tuple(dict.fromkeys(comparison_form(text, kind) for text in texts)))


def _flag(column: str, value: object) -> bool:
    flag = parse_flag(value)
    if flag is None:
        raise _type_error(column, "true or false", value)
    return flag


def _number(column: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise _type_error(column, "a finite number", value)
    return float(value)


def _parse_term(term: str, kinds: Mapping[str, Kind]) -> Filter:
    if term.lstrip().startswith("{"):
        try:
            value = json.loads(term)
        except (ValueError, RecursionError) as error:  # RecursionError: nested by the thousand
            raise UsageError(f"The filter {_short(term)} is not valid JSON: {error}.", f"Such as {EXAMPLE}.") from error
        return parse_filter(value, kinds)
    column, equals, text = term.partition("=")
    if not equals:
        raise UsageError(f"The filter {_short(term)} has no '='.", "Write column=value, price=10..20, or JSON.")
    column = column.strip()
    return parse_filter({column: _term_value(column, text, kinds.get(column))}, kinds)


def _term_value(column: str, text: str, kind: Kind | None) -> Any:  # noqa: ANN401 - plain JSON values
    if kind is not Kind.NUMBER:
        return text
    low, dots, high = text.partition("..")
    try:
        if not dots:
            return float(text)
        return {end: float(number) for end, number in (("from", low), ("to", high)) if number.strip()}
    except ValueError:
        raise _type_error(column, "a number, or two with '..' between them", text) from None


def _count_values(filter: Filter) -> int:
    """How many values an item is compared with."""
    if isinstance(filter, OneOf):
        return len(filter.values)
    if isinstance(filter, Between):
        return 1
    return _count_values(filter.part) if isinstance(filter, Not) else sum(map(_count_values, filter.parts))


def _type_error(column: str, requirement: str, value: object) -> UsageError:
    return UsageError(f"'{column}' in a filter takes {requirement}, found {_short(value)}.", f"Such as {EXAMPLE}.")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
