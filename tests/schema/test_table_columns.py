"""The contract of the two tables, held against docs/tables.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mmse.schema.columns import EVENT_COLUMNS, ITEM_COLUMNS, MADE_BY_MINING, Reader, TableColumns

DOCS = (Path(__file__).parents[2] / "docs" / "tables.md").read_text("utf-8")


def documented_columns(section: str) -> dict[str, tuple[str, str]]:
    """The type and the description of each column in the first table below the heading `section`."""
    text = DOCS.split(f"\n## `{section}`\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    assert len(rows) == text.count("\n|") - 2, "each row documents one column"
    assert len({name for name, _, _ in rows}) == len(rows)
    return {name: (type_, description) for name, type_, description in rows}


@pytest.mark.parametrize(("section", "columns"), [("items", ITEM_COLUMNS), ("events", EVENT_COLUMNS)])
def test_the_docs_name_every_column_with_its_type_and_no_other(section: str, columns: TableColumns) -> None:
    documented = documented_columns(section)
    assert list(documented) == [column.name for column in columns]
    for column in columns:
        type_, description = documented[column.name]
        assert type_ == column.type.value, column.name
        assert description.startswith("required: " if column.is_required else "if you have it"), column.name


@pytest.mark.parametrize("columns", [ITEM_COLUMNS, EVENT_COLUMNS])
def test_required_columns_come_first_and_mining_reads_them(columns: TableColumns) -> None:
    assert columns.names[: len(columns.required_names)] == columns.required_names
    assert sorted(columns.names) == sorted(column.name for column in columns)
    assert set(columns.required_names) <= {column.name for column in columns.read_by(Reader.MINING)}
    assert not set(MADE_BY_MINING) & set(columns.names)


def test_only_columns_of_the_contract_are_found() -> None:
    assert ITEM_COLUMNS["title"].is_required
    assert ITEM_COLUMNS.get("colour") is None
    assert "colour" not in ITEM_COLUMNS
