"""How a value of a shop's table becomes one of ours, and why it is bad if it cannot: SQL for both.

A shop's column may hold the right type, a near one (0 and 1 for false and true, seconds since 1970 for a time) or text.
Each rule gives the SQL of the value and the checks on it. A bad value never fails the query: its row is kept aside with
a reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmse.schema import flags
from mmse.sources.sql import identifier, literal, literals
from mmse.sources.times import EARLIEST, TimeForm, from_number, from_text

INTEGERS = frozenset(
    ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")
)
CLOCK_SKEW_DAYS = 2
NULL_WORDS = ("null", "none", "nan", "nil", "\\n")
"""Texts with which programs write that there is no number, no flag."""
NO_TEXTS = (
    *("NULL", "null", "NaN", "nan", "<NA>", "#N/A", "#NA", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!"),
    *("undefined", "(null)", "(not set)", "(none)"),
)
"""Texts with which programs write that there is no text, as they write them: NAN is a brand, and None a pattern."""
NO_QUERIES = ("NULL", "null", "undefined", "(null)", "(not set)", "(none)", "*", "*:*")
"""What trackers and engines log where nobody typed anything; nan may be bread."""
_AS_IN_URL = r"[^\s+]\+[^\s+]|%[0-9A-Fa-f]{2}"
"""Signs of a text without blanks that is written as in a URL."""


@dataclass(frozen=True)
class CastRule:
    """One column: `raw` is SQL for the shop's value, `value` is SQL for ours.

    Each check is SQL that is true for a bad row, and the reason. `value` and the checks use the columns `name` (our
    value) and `raw_name` (the shop's), so that each is computed once.
    """

    name: str
    raw: str
    value: str
    checks: tuple[tuple[str, str], ...]


def text(name: str, raw: str, type_: str, *, is_required: bool, unless: str = "") -> CastRule:
    """Text, unchanged; if `is_required` it may not be missing or blank, and if not, it may be one of `NO_TEXTS`.

    `unless` is SQL that is true for the rows that need no value.
    """
    column, value = identifier(name), as_text(_raw_column(name), type_)
    if not is_required:
        return CastRule(name, raw, f"CASE WHEN {value} NOT IN ({literals(('', *NO_TEXTS))}) THEN {value} END", ())
    empty = f"({column} IS NULL OR {_blank(column)})" + (f" AND NOT ({unless})" if unless else "")
    return CastRule(name, raw, value, ((empty, f"{name} is empty"),))


def as_text(raw: str, type_: str) -> str:
    """SQL for the text of a shop's value, SQL of a DuckDB type."""
    value = raw if type_ == "VARCHAR" else f"CAST({raw} AS VARCHAR)"
    if type_ in ("DOUBLE", "FLOAT"):  # whole numbers beside a missing one: 100434.0 is the id 100434
        is_whole = f"{raw} = floor({raw}) AND abs({raw}) < 9007199254740992"
        whole = f"CAST(TRY_CAST({raw} AS BIGINT) AS VARCHAR)"
        value = f"CASE WHEN {is_whole} THEN {whole} WHEN NOT isnan({raw}) THEN {value} END"
    return value


def number(name: str, raw: str, type_: str) -> CastRule:
    """A finite number, or no value; a time becomes seconds since 1970."""
    column, raw_column = identifier(name), _raw_column(name)
    if type_ in INTEGERS or type_ == "BOOLEAN" or type_.startswith("DECIMAL"):
        return CastRule(name, raw, f"CAST({raw_column} AS DOUBLE)", ())
    if type_.startswith("TIMESTAMP") or type_ == "DATE":
        raw_column = f"epoch({raw_column})"
    bad = f"{_has_value(name, type_)} AND ({column} IS NULL OR NOT isfinite({column}))"
    return CastRule(name, raw, f"TRY_CAST({raw_column} AS DOUBLE)", ((bad, f"{name} is not a number"),))


def vector(name: str, raw: str, type_: str) -> CastRule:
    """A list of numbers of an item, never a reason to drop it; as text it stands in brackets: `[0.1, 0.2]`."""
    return CastRule(name, raw, f"TRY_CAST({_raw_column(name)} AS FLOAT[])", ())


def is_whole_vector(name: str) -> str:
    """SQL: the column `name` holds a list of finite numbers."""
    column = identifier(name)
    whole = f"len({column}) > 0 AND list_count({column}) = len({column}) AND isfinite(list_sum({column}))"
    return f"coalesce({whole}, false)"


def flag(name: str, raw: str, type_: str, *, is_required: bool, unless: str = "") -> CastRule:
    """True or false, also as 0 and 1 or as words; if `is_required` it may not be missing.

    `unless` is SQL that is true for the rows that need no value.
    """
    column, raw_column = identifier(name), _raw_column(name)
    presence = ((_is_missing(name, type_, unless), f"{name} is missing"),) if is_required else ()
    if type_ == "BOOLEAN":
        return CastRule(name, raw, raw_column, presence)
    word = f"lower(trim(CAST({raw_column} AS VARCHAR)))"
    value = f"CASE WHEN {word} IN {flags.TRUE_WORDS} THEN true WHEN {word} IN {flags.FALSE_WORDS} THEN false END"
    bad = (f"{_has_value(name, type_)} AND {column} IS NULL", f"{name} is not true or false")
    return CastRule(name, raw, value, (*presence, bad))


def optional_number(name: str, raw: str, type_: str) -> CastRule:
    """A number of an item, never a reason to drop it; text stays text: its whole column tells the decimal mark."""
    raw_column = _raw_column(name)
    if type_ == "VARCHAR":
        return CastRule(name, raw, raw_column, ())
    value = number(name, raw, type_).value
    return CastRule(name, raw, f"CASE WHEN isfinite({value}) THEN {value} END", ())


def availability(name: str, raw: str, type_: str) -> CastRule:
    """Whether an item can be bought: a flag, a word of a feed (`in_stock`, `preorder`), or how many there are."""
    plain = flag(name, raw, type_, is_required=False)
    if type_ == "BOOLEAN":
        return plain
    text_ = f"CAST({_raw_column(name)} AS VARCHAR)"
    word = f"regexp_replace(lower({text_}), {literal(flags.NOT_OF_WORD)}, '', 'g')"
    value = (
        f"coalesce({plain.value}, CASE WHEN {word} IN {flags.IN_STOCK_WORDS} THEN true "
        f"WHEN {word} IN {flags.OUT_OF_STOCK_WORDS} THEN false "
        f"WHEN regexp_full_match({text_}, '\\s*\\d{{1,9}}(\\.0+)?\\s*') THEN TRY_CAST({text_} AS DOUBLE) > 0 END)"
    )
    return CastRule(name, raw, value, ())


def fault(name: str, type_: str, value: str) -> str:
    """SQL: the shop's value of the optional column `name` is there, and `value` (SQL), which should be ours, is not."""
    raw_column = _raw_column(name)
    not_nan = f" AND NOT isnan({raw_column})" if type_ in ("DOUBLE", "FLOAT") else ""
    not_null = f" AND lower(trim({raw_column})) NOT IN ({literals(NULL_WORDS)})" if type_ == "VARCHAR" else ""
    return f"{_has_value(name, type_)}{not_nan}{not_null} AND ({value}) IS NULL"


def query(name: str, raw: str, type_: str, *, is_required: bool, unless: str = "") -> CastRule:
    """Text as `text` gives it; one without blanks that is written as in a URL (`red%20shoe`, `red+shoe`) is read so.

    One of `NO_QUERIES` is none.
    """
    rule = text(name, raw, type_, is_required=is_required, unless=unless)
    blanks = rf"regexp_replace({rule.value}, '([^\s+])\+', '\1 ', 'g')"
    is_url = rf"NOT contains({rule.value}, ' ') AND regexp_matches({rule.value}, {literal(_AS_IN_URL)})"
    is_none = f"{rule.value} IN ({literals(NO_QUERIES)})"
    plain = f"CASE WHEN NOT {is_none} THEN {rule.value} END"
    value = f"CASE WHEN {is_url} THEN coalesce(TRY(url_decode({blanks})), {rule.value}) ELSE {plain} END"
    return replace(rule, value=value)


def position(name: str, raw: str, type_: str, *, first: int, unless: str = "") -> CastRule:
    """A whole number from 1, where the shop counts from `first`; `unless` is SQL true for rows that need no value."""
    column, raw_column = identifier(name), _raw_column(name)
    exact = f"TRY_CAST({raw_column} AS DOUBLE)"
    whole = f"TRY_CAST(CASE WHEN {exact} = floor({exact}) THEN {exact} END AS INTEGER)"
    value = raw_column if type_ in ("TINYINT", "SMALLINT", "INTEGER") else whole
    checks = (
        (_is_missing(name, type_, unless), f"{name} is missing"),
        (f"{_has_value(name, type_)} AND {column} IS NULL", f"{name} is not a whole number"),
        (f"{column} < 1", f"{name} is below {first}"),
    )
    return CastRule(name, raw, f"CAST({value} AS INTEGER)" + (f" + {1 - first}" if first != 1 else ""), checks)


def time(name: str, raw: str, type_: str, form: TimeForm) -> CastRule:
    """A time in UTC: a timestamp, a number, or a text of a form that is known or of `form` (`mmse.sources.times`)."""
    column, raw_column = identifier(name), _raw_column(name)
    if type_ == "TIMESTAMP":
        value = raw_column
    elif type_.startswith("TIMESTAMP") or type_ == "DATE":
        value = f"TRY_CAST({raw_column} AS TIMESTAMP)"
    elif type_ in INTEGERS or type_ in ("DOUBLE", "FLOAT") or type_.startswith("DECIMAL"):
        value = from_number(f"CAST({raw_column} AS DOUBLE)")
    else:
        value = from_text(raw_column, form)
    checks = (
        (f"NOT ({_has_value(name, type_)})", f"{name} is missing"),
        (f"{column} IS NULL OR NOT isfinite({column})", f"{name} is not a time"),
        (f"{column} < TIMESTAMP '{EARLIEST}'", f"{name} is before {EARLIEST:.4}"),
        (f"{column} > CAST(now() AS TIMESTAMP) + INTERVAL {CLOCK_SKEW_DAYS} DAY", f"{name} is in the future"),
    )
    return CastRule(name, raw, value, checks)


def reason(rules: list[CastRule], further: tuple[tuple[str, str], ...] = ()) -> str:
    """SQL for the reason of the first check that a row fails, of `rules` and then `further`; NULL for a good row."""
    checks = [check for rule in rules for check in rule.checks]
    cases = " ".join(f"WHEN {bad} THEN {literal(reason_)}" for bad, reason_ in (*checks, *further))
    return f"CASE {cases} END" if cases else "CAST(NULL AS VARCHAR)"


def raw_row(columns: dict[str, str]) -> str:
    """SQL for the shop's row as JSON; `columns` maps the shop's name of each column to SQL for its value."""
    pairs = ", ".join(f"{literal(name)}, {sql}" for name, sql in columns.items())
    return f"CAST(json_object({pairs}) AS VARCHAR)"


def _raw_column(name: str) -> str:
    return identifier("raw_" + name)


def _has_value(name: str, type_: str) -> str:
    """Empty text is a missing value, not a bad one."""
    return f"{_raw_column(name)} IS NOT NULL" + (f" AND trim({_raw_column(name)}) <> ''" if type_ == "VARCHAR" else "")


def _is_missing(name: str, type_: str, unless: str = "") -> str:
    return f"NOT ({_has_value(name, type_)})" + (f" AND NOT coalesce({unless}, false)" if unless else "")


def _blank(column: str) -> str:
    """SQL: no visible character; only text that does not start with a plain ASCII character takes the slow check."""
    return (
        f"CASE WHEN {column} >= '!' AND {column} < '\x7f' THEN false "
        f"ELSE regexp_full_match({column}, '[\\s\\p{{Z}}\\p{{C}}]*') END"
    )
