"""Events whose shoppers and visits are hashed as they are read (`mmse.schema.user_ids`), before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mmse.schema.user_ids import SALT_VARIABLE, UserSalt, hash_sql
from mmse.sources.duckdb_session import Session
from mmse.sources.mapping import ShopColumn
from mmse.sources.tables import Table, literal
from mmse.sources.values import as_text

_NAMES = ("user_id", "session_id")


def hash_ids(session: Session, tables: Sequence[Table], salt: UserSalt | None) -> tuple[Table, ...]:
    """`tables` of events with hashes in place of the ids; as they are where there is no salt.

    A row that is rejected is kept with its hashes, column by column, even where the source has it as one object.
    """
    if salt is None:
        return tuple(tables)
    session.run(f"SET VARIABLE {SALT_VARIABLE} = {literal(salt.text)}")
    return tuple(map(_hash_table, tables))


def _hash_table(table: Table) -> Table:
    columns = {name: table.shop_columns[name] for name in _NAMES if name in table.shop_columns}
    texts = "".join(f", {as_text(column.sql, column.type)} AS text_of_{name}" for name, column in columns.items())
    hashes = "".join(f", {hash_sql(f'text_of_{name}')} AS hash_of_{name}" for name in columns)
    scan = f"(SELECT *{hashes} FROM (SELECT *{texts} FROM {table.scan}))"
    hashed = {name: ShopColumn(column.label, f"hash_of_{name}", "VARCHAR") for name, column in columns.items()}
    return replace(table, scan=scan, shop_columns={**table.shop_columns, **hashed}, document="")
