"""Which value of a shop's row is which column of ours: a column, a path into it, a comparison, or a constant.

In `shop.toml`, `query = "request.text"` is a column of that name, or else the member `text` of the column `request`;
`clicked = {column = "action", is = ["click", "buy"]}` and `ordered = {column = "quantity", above = 0}` compare, and
`clicked = true` holds for every row of the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import duckdb

from mmse.core.config import require
from mmse.sources.extended_json import plain_value
from mmse.sources.relation import Relation
from mmse.sources.sql import identifier, json_path, literal, literals

Scalar = str | int | float | bool
ComparisonValue = dict[str, Scalar | list[Scalar]]
MappedValue = str | int | bool | ComparisonValue
"""What shop.toml says of a column."""
_KEYS = ("column", "is", "above")
_MEMBERS = "members_of_document"
_CURE = 'a column, a path, true, false, a whole number, or {column = "…", is = "…"} or {column = "…", above = 0}'


@dataclass(frozen=True)
class ShopColumn:
    """SQL for a shop's value, its DuckDB type, and how messages and rejected rows name it.

    `path` is where the value is in the row's JSON object, if the row is one.
    """

    label: str
    sql: str
    type: str
    path: str = ""

    @property
    def is_member(self) -> bool:
        """Whether it is the text of a member of the row's JSON object, and nothing made of it."""
        return bool(self.path) and self.type == "VARCHAR"


@dataclass(frozen=True)
class ValueCondition:
    """True for the rows whose value at `path` is one of `values`, or is above `above`."""

    path: str
    values: tuple[str, ...] = ()
    above: float | None = None


def check_value(name: str, value: MappedValue, *, is_flag: bool) -> None:
    """For `__post_init__`: raises `ValueError` where `value` says nothing that could be the column `name`."""
    key = f"columns.{name}"
    if isinstance(value, bool):
        require(is_flag, key, value, "a column: only true or false is a constant of that kind")
    if not isinstance(value, dict):
        return
    require(is_flag, key, value, "a column or a path: only columns of true and false compare")
    check_comparison(key, value)


def check_comparison(key: str, value: ComparisonValue) -> None:
    """For `__post_init__`: raises `ValueError` where `value` is not a comparison."""
    well_formed = "column" in value and len(value) == 2 and set(value) <= {*_KEYS} and isinstance(value["column"], str)
    require(well_formed, key, value, _CURE)
    above = value.get("above", 0)
    require(isinstance(above, int | float) and not isinstance(above, bool), key, value, "a number in above")


def find_value(connection: duckdb.DuckDBPyConnection, relation: Relation, value: MappedValue) -> ShopColumn | None:
    """The shop's column that `value` names, `None` where the files do not have it."""
    if isinstance(value, bool):
        return ShopColumn(str(value).lower(), str(value).lower(), "BOOLEAN")
    if isinstance(value, int):
        return ShopColumn(str(value), str(value), "INTEGER")
    if isinstance(value, str):
        return find_column(connection, relation, value)
    comparison = parse_comparison(value)
    column = find_column(connection, relation, comparison.path)
    return column and ShopColumn(_label(comparison, column), _comparison_sql(comparison, column), "BOOLEAN")


def path_of(value: MappedValue) -> str | None:
    """The column or path that `value` reads, `None` for a constant."""
    if isinstance(value, dict):
        return str(value["column"])
    return value if isinstance(value, str) else None


def parse_comparison(value: ComparisonValue) -> ValueCondition:
    """What `{column = "…", is = "…"}` says, once `check_comparison` has let it pass."""
    accepted, above = value.get("is", []), value.get("above")
    values = accepted if isinstance(accepted, list) else [accepted]
    texts = tuple(str(v).lower() if isinstance(v, bool) else str(v) for v in values)
    return ValueCondition(str(value["column"]), texts, None if above is None else float(str(above)))


