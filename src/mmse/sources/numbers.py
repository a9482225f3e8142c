"""Numbers as shops write them: `27,99 €`, `1.027,50`, `USD 27.99`, `1 299,-`; the whole column tells the decimal mark.

A number such as `1.800` or `1,800` may be 1.8 or 1800. It is read by the decimal mark that is declared, or that all the
other numbers of its column have. Where they have none, a point is the decimal mark, and a comma may be either; where
they have both, so may a point. Such a number is no value, and its reason says so.
"""

from __future__ import annotations

from mmse.sources.duckdb_session import Session
from mmse.sources.sql import literal

MARKS = (".", ",")
AMBIGUOUS = "?"
_CURRENCY = r"(?:[A-Z]{0,3}\p{Sc}|[A-Z]{3}|[Kk]r\.?|zł|Kč|Ft|lei|Rs\.?|руб\.?|р\.)"
_DIGITS = "[-+]?[0-9](?:[0-9.,'’\\s\u00a0\u202f]*[0-9])?"
_GROUP_MARKS = "['’\\s\u00a0\u202f]"
_SPACE = "[\\s\u00a0\u202f]*"
_NUMBER = f"^{_SPACE}{_CURRENCY}?{_SPACE}({_DIGITS})(?:[.,][-–—]+)?{_SPACE}{_CURRENCY}?{_SPACE}$"
_GROUPED = r"\d{1,3}(?:G\d{3})+M\d+|\d{1,3}(?:G\d{3}){2,}|\d{1,2}(?:G\d{2})+G\d{3}(?:M\d+)?"
_MARKED = rf"[-+]?(?:{_GROUPED}|\d+M\d{{1,2}}|\d+M\d{{4,}}|0+M\d+|\d{{4,}}M\d{{3}})"


def find_marks(session: Session, table: str, raw: str) -> str:
    """The decimal marks of the texts `raw` (SQL) of `table` that tell theirs: none, one, or both."""
    rows = session.run(
        f"SELECT DISTINCT {_own_mark('token')} FROM (SELECT DISTINCT {_token(raw)} AS token FROM {table})"
    )
    return "".join(sorted(mark for (mark,) in rows if mark in MARKS))


def number_of(raw: str, marks: str) -> str:
    """SQL for the finite number in the text `raw` (SQL), NULL for none; `marks` of its column read what may be two."""
    token, plain = _token(raw), f"TRY_CAST({raw} AS DOUBLE)"
    by_mark = {
        m: f"TRY_CAST(replace(replace({token}, '{group}', ''), ',', '.') AS DOUBLE)" for m, group in (".,", ",.")
    }
    cases = " ".join(f"WHEN '{m}' THEN {sql}" for m, sql in by_mark.items())
    with_comma = by_mark.get(marks, "NULL")
    with_point = by_mark.get(marks or ".", "NULL")
    ambiguous = f"CASE WHEN contains({token}, '.') THEN {with_point} ELSE {with_comma} END"
    finite = f"CASE WHEN isfinite({plain}) THEN {plain} END"
    return (
        f"CASE {_own_mark(token)} {cases} WHEN '' THEN TRY_CAST({token} AS DOUBLE) "
        f"WHEN '{AMBIGUOUS}' THEN {ambiguous} ELSE {finite} END"
    )


def is_ambiguous(raw: str) -> str:
    """SQL: the text `raw` (SQL) may be two numbers."""
    return f"{_own_mark(_token(raw))} = '{AMBIGUOUS}'"


def _token(raw: str) -> str:
    """SQL for the digits and marks of a number, without currency, spaces and apostrophes; '' where it is none."""
    return f"regexp_replace(regexp_extract({raw}, {literal(_NUMBER)}, 1), {literal(_GROUP_MARKS)}, '', 'g')"


def _own_mark(token: str) -> str:
    """SQL for the decimal mark that a number itself tells, '' for a number without marks, NULL for no number."""
    marked = {m: literal(_MARKED.replace("G", f"\\{group}").replace("M", f"\\{m}")) for m, group in (".,", ",.")}
    cases = " ".join(f"WHEN regexp_full_match({token}, {pattern}) THEN '{m}'" for m, pattern in marked.items())
    return (
        f"CASE WHEN regexp_full_match({token}, '[-+]?\\d+') THEN '' {cases} "
        f"WHEN regexp_full_match({token}, '[-+]?\\d{{1,3}}[.,]\\d{{3}}') THEN '{AMBIGUOUS}' END"
    )
