"""How one value of a shop's table becomes ours, and the reason why it cannot: SQL for both.

A shop's column may hold the right type, a near one (0 and 1 for false and true, seconds since 1970 for a time)
or text. Each rule gives the SQL of the value and the checks on it; nothing here fails on a bad value, because
one bad row in a million is to be kept aside, not to stop the stage.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmse.sources.tables import identifier, literal

INTEGERS = frozenset(
    ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")
)
_TRUE = "('true', 't', 'yes', 'y', '1', '1.0')"
_FALSE = "('false', 'f', 'no', 'n', '0', '0.0')"


@dataclass(frozen=True)
class Rule:
    """One column: `value` is SQL for our value of `raw`; each check is SQL that is true for a bad row, and its reason.

    `value` and the checks see the columns `name` (our value) and `raw_name` (the shop's): each is computed once.
    """

    name: str
    raw: str
    value: str
    checks: tuple[tuple[str, str], ...]


def text(name: str, raw: str, type_: str, *, required: bool, unless: str = "") -> Rule:
    """Text as it stands; where required it may not be missing or blank, `unless` is SQL for the rows that need none."""
    ours, theirs = identifier(name), _raw(name)
    value = theirs if type_ == "VARCHAR" else f"CAST({theirs} AS VARCHAR)"
    if not required:
        return Rule(name, raw, f"nullif({value}, '')", ())
    empty = f"({ours} IS NULL OR {_blank(ours)})" + (f" AND NOT ({unless})" if unless else "")
    return Rule(name, raw, value, ((empty, f"{name} is empty"),))


def number(name: str, raw: str, type_: str) -> Rule:
    """A finite number, or none; a time as seconds since 1970."""
    ours, theirs = identifier(name), _raw(name)
    if type_ in INTEGERS or type_ == "BOOLEAN" or type_.startswith("DECIMAL"):
        return Rule(name, raw, f"CAST({theirs} AS DOUBLE)", ())
    if type_.startswith("TIMESTAMP") or type_ == "DATE":
        theirs = f"epoch({theirs})"
    bad = f"{_given(name, type_)} AND ({ours} IS NULL OR NOT isfinite({ours}))"
    return Rule(name, raw, f"TRY_CAST({theirs} AS DOUBLE)", ((bad, f"{name} is not a number"),))


def flag(name: str, raw: str, type_: str, *, required: bool, unless: str = "") -> Rule:
    """True or false; 0 and 1 and the words for them are taken, anything else is bad, and so is none if required.

    `unless` is SQL for the rows that need none.
    """
    ours, theirs = identifier(name), _raw(name)
    missing = ((_missing(name, type_, unless), f"{name} is missing"),) if required else ()
    if type_ == "BOOLEAN":
        return Rule(name, raw, theirs, missing)
    word = f"lower(trim(CAST({theirs} AS VARCHAR)))"
    value = f"CASE WHEN {word} IN {_TRUE} THEN true WHEN {word} IN {_FALSE} THEN false END"
    bad = (f"{_given(name, type_)} AND {ours} IS NULL", f"{name} is not true or false")
    return Rule(name, raw, value, (*missing, bad))


def position(name: str, raw: str, type_: str, *, unless: str = "") -> Rule:
    """A whole number from 1; `unless` is SQL for the rows that need none."""
    ours, theirs = identifier(name), _raw(name)
    exact = f"TRY_CAST({theirs} AS DOUBLE)"
    whole = f"TRY_CAST(CASE WHEN {exact} = floor({exact}) THEN {exact} END AS INTEGER)"
    value = theirs if type_ in ("TINYINT", "SMALLINT", "INTEGER") else whole
    checks = (
        (_missing(name, type_, unless), f"{name} is missing"),
        (f"{_given(name, type_)} AND {ours} IS NULL", f"{name} is not a whole number"),
        (f"{ours} < 1", f"{name} is below 1"),
    )
    return Rule(name, raw, f"CAST({value} AS INTEGER)", checks)


def time(name: str, raw: str, type_: str) -> Rule:
    """A point in time in UTC: a timestamp, ISO 8601 text (no zone means UTC), or seconds, ms, µs, ns since 1970."""
    ours, theirs = identifier(name), _raw(name)
    if type_ == "TIMESTAMP":
        value = theirs
    elif type_.startswith("TIMESTAMP") or type_ == "DATE":
        value = f"TRY_CAST({theirs} AS TIMESTAMP)"
    elif type_ in INTEGERS or type_ in ("DOUBLE", "FLOAT") or type_.startswith("DECIMAL"):
        value = _since_1970(f"CAST({theirs} AS DOUBLE)")
    else:
        epoch = f"TRY_CAST({theirs} AS DOUBLE)"
        iso = f"CAST(TRY_CAST({theirs} AS TIMESTAMPTZ) AS TIMESTAMP)"
        value = f"CASE WHEN {epoch} IS NULL THEN {iso} ELSE {_since_1970(epoch)} END"
    checks = (
        (f"NOT ({_given(name, type_)})", f"{name} is missing"),
        (f"{ours} IS NULL OR NOT isfinite({ours})", f"{name} is not a time"),
    )
    return Rule(name, raw, value, checks)


def reason(rules: list[Rule], further: tuple[tuple[str, str], ...] = ()) -> str:
    """SQL for the first reason that holds, NULL for a good row."""
    checks = [check for rule in rules for check in rule.checks]
    cases = " ".join(f"WHEN {bad} THEN {literal(said)}" for bad, said in (*checks, *further))
    return f"CASE {cases} END" if cases else "CAST(NULL AS VARCHAR)"


def raw_row(columns: dict[str, str]) -> str:
    """SQL for the shop's row as JSON, from shop's column name to SQL."""
    pairs = ", ".join(f"{literal(name)}, {sql}" for name, sql in columns.items())
    return f"CAST(json_object({pairs}) AS VARCHAR)"


def _since_1970(number_: str) -> str:
    """Seconds, ms, µs or ns by size: 1e11 s is the year 5138 and 1e11 ms is 1973."""
    scale = (
        f"CASE WHEN abs({number_}) < 1e11 THEN 1e6 WHEN abs({number_}) < 1e14 THEN 1e3 "
        f"WHEN abs({number_}) < 1e17 THEN 1 ELSE 1e-3 END"
    )
    return f"make_timestamp(TRY_CAST(CASE WHEN isfinite({number_}) THEN {number_} * {scale} END AS BIGINT))"


def _raw(name: str) -> str:
    return identifier("raw_" + name)


def _given(name: str, type_: str) -> str:
    """Empty text is a missing value, not a bad one."""
    return f"{_raw(name)} IS NOT NULL" + (f" AND trim({_raw(name)}) <> ''" if type_ == "VARCHAR" else "")


def _missing(name: str, type_: str, unless: str = "") -> str:
    return f"NOT ({_given(name, type_)})" + (f" AND NOT coalesce({unless}, false)" if unless else "")


def _blank(column: str) -> str:
    """No visible character; the expensive look is kept for text that does not start with plain ASCII."""
    return (
        f"CASE WHEN {column} >= '!' AND {column} < '\x7f' THEN false "
        f"ELSE regexp_full_match({column}, '[\\s\\p{{Z}}\\p{{C}}]*') END"
    )