def find_column(connection: duckdb.DuckDBPyConnection, relation: Relation, path: str) -> ShopColumn | None:
    """The column `path`; where there is none of that name, the member of a column, of its struct, map or JSON text."""
    path = _spell(relation, path)
    parts = path.split(".")
    head = next((".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in relation.types), None)
    if head is None:
        return None
    rest = parts[head.count(".") + 1 :]
    if relation.document:
        return _find_member(connection, relation, path, [head, *rest])
    column = ShopColumn(path, identifier(head), relation.types[head])
    for number, key in enumerate(rest):
        if not column.type.startswith(("STRUCT", "MAP")):
            return _find_in_text(connection, relation, column, rest[number:])
        sql = f"{column.sql}[{literal(key)}]"
        if column.type.startswith("STRUCT"):
            sql = f"struct_extract({column.sql}, {literal(key)})"
        try:
            type_ = _type_of(connection, relation, sql)
        except duckdb.BinderException:
            return None
        column = ShopColumn(path, sql, type_)
    return column


def find_rare_member(connection: duckdb.DuckDBPyConnection, relation: Relation, path: str) -> ShopColumn | None:
    """The member `path` of any row's JSON object, for columns that no row has which was looked at."""
    for keys in ([path], path.split(".")):
        column = member(relation, path, keys)
        if occurs(connection, relation, f"json_exists({identifier(relation.document)}, {literal(column.path)})"):
            return column
    return None


def member(relation: Relation, label: str, keys: list[str]) -> ShopColumn:
    """The text at `keys`, from outside in, of a row's JSON object."""
    path = json_path(*keys)
    text = f"({identifier(relation.document)} ->> {literal(path)})"
    return ShopColumn(label, plain_value(text), "VARCHAR", path)


def extract_once(scan: str, document: str, columns: Mapping[str, ShopColumn]) -> tuple[str, dict[str, ShopColumn]]:
    """SQL for the rows of `scan`, and the `columns`, with one extraction for all members of a row's JSON object.

    Each column by itself would read the object again.
    """
    members = {name: column for name, column in columns.items() if column.is_member}
    if len(members) < 2:
        return scan, dict(columns)
    paths = literals(column.path for column in members.values())
    scan = f"(SELECT *, json_extract_string({identifier(document)}, [{paths}]) AS {_MEMBERS} FROM {scan})"
    by_index = {
        name: replace(column, sql=plain_value(f"{_MEMBERS}[{i}]"))
        for i, (name, column) in enumerate(members.items(), 1)
    }
    return scan, {**columns, **by_index}


def _spell(relation: Relation, path: str) -> str:
    """The column that differs from `path` by case and blanks alone, if there is one and none is `path`."""
    if path in relation.types:
        return path
    alike = [name for name in relation.types if name.strip().lower() == path.strip().lower()]
    return alike[0] if len(alike) == 1 else path


def _find_member(
    connection: duckdb.DuckDBPyConnection, relation: Relation, label: str, keys: list[str]
) -> ShopColumn | None:
    column = member(relation, label, keys)
    is_there = f"json_exists({identifier(relation.document)}, {literal(column.path)})"
    return column if len(keys) == 1 or occurs(connection, relation, is_there) else None


def _find_in_text(
    connection: duckdb.DuckDBPyConnection, relation: Relation, column: ShopColumn, keys: list[str]
) -> ShopColumn | None:
    """A member of the JSON in a column of text; text that is no JSON has none."""
    if column.type not in ("VARCHAR", "JSON"):
        return None
    path, text = literal(json_path(*keys)), column.sql
    if not occurs(connection, relation, f"CASE WHEN json_valid({text}) THEN json_exists({text}, {path}) END"):
        return None
    return ShopColumn(column.label, f"CASE WHEN json_valid({text}) THEN ({text} ->> {path}) END", "VARCHAR")


def occurs(connection: duckdb.DuckDBPyConnection, relation: Relation, condition: str) -> bool:
    """Whether any row meets `condition`; the first that does ends the search."""
    return bool(connection.execute(f"SELECT 1 FROM {relation.scan} WHERE {condition} LIMIT 1").fetchall())


def _type_of(connection: duckdb.DuckDBPyConnection, relation: Relation, sql: str) -> str:
    return str(connection.execute(f"DESCRIBE SELECT {sql} AS value FROM {relation.scan}").fetchall()[0][1])


def _label(comparison: ValueCondition, column: ShopColumn) -> str:
    if comparison.above is not None:
        return f"{column.label} above {comparison.above:g}"
    return f"{column.label} is {' or '.join(comparison.values)}"


def _comparison_sql(comparison: ValueCondition, column: ShopColumn) -> str:
    if comparison.above is not None:
        return f"coalesce(TRY_CAST({column.sql} AS DOUBLE) > {comparison.above!r}, false)"
    return f"coalesce(trim(CAST({column.sql} AS VARCHAR)) IN ({literals(comparison.values)}), false)"
